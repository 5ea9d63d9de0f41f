"""A Lightning Trainer from a recipe: training, and continuing what was interrupted."""

import dataclasses
import difflib
import logging
import os
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path

import lightning.pytorch as pl
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Callback, EMAWeightAveraging
from lightning.pytorch.loggers import Logger, WandbLogger
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from timm.optim import list_optimizers
from torch import nn

from crosshead.measure.stamp import stamp
from crosshead.runs.callbacks import KeepModel, LastIsValidated, Progress, SeedEpochs, StopEarly, WatchLoss
from crosshead.runs.checkpoints import (
    REMEDY,
    AtomicCheckpointIO,
    Checkpoints,
    read_checkpoint,
    require_same_tensors,
)
from crosshead.runs.curves import draw_curves
from crosshead.runs.examples import ShowExamples, WatchNet
from crosshead.runs.folder import RunError, RunFolder
from crosshead.runs.load import StartReport, start_from
from crosshead.runs.lock import claimed, locked
from crosshead.runs.metrics import KeepMetrics
from crosshead.runs.record import RunRecord
from crosshead.runs.rows import has_stopped_early, read_metrics
from crosshead.runs.tensorboard import GroupedTensorBoard, LogRun
from crosshead.tasks.loading import EpochLoaders
from crosshead.tasks.module import TaskModule
from crosshead.tasks.recipe import Recipe
from crosshead.tasks.seeding import seed_everything
from crosshead.tasks.task import Data, DataError, Meta, Task, task_of

logger = logging.getLogger(__name__)

# Of an epoch whose images would not fill a single batch of the recipe.
FEWEST_STEPS = 4


def train(
    name: str,
    recipe: Recipe,
    run: RunFolder,
    *,
    start: Path | None = None,
    callbacks: Sequence[Callback] = (),
    report: Callable[[StartReport], object] = lambda _: None,
) -> nn.Module:
    """Trains into a new run folder.

    Args:
        name: name of the recipe.
        recipe: every choice.
        run: where to; the folder is made once data and model are known to be good, and is taken away again
            where not even the first step succeeds.
        start: another run's folder, model folder or safetensors file to start from.
        callbacks: further Lightning callbacks, such as one that shows progress.
        report: told what became of the weights of `start`.

    Returns:
        The trained model, averaged where the recipe says so.

    Raises:
        ValueError: if the recipe contradicts itself.
        RunError: if the folder is in use, the model or the trainer cannot be made, or the loss is not finite.
        DataError: if the data are not as they should be.
    """
    recipe.check()
    recipe = recipe.resolved()
    if rank_zero_only.rank == 0:
        run.require_free()
    task = task_of(recipe.task)
    data = task.data(recipe)
    recipe = _with_steps(task, recipe, data)
    module = _fresh_module(task, recipe, data.meta)
    if start is not None:
        report(start_from(module.model, start))
    loaders = task.loaders(recipe, data, data.meta)
    trainer = _training(task, recipe, run, data, module, loaders, callbacks)
    record = RunRecord(
        name=name,
        recipe=recipe,
        meta=data.meta,
        start=None if start is None else str(start.resolve()),
        stamp=stamp(),
        epochs_before=module.epochs_before,
    )
    progress, first = Progress(), rank_zero_only.rank == 0
    with claimed(run, begun=lambda: progress.stepped) if first else nullcontext():
        if first:
            record.write(run)
        return _fit(trainer, run, module, loaders, progress, checkpoint=None)


def resume(run: RunFolder, record: RunRecord, *, callbacks: Sequence[Callback] = ()) -> nn.Module:
    """Continues a run from its last finished epoch, to the weights it would have had uninterrupted.

    Args:
        run: the run.
        record: its record, in which the place of the data and the number of workers may have changed.
        callbacks: further Lightning callbacks.

    Returns:
        The trained model.

    Raises:
        RunError: if the data have changed, the checkpoint is damaged or of another architecture, or another
            process trains into the folder.
        DataError: if the data are not as they should be.
    """
    with locked(run) if rank_zero_only.rank == 0 else nullcontext():
        return _resume(run, record, callbacks)


def is_finished(run: RunFolder, record: RunRecord) -> bool:
    """Whether nothing is left to train: all epochs are done, or patience has ended the training.

    Raises:
        RunError: if metrics.csv or the last checkpoint is damaged.
    """
    rows = read_metrics(run)
    if not rows or record.epochs_before is None:
        return False
    done = len(rows) >= record.epochs_before + record.recipe.epochs
    if not (done or has_stopped_early(rows, record.recipe.patience)):
        return False
    # The row of an epoch is written before its checkpoint.
    return read_checkpoint(run.last)["epoch"] + 1 >= len(rows)


def _resume(run: RunFolder, record: RunRecord, callbacks: Sequence[Callback]) -> nn.Module:
    task = task_of(record.recipe.task)
    data = task.data(record.recipe)
    if data.meta != record.meta:
        raise RunError(
            f"the data are not those that {run.path} was trained on (classes, size or statistics differ): "
            "point --data-dir to those"
        )
    if run.last.exists():
        module = _fresh_module(task, dataclasses.replace(record.recipe, pretrained=False), data.meta)
        state = read_checkpoint(run.last)["state_dict"]
        require_same_tensors(state, module.state_dict(), path=run.last, model=record.recipe.model)
        checkpoint = run.last
    else:
        module = _fresh_module(task, record.recipe, data.meta)
        if record.start is not None:
            start_from(module.model, Path(record.start))
        checkpoint = None
    loaders = task.loaders(record.recipe, data, data.meta)
    trainer = _training(task, record.recipe, run, data, module, loaders, callbacks)
    return _fit(trainer, run, module, loaders, Progress(), checkpoint=checkpoint)


def make_module(task: Task, recipe: Recipe, meta: Meta, model: nn.Module) -> TaskModule:
    """A net with its loss, its metrics and the way its weights are updated.

    Raises:
        RunError: if timm does not know the optimiser.
    """
    known = [str(name) for name in list_optimizers()]
    if recipe.optimizer.lower().removeprefix("lookahead_") not in known:
        similar = difflib.get_close_matches(recipe.optimizer, known, n=3) or ["adamw"]
        raise RunError(f"optimizer {recipe.optimizer} is unknown: did you mean {' or '.join(similar)}?")
    return task.module(
        recipe,
        meta,
        model,
        {
            "optimizer": recipe.optimizer,
            "learning_rate": recipe.lr,
            "weight_decay": recipe.weight_decay,
            "warmup_epochs": min(recipe.warmup_epochs, recipe.epochs // 2),
            "min_learning_rate": recipe.min_lr,
            "channels_last": recipe.channels_last,
        },
    )


def make_trainer(recipe: Recipe, **options: object) -> pl.Trainer:
    """Lightning's Trainer on the devices that a recipe names.

    Raises:
        RunError: if this machine has no such devices, or the values do not go together.
    """
    if recipe.threads is not None:
        torch.set_num_threads(recipe.threads)
    if recipe.nodes > 1 and not {"MASTER_ADDR", "SLURM_NTASKS"} & os.environ.keys():
        raise RunError(
            f"nodes must be 1 where nothing has started the others; got {recipe.nodes}: start the command on "
            "each machine by torchrun or SLURM"
        )
    try:
        return pl.Trainer(
            accelerator=recipe.accelerator,
            devices=recipe.devices,
            num_nodes=recipe.nodes,
            strategy=recipe.strategy,
            precision=recipe.precision,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
            **options,  # pyright: ignore[reportArgumentType]
        )
    except (MisconfigurationException, ValueError, RuntimeError, ImportError) as error:
        raise RunError(
            f"accelerator={recipe.accelerator} devices={recipe.devices} nodes={recipe.nodes} "
            f"strategy={recipe.strategy} precision={recipe.precision} cannot be used: "
            + " ".join(str(error).split())
        ) from error


def _fresh_module(task: Task, recipe: Recipe, meta: Meta) -> TaskModule:
    seed_everything(recipe.seed)
    module = make_module(task, recipe, meta, task.build(recipe, meta))
    if recipe.compile:
        module.model.compile()
    return module


def _with_steps(task: Task, recipe: Recipe, data: Data) -> Recipe:
    """The recipe with smaller batches where its own would never be full: a few photographs are data too."""
    loaders, replicas = task.loaders(recipe, data, data.meta), recipe.devices * recipe.nodes
    if loaders.steps_per_epoch(replicas):
        return recipe
    # The type of map-style data sets does not promise a length.
    available = len(loaders.training_items()(0))  # pyright: ignore[reportArgumentType]
    if available == 0:
        raise RunError(f"{recipe.data_dir}: holds no training images: give a folder that does")
    if available < replicas:
        raise RunError(f"{available} training images do not fill {replicas} devices: take fewer --devices")
    smaller = max(1, available // (FEWEST_STEPS * replicas))
    logger.warning("%d training images: batches of %d in place of %d", available, smaller, recipe.batch_size)
    return dataclasses.replace(recipe, batch_size=smaller)


def _training(
    task: Task,
    recipe: Recipe,
    run: RunFolder,
    data: Data,
    module: TaskModule,
    loaders: EpochLoaders,
    callbacks: Sequence[Callback],
) -> pl.Trainer:
    averaging = EMAWeightAveraging(decay=recipe.ema) if recipe.ema else None
    metrics = KeepMetrics(run, batch_size=recipe.batch_size)
    tensorboard = GroupedTensorBoard(run)
    watching = [ShowExamples(), *(each for each in callbacks if isinstance(each, WatchNet))]
    for each in watching:
        each.of_run(tensorboard, run, task=task, recipe=recipe, data=data)
    if recipe.patience is not None:
        _require_score_to_wait_for(recipe, data, module)
    if data.val is None:
        module.columns = tuple(name for name in module.columns if not name.startswith("val_"))
    return make_trainer(
        recipe,
        max_epochs=module.epochs_before + recipe.epochs,
        check_val_every_n_epoch=recipe.val_every,
        limit_val_batches=0 if data.val is None else 1.0,
        accumulate_grad_batches=recipe.accumulate,
        gradient_clip_val=recipe.clip_grad,
        reload_dataloaders_every_n_epochs=1,
        log_every_n_steps=min(20, loaders.steps_per_epoch(recipe.devices * recipe.nodes)),
        default_root_dir=run.path,
        logger=[tensorboard, *_further_loggers(recipe, run)],
        plugins=[AtomicCheckpointIO()],
        callbacks=[
            SeedEpochs(recipe.seed),
            LastIsValidated(),
            WatchLoss(
                remedy="train again with a lower --lr, more --warmup-epochs or --clip-grad 1; "
                f"{run.path} keeps what the epochs before it gave"
            ),
            # Before averaging, which takes the averaged weights out again when validation is done.
            KeepModel(run, task.config(recipe, data.meta, module.model), averaging=averaging),
            *([averaging] if averaging else []),
            metrics,
            LogRun(tensorboard, recipe, metrics),
            *([] if recipe.patience is None else [StopEarly(metrics, patience=recipe.patience)]),
            *watching,
            *(each for each in callbacks if each not in watching),
            Checkpoints(run),
        ],
    )


def _require_score_to_wait_for(recipe: Recipe, data: Data, module: TaskModule) -> None:
    if data.val is None:
        raise RunError(
            f"patience is {recipe.patience} and there is no validation set to watch: give --val more than 0, "
            "or leave --patience out"
        )
    if module.epochs_before:
        raise RunError(
            f"patience is {recipe.patience} and {module.epochs_before} epochs come before the last stage, "
            "which it would leave out: leave --patience out"
        )


def _fit(
    trainer: pl.Trainer,
    run: RunFolder,
    module: TaskModule,
    loaders: EpochLoaders,
    progress: Progress,
    *,
    checkpoint: Path | None,
) -> nn.Module:
    trainer.callbacks.append(progress)  # pyright: ignore[reportAttributeAccessIssue]
    try:
        trainer.fit(module, datamodule=loaders, ckpt_path=checkpoint, weights_only=True)
    except SystemExit:
        # Lightning ends the process when it is stopped; what to say before is the command's affair.
        if trainer.received_sigterm:
            raise SystemExit(143) from None
        raise KeyboardInterrupt from None
    except Exception as error:
        if "DataLoader worker" in str(error) and "killed by signal" in str(error):
            # A signal to the whole group of processes, such as a scheduler's, may reach the loaders first.
            if "Terminated" in str(error):
                raise SystemExit(143) from None
            raise RunError(
                f"a loader process was killed, as by a machine short of memory: go on with `crosshead resume "
                f"{run.path} --workers 0`, or fewer than now"
            ) from None
        # What Lightning makes of a state that does not fit is not documented.
        if checkpoint is None or progress.restored or isinstance(error, RunError | DataError | OSError):
            raise
        reason = " ".join(str(error).split()) or type(error).__name__
        raise RunError(f"{checkpoint} does not fit this training ({reason}): {REMEDY}") from error
    finally:
        if trainer.is_global_zero:
            draw_curves(run, read_metrics(run))
    return module.model


def _further_loggers(recipe: Recipe, run: RunFolder) -> list[Logger]:
    if recipe.logger != "wandb":
        return []
    try:
        return [WandbLogger(name=run.path.name, project="crosshead", save_dir=run.path)]
    except ModuleNotFoundError:
        raise RunError(
            "logger=wandb needs Weights & Biases: pip install wandb, or leave --logger out"
        ) from None
