"""How good a trained net is on its test set, by the metrics of its task."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from lightning.pytorch.callbacks import Callback

from crosshead.runs.engine import make_module, make_trainer
from crosshead.runs.folder import RunError, RunFolder, write_atomically, write_json
from crosshead.runs.load import load_run
from crosshead.tasks.task import Evaluation, task_of


def evaluate(
    run: RunFolder,
    *,
    data_dir: Path | None = None,
    best: bool = False,
    accelerator: str = "auto",
    batch_size: int | None = None,
    workers: int | None = None,
    callbacks: Sequence[Callback] = (),
) -> tuple[Evaluation, list[tuple[str, Path]]]:
    """Measures a run on its test images; writes evaluation.json and pictures into it.

    Args:
        run: the run.
        data_dir: where the data are now, if elsewhere than in training.
        best: take the epoch that did best on the validation set, in place of the last one.
        accelerator: cpu, cuda, mps or auto.
        batch_size: images at a time, by default as in training.
        workers: loader processes, by default as in training.
        callbacks: Lightning callbacks, such as one that shows progress.

    Returns:
        The metrics, and the pictures: what each shows, and where it lies.

    Raises:
        RunError: if the run has no usable weights, the data have other classes, or a batch size is given to
            a task that measures image by image.
        DataError: if the data are not as they should be.
    """
    record, model = load_run(run, best=best)
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
    data, meta = task.data(recipe), record.meta
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
        default_root_dir=run.path,
        callbacks=list(callbacks),
    )
    trainer.test(module, datamodule=loaders, verbose=False)
    # The type of map-style data sets does not promise a length.
    images = len(loaders.test)  # pyright: ignore[reportArgumentType]
    evaluation = task.evaluation(module, meta, images=images, weights="best" if best else "last")
    write_json(run.evaluation, dataclasses.asdict(evaluation))
    pictures = []
    for picture in task.draw(run.path.name, recipe, data, meta, module):
        path = run.path / f"{picture.name}.png"
        write_atomically(path, picture.content)
        pictures.append((picture.name, path))
    return evaluation, pictures


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(names[:5]) + (f", ... ({len(names)} in all)" if len(names) > 5 else "")
