"""What a training says while it runs."""

import math
import time
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback
from rich.progress import BarColumn, Progress, TextColumn

from crosshead.cli.console import Terminal
from crosshead.runs.folder import RunFolder
from crosshead.runs.model import count_parameters
from crosshead.runs.rows import read_metrics, title_of
from crosshead.tasks.module import TaskModule
from crosshead.tasks.recipe import Recipe

SECONDS_BETWEEN_UPDATES = 0.5


class ShowProgress(Callback):
    """One bar over the whole training on a terminal, one line for each epoch everywhere.

    Args:
        run: the run.
        recipe: its recipe.
    """

    def __init__(self, run: RunFolder, recipe: Recipe) -> None:
        self.run, self.recipe = run, recipe
        self.console = Terminal(soft_wrap=True)
        self.bar: Progress | None = None
        self.started = self.shown = 0.0
        self.first_step = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Says what is being trained."""
        if not trainer.is_global_zero:
            return
        # The training loader reads the part of its process, a subset of all images; the one for validation
        # is made when that is due.
        train: Any = trainer.train_dataloader
        loaders: Any = trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]
        assert isinstance(pl_module, TaskModule)
        counts = [(len(train.dataset.dataset), "training", pl_module.items)]
        if loaders.val is not None:
            counts.append((len(loaders.val), "validation", pl_module.val_items))
        device = pl_module.device.type + (f" x {trainer.world_size}" if trainer.world_size > 1 else "")
        self.console.print(
            f"{self.recipe.model}, {count_parameters(pl_module):,} parameters; "
            f"{_counted(counts)}; "
            f"{device}, {self.recipe.precision}; "
            f"run folder {self.run.path}"
        )
        if pl_module.plan:
            self.console.print(pl_module.plan)
        if trainer.current_epoch:
            self.console.print(f"continuing after epoch {trainer.current_epoch}")
        self.started = time.perf_counter()
        self.first_step = trainer.current_epoch * int(trainer.num_training_batches)
        if self.console.is_terminal:
            columns = (TextColumn("{task.description}"), BarColumn(None), TextColumn("{task.fields[status]}"))
            self.bar = Progress(*columns, console=self.console, expand=True, transient=True)
            self.bar.add_task("", total=self._steps(trainer), completed=self.first_step, status="")
            self.bar.start()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Moves the bar, not more often than can be read."""
        now = time.perf_counter()
        if self.bar is None or now - self.shown < SECONDS_BETWEEN_UPDATES:
            return
        self.shown = now
        done = trainer.current_epoch * int(trainer.num_training_batches) + batch_idx + 1
        speed = (done - self.first_step) * self.recipe.batch_size * trainer.world_size / (now - self.started)
        self.bar.update(
            self.bar.task_ids[0],
            completed=done,
            description=f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}",
            status=f"loss {float(outputs['loss']):.3f}  "
            + "".join(f"{name} {float(outputs[name]):.1%}  " for name in outputs if name != "loss")
            + f"{speed:,.0f} images/s  {self._left(trainer, done)} left",
        )

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Prints the line of the epoch."""
        if not trainer.is_global_zero:
            return
        row = read_metrics(self.run)[-1]
        done = (trainer.current_epoch + 1) * int(trainer.num_training_batches)
        width = len(str(trainer.max_epochs))
        self.console.print(
            f"epoch {int(row['epoch']):{width}}/{trainer.max_epochs}"
            f"{_metrics(row, 'train_')}{_metrics(row, 'val_')}"
            f"  {float(row['images_per_second']):,.0f} images/s  {self._left(trainer, done)} left"
        )

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Takes the bar away."""
        self._close()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Takes the bar away."""
        self._close()

    def _close(self) -> None:
        if self.bar is not None:
            self.bar.stop()
            self.bar = None

    def _steps(self, trainer: pl.Trainer) -> int:
        return int(trainer.max_epochs or 1) * int(trainer.num_training_batches)

    def _left(self, trainer: pl.Trainer, done: int) -> str:
        elapsed = time.perf_counter() - self.started
        seconds = elapsed / max(done - self.first_step, 1) * (self._steps(trainer) - done)
        return clock(seconds)


def _counted(counts: list[tuple[int, str, str]]) -> str:
    """How many samples of which split; what they are once, where all are the same.

    Example:
        >>> _counted([(1295, "training", "images"), (143, "validation", "images")])
        '1,295 training and 143 validation images'
        >>> _counted([(8, "training", "crops"), (1, "validation", "image pairs")])
        '8 training crops and 1 validation image pairs'
    """
    last = counts[-1][2]
    return " and ".join(
        f"{count:,} {split}" + ("" if items == last and position < len(counts) - 1 else f" {items}")
        for position, (count, split, items) in enumerate(counts)
    )


def _metrics(row: dict[str, str], part: str) -> str:
    found = [name for name in row if name.startswith(part) and row[name]]
    metrics = {title_of(name): float(row[name]) for name in found}
    start = "  training" if part == "train_" else "  validation"
    return (start if found else "") + "".join(
        f" {title} {value:.3f}" if title == "loss" else f" {title} {percent(value):>6}"
        for title, value in metrics.items()
    )


def percent(value: float) -> str:
    """A fraction in per cent, where there was something to measure.

    Example:
        >>> percent(0.5), percent(float("nan"))
        ('50.00%', 'none')
    """
    return "none" if math.isnan(value) else f"{value:.2%}"


def clock(seconds: float) -> str:
    """Hours, minutes and seconds.

    Example:
        >>> clock(3725)
        '1:02:05'
    """
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"
