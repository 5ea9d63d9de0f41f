"""A trained net in use: loaded in one line, it takes images of any kind and gives typed results."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor, nn

from crosshead.runs.exported import is_exported, read_exported
from crosshead.runs.folder import RunError, RunFolder
from crosshead.runs.load import load_run, to_device
from crosshead.tasks.recipe import Recipe
from crosshead.tasks.result import Result
from crosshead.tasks.sources import Input, find_sources
from crosshead.tasks.task import DataError, Meta, Task, task_of
from crosshead.vision.shipped import shipped_models

HUB = "hf-hub:"


class TrainedModel:
    """A trained net with all that it takes to use it. `crosshead.load` makes one.

    Attributes:
        net: the net, in evaluation mode: what `timm.create_model` or torchvision makes, with trained weights.
        recipe: every choice of its training.
        meta: what it knows of its data: classes, channels, normalisation.
        task: what it does: classify, detect, segment, change or linearize.
    """

    def __init__(self, net: nn.Module, *, recipe: Recipe, meta: Meta) -> None:
        self.net, self.recipe, self.meta = net, recipe, meta
        self.task = recipe.task
        self._task: Task[Any, Any] = task_of(recipe.task)

    def __repr__(self) -> str:
        classes = f", {len(self.meta.classes)} classes" if self.meta.classes else ""
        return f"TrainedModel({self.recipe.model}, task={self.task}{classes})"

    @property
    def pairs(self) -> bool:
        """Whether it looks at two dates at a time."""
        return self._task.pairs

    @property
    def ranks(self) -> bool:
        """Whether its results are rankings of classes."""
        return self._task.ranks

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, in the order of the net's outputs."""
        return self.meta.classes

    @property
    def options(self) -> frozenset[str]:
        """What `predict` may be told: `top`, `min_score`, `tile` or `size`, as the task has it."""
        return self._task.options

    def predict(self, source: Any, *, batch_size: int = 16, **options: Any) -> Any:
        """What the net makes of an image, or of many.

        One input gives one result; a list, a folder, a pattern such as `photos/*.jpg` or a stack of images
        (an array or a tensor of four axes) a list of them; a video or a generator an iterator, which takes
        inputs as it goes on.

        Args:
            source: an image file; an image of PIL; an array (height, width) or (height, width, channels) or a
                tensor (channels, height, width), of uint8 or of floats in 0 to 1, not normalised; or many of
                them. For a change detection a tuple: the earlier date, then the later one, each by one or
                more files or images.
            batch_size: images that go through the net together where the task brings all to one size; it
                changes speed and memory, not results.
            **options: of a classifier `top`, how many classes to rank (5); of a detector `min_score`, below
                which objects are left out (0.5); of all that see images of any size `tile`, the side of the
                windows for large ones in pixels, 0 for never; of a linearized ViT `size`, the shorter side
                in pixels.

        Returns:
            A `Result` of the task, or a list or an iterator of them: `plot()`, `to_dict()`, `to_json()`,
            `save(folder)`, and the numbers themselves.

        Raises:
            DataError: if a file cannot be read, a folder holds no image, or a pattern matches none.
            TypeError: if the source is of another kind.
            ValueError: if an array is no image, or an option is out of its range or not one of the task's.

        Example:
            >>> import crosshead  # doctest: +SKIP
            >>> model = crosshead.load("runs/digits-1")  # doctest: +SKIP
            >>> model.predict("digit.png").ranked[0]  # doctest: +SKIP
            ('7', 0.998)
        """
        if self.pairs:
            one = not isinstance(source, list | Iterator)
        else:
            if isinstance(source, str | Path):
                source = find_sources(source)
            if isinstance(source, np.ndarray | Tensor) and source.ndim == 4:
                source = list(source)
            image = isinstance(source, Path | Image.Image | np.ndarray | Tensor)
            one = image or not isinstance(source, Iterable)
        sources: Any = [source] if one else source
        results = self.predict_each(sources, batch_size=batch_size, **options)
        if one:
            return next(results)
        return list(results) if isinstance(source, Sequence) else results

    def predict_each(
        self,
        sources: Iterable[Any],
        *,
        batch_size: int = 16,
        skip: Callable[[DataError], object] | None = None,
        **options: Any,
    ) -> Iterator[Result]:
        """What the net makes of each of many inputs, one result after the other; few are held in memory.

        Args:
            sources: as `predict` takes them one by one.
            batch_size: as there.
            skip: is told of files that cannot be read, which are left out then; by default they raise.
            **options: as there.

        Raises:
            DataError: if a file cannot be read, unless `skip` is given.
            ValueError: if an option is not one of the task's, or a `batch_size` is below 1.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size must be 1 or more; got {batch_size}")
        for name in options.keys() - self.options:
            known = f"it takes {', '.join(sorted(self.options))}"
            raise ValueError(f"{name} has no meaning for {self.task}: leave it out; {known}")
        inputs = self._read(sources, skip)
        return self._results(inputs, batch_size, options)

    def to_coco(self, results: Sequence[Result]) -> dict[str, Any]:
        """What a detector found in several images as one file of COCO's format.

        Raises:
            ValueError: if the net is no detector.
        """
        return self._task.to_coco(results)

    def _read(self, sources: Iterable[Any], skip: Callable[[DataError], object] | None) -> Iterator[Input]:
        for position, source in enumerate(sources):
            try:
                yield self._task.read(self.meta, source, position=position)
            except DataError as error:
                if skip is None:
                    raise
                skip(error)

    def _results(self, inputs: Iterator[Input], batch_size: int, options: dict[str, Any]) -> Iterator[Result]:
        while batch := list(islice(inputs, batch_size)):
            yield from self._task.predict(self.recipe, self.meta, self.net, batch, **options)


def load(source: str | Path, *, best: bool = False, accelerator: str = "auto") -> TrainedModel:
    """A trained net, ready for use.

    Args:
        source: a run folder; a file that `crosshead export` wrote; `ivit_pico.fashion_mnist`, which comes
            with the package; or `hf-hub:USER/NAME`, a repository of the Hugging Face Hub that holds
            `recipe.json` and `model/` of a run.
        best: take the epoch that did best on the validation set in place of the last one.
        accelerator: cpu, cuda, mps, or auto for cuda where there is one.

    Raises:
        RunError: if there is no run, its weights are missing, damaged or of another architecture, the file
            cannot be run, this machine has no such device, or the Hub cannot be reached.

    Example:
        >>> load("runs/none")
        Traceback (most recent call last):
            ...
        crosshead.runs.folder.RunError: runs/none is not a folder: name a run folder, such as runs/digits-1
    """
    fetched = str(source).startswith(HUB)
    path = _fetched(str(source)[len(HUB) :]) if fetched else Path(source)
    path = path if path.exists() else shipped_models().get(str(source), path)
    if is_exported(path):
        if best:
            raise RunError(f"{path} holds one set of weights: leave --best out, or export with it")
        record, file = read_exported(path)
        net = task_of(record.recipe.task).of_file(record.meta, file.interface, file)
        return TrainedModel(net.eval(), recipe=record.recipe, meta=record.meta)
    record, net = load_run(RunFolder(path), best=best)
    return TrainedModel(to_device(net, accelerator), recipe=record.recipe, meta=record.meta)


def _fetched(repository: str) -> Path:
    """The snapshot of a repository of the Hub; nothing but a run's own files is fetched."""
    from huggingface_hub import snapshot_download

    run = RunFolder(Path())
    try:
        patterns = [run.recipe.name, f"{run.model.name}/*", f"{run.best.parent.name}/{run.best.name}"]
        return Path(snapshot_download(repository, allow_patterns=patterns))
    # The Hub's client raises errors of several libraries.
    except Exception as error:
        reason = str(error).partition("\n")[0]
        raise RunError(
            f"{HUB}{repository} cannot be fetched ({reason}): check the name and the network, or name a run "
            "folder"
        ) from error
