"""A task, as the engine, the record and the commands see it: the one protocol that each folder here fills in.

The folder `tasks/NAME/` belongs to the task NAME. Its `task.py` holds the class, and an instance as `TASK`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from crosshead.tasks.recipe import Recipe

if TYPE_CHECKING:
    from PIL import Image
    from torch import nn
    from torch.utils.data import Dataset

    from crosshead.tasks.counts import Counts
    from crosshead.tasks.interface import Interface
    from crosshead.tasks.loading import EpochLoaders
    from crosshead.tasks.module import TaskModule, Updates
    from crosshead.tasks.result import Result
    from crosshead.tasks.sources import Input


# Samples that are looked at while a net learns.
EXAMPLES = 4


class DataError(ValueError):
    """A data set that cannot be used; the message is one line that names the file and the remedy.

    An error in a worker process of a loader is raised again in the main process with a whole traceback for a
    message; the line that says what is wrong is its last, and only that one is kept.

    Example:
        >>> raise DataError("photos/cat.jpg: not an image; replace the file")
        Traceback (most recent call last):
            ...
        crosshead.tasks.task.DataError: photos/cat.jpg: not an image; replace the file
    """

    def __init__(self, message: str) -> None:
        if message.startswith("Caught DataError in "):
            message = message.rstrip().splitlines()[-1].partition("DataError: ")[2]
        super().__init__(" ".join(message.splitlines()))


@dataclass(frozen=True, kw_only=True)
class Meta:
    """What a net has to know about the data that it is trained on. A task adds its own.

    Attributes:
        classes: names, in the order of the net's outputs.
        in_chans: channels of an image.
        mean: mean of each channel of the training images, scaled to 0..1.
        std: standard deviation of each channel, likewise.
        bits: how many bits of a channel images use whose files have more than 8, as `read_image` takes it;
            None for as many as the file states.
    """

    classes: tuple[str, ...]
    in_chans: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    bits: int | None = None


R = TypeVar("R", bound=Recipe)
M = TypeVar("M", bound=Meta)


@dataclass(frozen=True, kw_only=True)
class Data(Generic[M]):
    """Three splits. `train` is learned from, `val` decides, and `test` is touched by an evaluation alone.

    Attributes:
        train: map-style samples as they are on disk, before any augmentation.
        val: the same, held out from training; None where a recipe keeps nothing back.
        test: the same, never seen by a training.
        meta: what the net has to know.
    """

    train: Dataset
    val: Dataset | None
    test: Dataset
    meta: M


@dataclass(frozen=True, kw_only=True)
class Evaluation(ABC):
    """The metrics of one evaluation, written to evaluation.json; fractions are between 0 and 1.

    Attributes:
        images: number of test images.
        weights: which weights: `last` or `best`.
        counted: what `images` counts.
        columns: heads of the columns of `metrics`, after the name.
    """

    counted: ClassVar[str] = "images"
    columns: ClassVar[tuple[str, ...]] = ("value",)

    images: int
    weights: str

    @abstractmethod
    def metrics(self) -> Sequence[tuple[str, ...]]:
        """The metrics in words: what, and how much in each column."""

    @abstractmethod
    def by_class(self) -> tuple[str, dict[str, float | None]]:
        """A fraction for each class, after its name; None where there is nothing to measure."""


@dataclass(frozen=True)
class Picture:
    """A picture of an evaluation.

    Attributes:
        name: of the file without its ending; also what the picture shows.
        content: the PNG file.
    """

    name: str
    content: bytes


@dataclass(frozen=True, kw_only=True)
class Example:
    """A sample that is looked at while a net learns.

    Attributes:
        name: of the sample.
        input: what the net is given; pictures bear its name.
        truth: what is labelled, drawn like what is found; None where the input's name tells it, or
            there are no labels.
    """

    name: str
    input: Input
    truth: Image.Image | None = None


class Task(ABC, Generic[R, M]):
    """What the engine asks of a task; without state of its own.

    Attributes:
        recipe: the class of its recipes.
        meta: the class of its metadata.
        options: what `predict` may be told, beside what to look at.
        pairs: whether it looks at two dates at a time, so that an input is a tuple.
        ranks: whether what it predicts is a ranking, told in a table, and written to files where asked alone.
        single_images: whether val and test are measured image by image, whatever the batch size.
        arguments: what `crosshead predict RUN` is given, in capitals.
    """

    recipe: ClassVar[type[Recipe]]
    meta: ClassVar[type[Meta]]
    options: ClassVar[frozenset[str]] = frozenset()
    pairs: ClassVar[bool] = False
    ranks: ClassVar[bool] = False
    single_images: ClassVar[bool] = False
    arguments: ClassVar[str] = "IMAGE"

    @abstractmethod
    def data(self, recipe: R) -> Data[M]:
        """The three splits that a recipe names.

        Raises:
            DataError: if the folder is missing or does not hold what it should.
        """

    @abstractmethod
    def check_data(self, recipe: R) -> Iterator[str | Counts]:
        """Everything that is wrong with the data, a line each; at the end what the splits hold, if that can
        be said.

        Raises:
            DataError: if there is no folder to look into.
        """

    @abstractmethod
    def build(self, recipe: R, meta: M) -> nn.Module:
        """The net, freshly initialised unless the recipe asks for timm's weights.

        Raises:
            ValueError: if timm does not know the model, or the model refuses the arguments.
        """

    @abstractmethod
    def module(self, recipe: R, meta: M, model: nn.Module, updates: Updates) -> TaskModule:
        """The net with its loss and its metrics."""

    @abstractmethod
    def loaders(self, recipe: R, data: Data[M], meta: M) -> EpochLoaders:
        """Batches of the three splits, prepared as `meta` says."""

    @abstractmethod
    def config(self, recipe: R, meta: M, model: nn.Module) -> dict[str, Any]:
        """What model/config.json says about the net."""

    @abstractmethod
    def evaluation(self, module: Any, meta: M, *, images: int, weights: str) -> Evaluation:
        """The metrics of a module that has been tested."""

    @abstractmethod
    def draw(self, title: str, recipe: R, data: Data[M], meta: M, module: Any) -> list[Picture]:
        """The pictures of an evaluation.

        Args:
            title: what stands above them.
            recipe: of the run.
            data: whose test split was measured.
            meta: of the run.
            module: that has been tested.
        """

    def read(self, meta: M, source: Any, *, position: int) -> Input:
        """What the net looks at: by default an image, in the mode that the net was trained on.

        Args:
            meta: of the run.
            source: what a user gives: see `crosshead.tasks.sources.read_input`.
            position: of the source among those that were given, from 0 on.

        Raises:
            DataError: if a file cannot be read or does not fit the net.
            ValueError: if an array or a tensor is no image.
            TypeError: if the source is of a kind that the task does not take.
        """
        # The other way round, what reads a source needs the errors above.
        from crosshead.tasks.sources import read_input

        return read_input(source, in_chans=meta.in_chans, bits=meta.bits, position=position)

    @abstractmethod
    def predict(
        self, recipe: R, meta: M, net: nn.Module, inputs: Sequence[Input], **options: Any
    ) -> list[Result]:
        """What the net makes of some inputs; none depends on the others.

        Args:
            recipe: of the run.
            meta: of the run.
            net: in evaluation mode.
            inputs: one or more, from `read`.
            **options: some of `options`.

        Raises:
            ValueError: if an option is out of its range.
        """

    def examples(self, meta: M, images: Any, *, split: str) -> Iterator[Example]:
        """A few samples of a split, the same each time.

        Args:
            meta: of the run.
            images: the split.
            split: its name.
        """
        from crosshead.tasks.pictures import chosen

        for position in chosen(len(images), most=EXAMPLES):
            found = self.example(meta, images[position], name=f"{split} image {position}")
            if found is not None:
                yield found

    def example(self, meta: M, sample: Any, *, name: str) -> Example | None:
        """A sample of `Data`, to be looked at, if it can be: by default its image, whatever its labels."""
        from PIL import Image

        return self.image_example(meta, sample, name=name) if isinstance(sample[0], Image.Image) else None

    def image_example(self, meta: M, sample: Any, *, name: str) -> Example:
        """The image of a sample, without its labels."""
        from crosshead.tasks.sources import NamedImage

        image = NamedImage(sample[0], name=name, source=name)
        return Example(name=name, input=self.read(meta, image, position=0))

    def preview(
        self, recipe: R, meta: M, module: Any, net: nn.Module, inputs: Sequence[Input]
    ) -> list[Result]:
        """What a net makes of inputs while it learns: what `predict` says.

        Args:
            recipe: of the run.
            meta: of the run.
            module: that learns, and may hold what `predict` would have to load.
            net: in evaluation mode.
            inputs: one or more.
        """
        return self.predict(recipe, meta, net, inputs)

    def interface(self, recipe: R, meta: M, net: nn.Module) -> Interface:
        """How the net is called in an exported file, whatever sizes it takes.

        Args:
            recipe: of the run.
            meta: of the run.
            net: what `to_export` gives.

        Raises:
            ValueError: if such nets cannot be exported.
        """
        raise ValueError(f"nets of the task {recipe.task} have no exported form: use the run itself")

    def to_export(self, net: nn.Module) -> nn.Module:
        """What of a net in evaluation mode an exported file holds: by default all."""
        return net

    def of_file(self, meta: M, interface: Interface, file: nn.Module) -> nn.Module:
        """A net for `predict` over a file that holds what `to_export` gave: by default the file itself.

        Args:
            meta: of the run.
            interface: how the file is called.
            file: read back; its `outputs` gives all that comes out.
        """
        return file

    def to_coco(self, results: Sequence[Any]) -> dict[str, Any]:
        """What was found in several images as one file of COCO's format.

        Raises:
            ValueError: if the task finds no objects.
        """
        raise ValueError("COCO's format holds objects, and only a detector finds them: leave --coco out")


def task_of(name: str) -> Task[Any, Any]:
    """A task by name.

    Raises:
        ValueError: if there is none of that name.

    Example:
        >>> task_of("paint")
        Traceback (most recent call last):
            ...
        ValueError: task must be a folder of crosshead.tasks; got 'paint'
    """
    found = find_spec(f"crosshead.tasks.{name}") if name.isidentifier() else None
    if found is None or found.submodule_search_locations is None:
        raise ValueError(f"task must be a folder of crosshead.tasks; got {name!r}")
    return import_module(f"crosshead.tasks.{name}.task").TASK


def require_folder(recipe: Recipe, *, downloads: bool = False) -> Path:
    """The folder of the data.

    Args:
        recipe: which names it.
        downloads: whether the data can be fetched into it.

    Raises:
        DataError: if there is none, or a download is asked for that nobody offers.
    """
    name = recipe.task if recipe.data == "folder" else recipe.data
    if recipe.data_dir is None:
        raise DataError(f"{name} needs the folder of its images: name it with --data-dir")
    if recipe.download and not downloads:
        raise DataError(
            f"{name} cannot be downloaded: leave --download out and name the folder with --data-dir"
        )
    return recipe.data_dir
