"""What a training says while it runs."""

import time
from collections.abc import Sequence
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback

from crosshead.cli.console import Terminal
from crosshead.cli.forecast import Epoch, Forecast
from crosshead.cli.progress import Bar, in_lines, percent
from crosshead.runs.folder import RunFolder
from crosshead.runs.model import count_parameters
from crosshead.runs.rows import read_metrics, title_of
from crosshead.tasks.module import TaskModule
from crosshead.tasks.recipe import Recipe

SECONDS_BETWEEN_UPDATES = 0.5


class ShowTraining(Callback):
    """A bar over the whole training, validations included, and a line for each epoch.

    Args:
        run: the run.
        recipe: its recipe.
        console: where to.
    """

    def __init__(self, run: RunFolder, recipe: Recipe, console: Terminal | None = None) -> None:
        self.run, self.recipe = run, recipe
        self.console = console or Terminal()
        # Loader processes are forked meanwhile.
        self.bar = Bar(self.console, ticking=False)
        self.forecast = Forecast([], steps=1, val_batches=0)
        self.shown = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Says what is being trained."""
        if not trainer.is_global_zero:
            return
        assert isinstance(pl_module, TaskModule)
        loaders: Any = trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]
        steps = int(trainer.num_training_batches)
        counts = [(_in_an_epoch(trainer, steps * loaders.batch_size), "training", pl_module.items)]
        val_batches = 0
        if loaders.val is not None:
            counts.append((len(loaders.val), "validation", pl_module.val_items))
            val_batches = -(-len(loaders.val) // trainer.world_size // loaders.eval_batch_size)
        device = pl_module.device.type + (f" x {trainer.world_size}" if trainer.world_size > 1 else "")
        self._print(
            f"{self.recipe.model}, {count_parameters(pl_module):,} parameters",
            _counted(counts),
            f"{device}, {self.recipe.precision}",
            f"run folder {self.run.path}",
        )
        if pl_module.plan:
            self._print(*pl_module.plan.split("  "))
        if trainer.current_epoch:
            self._print(f"continuing after epoch {trainer.current_epoch}")
        epochs, every = int(trainer.max_epochs or 1), self.recipe.val_every
        due = [val_batches > 0 and (at % every == 0 or at == epochs) for at in range(1, epochs + 1)]
        kinds = map(pl_module.kind_of_epoch, range(epochs))
        self.forecast = Forecast(
            [Epoch(*each) for each in zip(kinds, due, strict=True)], steps=steps, val_batches=val_batches
        )
        self.bar.__enter__()
        self.bar.show("starting")

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Starts the clock of the epoch."""
        if trainer.is_global_zero:
            self.forecast.begin(trainer.current_epoch, now=time.monotonic())

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Moves the bar, not more often than can be read."""
        if not trainer.is_global_zero:
            return
        now = time.monotonic()
        self.forecast.step(batch_idx + 1, now=now)
        if now - self.shown < SECONDS_BETWEEN_UPDATES:
            return
        images = (batch_idx + 1) * self.recipe.batch_size * trainer.world_size
        facts = [f"loss {float(outputs['loss']):.3f}"]
        facts += [f"{title_of(name)} {percent(float(outputs[name]))}" for name in outputs if name != "loss"]
        facts.append(f"{images / (now - self.forecast.began):,.0f} images/s")
        self._show(trainer, batch_idx + 1, facts=facts)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """The training part of the epoch is over."""
        if trainer.is_global_zero:
            self.forecast.validate(0, now=time.monotonic())
            self._show(trainer, self.forecast.steps, what="validating")

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        *_: Any,
    ) -> None:
        """Moves the bar."""
        if not trainer.is_global_zero:
            return
        self.forecast.validate(batch_idx + 1, now=time.monotonic())
        if time.monotonic() - self.shown >= SECONDS_BETWEEN_UPDATES:
            self._show(trainer, self.forecast.steps + batch_idx + 1, what="validating")

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Prints the line of the epoch."""
        if not trainer.is_global_zero:
            return
        now = time.monotonic()
        self.forecast.end(now=now)
        row = read_metrics(self.run)[-1]
        width = len(str(trainer.max_epochs))
        last = trainer.current_epoch + 1 == trainer.max_epochs or trainer.should_stop
        self._print(
            f"epoch {int(row['epoch']):{width}}/{trainer.max_epochs}",
            *_metrics(row, "train_"),
            *_metrics(row, "val_"),
            f"{float(row['images_per_second']):,.0f} images/s",
            *([] if last else filter(None, [self.forecast.left(now=now)])),
        )
        self.bar.spoken()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Takes the bar away."""
        self.bar.__exit__()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Takes the bar away."""
        self.bar.__exit__()

    def _show(self, trainer: pl.Trainer, batches: int, *, what: str = "", facts: Sequence[str] = ()) -> None:
        now = time.monotonic()
        self.shown = now
        forecast, epoch = self.forecast, trainer.current_epoch
        validations = [each.validated * forecast.val_batches for each in forecast.epochs]
        self.bar.show(
            f"epoch {epoch + 1}/{trainer.max_epochs}" + (f" {what}" if what else ""),
            done=epoch * forecast.steps + sum(validations[:epoch]) + batches,
            total=float(len(forecast.epochs) * forecast.steps + sum(validations)),
            facts=facts,
            left=forecast.left(now=now),
        )

    def _print(self, *parts: str) -> None:
        """In one line, however long; on a terminal in lines that fit."""
        width = self.console.width if self.console.is_terminal else 10**6
        for line in in_lines(parts, width):
            self.console.line(line)


def _in_an_epoch(trainer: pl.Trainer, batched: int) -> int:
    """Samples that epochs take; a remainder that fills no step counts, since it is another one each time."""
    loaders: Any = trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]
    available, taken = len(loaders.training_items()(trainer.current_epoch)), batched * trainer.world_size
    remainder = available - taken
    return available if 0 <= remainder < loaders.batch_size * trainer.world_size else taken


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


def _metrics(row: dict[str, str], part: str) -> list[str]:
    """The metrics of one split, the first with the name of the split."""
    found = {title_of(name): float(row[name]) for name in row if name.startswith(part) and row[name]}
    texts = [
        f"{title} {value:.3f}" if title == "loss" else f"{title} {percent(value):>6}"
        for title, value in found.items()
    ]
    start = "training " if part == "train_" else "validation "
    return [start + texts[0], *texts[1:]] if texts else []
