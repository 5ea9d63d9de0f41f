"""What the engine has to know about a task, and nothing more: one class for each task."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from torch import nn

from crosshead.runs.folder import RunFolder
from crosshead.tasks.loading import EpochLoaders
from crosshead.tasks.meta import Facts
from crosshead.tasks.module import Task, Updates
from crosshead.tasks.recipe import Recipe

R = TypeVar("R", bound=Recipe)
F = TypeVar("F", bound=Facts)

_HOME = {
    "classify": ("crosshead.tasks.classify.task", "Classification"),
    "segment": ("crosshead.tasks.segment.task", "Segmentation"),
    "detect": ("crosshead.tasks.detect.task", "Detection"),
    "change": ("crosshead.tasks.change.task", "ChangeDetection"),
}


@dataclass(frozen=True, kw_only=True)
class Evaluation(ABC):
    """The figures of one evaluation, written to evaluation.json; shares are between 0 and 1.

    Attributes:
        images: Number of test images.
        weights: Which weights: `last` or `best`.
        counted: What `images` counts.
    """

    counted: ClassVar[str] = "images"

    images: int
    weights: str

    @abstractmethod
    def measures(self) -> list[tuple[str, str]]:
        """The figures in words: what, and how much."""

    @abstractmethod
    def by_class(self) -> tuple[str, dict[str, float | None]]:
        """A share for each class, after its name; None where there is nothing to measure."""


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What a net makes of one input.

    Attributes:
        name: What to call it; the stem of the files.
        summary: The same in a line.
        content: The same as JSON.
        files: What to write beside the JSON, by the end of the name, such as `.png`.
    """

    name: str
    summary: str
    content: dict[str, Any]
    files: dict[str, bytes] = field(default_factory=dict)


class Job(ABC, Generic[R, F]):
    """A task as the engine sees it; without state of its own.

    Attributes:
        options: The flags of `crosshead predict` that the task takes.
        single_images: Whether the test set is measured image by image.
    """

    options: ClassVar[frozenset[str]] = frozenset()
    single_images: ClassVar[bool] = False

    @abstractmethod
    def load(self, recipe: R) -> Any:
        """The data that a recipe names.

        Raises:
            RunError: If the source needs a folder and none is given, or cannot be downloaded.
            DataError: If the folder does not hold what it should.
        """

    @abstractmethod
    def check_data(self, recipe: R) -> Iterator[str]:
        """Everything that is wrong with the data, a line each."""

    @abstractmethod
    def facts(self, recipe: R, splits: Any) -> F:
        """What the net has to know about the data."""

    @abstractmethod
    def build(self, recipe: R, facts: F) -> nn.Module:
        """The net, freshly initialised unless the recipe asks for timm's weights.

        Raises:
            RunError: If timm does not know the model, or the model refuses the arguments.
        """

    @abstractmethod
    def task(self, recipe: R, facts: F, model: nn.Module, updates: Updates) -> Task:
        """The net with its loss and its metrics."""

    @abstractmethod
    def loaders(self, recipe: R, facts: F, splits: Any) -> EpochLoaders:
        """Training and test batches."""

    @abstractmethod
    def config(self, recipe: R, facts: F, model: nn.Module) -> dict[str, Any]:
        """What model/config.json says about the net."""

    @abstractmethod
    def evaluation(self, task: Any, facts: F, *, images: int, weights: str) -> Evaluation:
        """The figures of a task that has been tested."""

    @abstractmethod
    def draw(
        self, run: RunFolder, recipe: R, facts: F, splits: Any, task: Any, figures: Any
    ) -> list[tuple[str, Path]]:
        """Draws the pictures of an evaluation; returns what each shows, and where it lies."""

    @abstractmethod
    def predict(
        self, recipe: R, facts: F, model: nn.Module, paths: tuple[Path, ...], **options: Any
    ) -> Prediction:
        """What the net makes of one input.

        Raises:
            DataError: If a file cannot be read or does not fit the net.
            ValueError: If an option is out of its range.
        """

    def inputs(self, paths: tuple[Path, ...]) -> list[tuple[Path, ...]]:
        """The files of each input: of one image one file."""
        return [(path,) for path in paths]


def job_of(recipe: Recipe) -> Job[Any, Any]:
    """The job of a recipe's task."""
    module, name = _HOME[recipe.task]
    return getattr(import_module(module), name)()
