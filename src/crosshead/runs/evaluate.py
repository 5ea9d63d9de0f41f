"""How good a trained net is on its test set, by the metrics of its task."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning.pytorch.callbacks import Callback
from torch import nn

from crosshead.runs.engine import make_module, make_trainer
from crosshead.runs.folder import RunError, RunFolder, write_atomically, write_json
from crosshead.runs.load import load_run
from crosshead.runs.record import RunRecord
from crosshead.tasks.module import TaskModule
from crosshead.tasks.recipe import Recipe
from crosshead.tasks.splits import SPLITS
from crosshead.tasks.task import Data, Evaluation, task_of


def evaluate(
    run: RunFolder,
    *,
    split: str = "test",
    data_dir: Path | None = None,
    best: bool = False,
    accelerator: str = "auto",
    batch_size: int | None = None,
    workers: int | None = None,
    callbacks: Sequence[Callback] = (),
) -> tuple[Evaluation, list[tuple[str, Path]]]:
    """Measures a run on its test images, or on others; writes evaluation.json and pictures into it.

    Args:
        run: the run.
        split: test, val or train; or the name of a further one, where the recipe names its test split. What
            is written has the name of any split but test before its own: `val-evaluation.json`.
        data_dir: where the data are now, if elsewhere than in training.
        best: take the epoch that did best on the validation set, in place of the last one.
        accelerator: cpu, cuda, mps or auto.
        batch_size: images at a time, by default as in training.
        workers: loader processes, by default as in training.
        callbacks: Lightning callbacks, such as one that shows progress.

    Returns:
        The metrics, and the pictures: what each shows, and where it lies.

    Raises:
        RunError: if the run has no usable weights, the data have other classes or no such split, or a batch
            size is given to a task that measures image by image.
        DataError: if the data are not as they should be.
    """
    record, model = load_run(run, best=best)
    tested = measure(
        record,
        model,
        weights="best" if best else "last",
        folder=run.path,
        split=split,
        data_dir=data_dir,
        accelerator=accelerator,
        batch_size=batch_size,
        workers=workers,
        callbacks=callbacks,
    )
    before = "" if split == "test" else f"{split}-"
    write_json(run.path / f"{before}{run.evaluation.name}", dataclasses.asdict(tested.evaluation))
    pictures = []
    task, title = task_of(record.recipe.task), f"{run.path.name}, {split}"
    for picture in task.draw(title, tested.recipe, tested.data, record.meta, tested.module):
        path = run.path / f"{before}{picture.name}.png"
        write_atomically(path, picture.content)
        pictures.append((picture.name, path))
    return tested.evaluation, pictures


@dataclass(frozen=True, kw_only=True)
class Tested:
    """A net that has been measured on its test images.

    Attributes:
        evaluation: the metrics.
        recipe: that of the run, with what was chosen for the evaluation.
        data: whose test split was measured.
        module: that did it.
    """

    evaluation: Evaluation
    recipe: Recipe
    data: Data
    module: TaskModule


def measure(
    record: RunRecord,
    model: nn.Module,
    *,
    weights: str,
    folder: Path,
    split: str = "test",
    data_dir: Path | None = None,
    accelerator: str = "auto",
    batch_size: int | None = None,
    workers: int | None = None,
    callbacks: Sequence[Callback] = (),
) -> Tested:
    """Measures a net on the test images of a run, and writes nothing.

    Args:
        record: of the run.
        model: its net, or one that is called alike.
        weights: which weights: `last` or `best`.
        folder: the run's, where Lightning may write.
        split: as for `evaluate`, like what follows.
        data_dir: where the data are now, if elsewhere than in training.
        accelerator: cpu, cuda, mps or auto.
        batch_size: images at a time.
        workers: loader processes.
        callbacks: further Lightning callbacks, such as one that shows progress.

    Raises:
        RunError: if the data have other classes or no such split, or a batch size is given to a task that
            measures image by image.
        DataError: if the data are not as they should be.
    """
    task = task_of(record.recipe.task)
    if batch_size is not None and task.single_images:
        raise RunError(
            f"batch_size={batch_size} has no use: images of any size are measured one by one, leave it out"
        )
    recipe = dataclasses.replace(
        record.recipe,
        data_dir=data_dir or record.recipe.data_dir,
        accelerator=accelerator,
        devices=1,
        nodes=1,
        strategy="auto",
        precision="32-true",  # as `predict` computes: the metrics are those of what it writes
        batch_size=batch_size or record.recipe.batch_size,
        workers=record.recipe.workers if workers is None else workers,
        compile=False,
    )
    data, meta = _measured(task.data(_naming(recipe, split)), split), record.meta
    found = data.meta
    if (found.classes, found.in_chans) != (meta.classes, meta.in_chans):
        raise RunError(
            f"the data have {found.in_chans} channels and the classes {_listed(found.classes)}, the run "
            f"{meta.in_chans} and {_listed(meta.classes)}: point --data-dir to data like those of the run"
        )
    module = make_module(task, recipe, meta, model)
    loaders = task.loaders(recipe, data, meta)
    trainer = make_trainer(
        recipe,
        logger=False,
        enable_checkpointing=False,
        default_root_dir=folder,
        callbacks=list(callbacks),
    )
    trainer.test(module, datamodule=loaders, verbose=False)
    # The type of map-style data sets does not promise a length.
    images = len(loaders.test)  # pyright: ignore[reportArgumentType]
    evaluation = task.evaluation(module, meta, images=images, weights=weights)
    return Tested(evaluation=evaluation, recipe=recipe, data=data, module=module)


def _naming(recipe: Recipe, split: str) -> Recipe:
    """The recipe with a further split for its test split."""
    if split in SPLITS:
        return recipe
    if not hasattr(recipe, "test_split") or Path(split).name != split:
        raise RunError(f"split={split} is not one of {', '.join(SPLITS)}: {recipe.data} data have no others")
    return dataclasses.replace(recipe, test_split=split)


def _measured(data: Data[Any], split: str) -> Data[Any]:
    """The data with what is measured for their test split."""
    if split not in ("train", "val"):
        return data
    images = getattr(data, split)
    if images is None:
        raise RunError("split=val holds nothing: the run was trained without a validation set")
    return dataclasses.replace(data, test=images)


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(names[:5]) + (f", ... ({len(names)} in all)" if len(names) > 5 else "")
