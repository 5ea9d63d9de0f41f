"""Writing metrics.csv: whole at every moment, and continued when a run is."""

import csv
import io
import time

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback

from crosshead.runs.checkpoints import was_validated
from crosshead.runs.curves import draw_curves
from crosshead.runs.folder import RunError, RunFolder, write_atomically
from crosshead.runs.rows import AFTER, BEFORE, read_metrics
from crosshead.tasks.module import TaskModule


class KeepMetrics(Callback):
    """Writes metrics.csv after each epoch, and curves.png now and then.

    Epochs that were not validated have no metrics of the validation set. A resumed run keeps the rows of the
    epochs that its checkpoint has seen, and writes the later ones again.

    Args:
        run: the run.
        batch_size: images in each batch of each process.
        seconds_between_pictures: how long a picture is good enough.
    """

    def __init__(self, run: RunFolder, *, batch_size: int, seconds_between_pictures: float = 60.0) -> None:
        self.run = run
        self.batch_size = batch_size
        self.seconds_between_pictures = seconds_between_pictures
        self.rows: list[dict[str, str]] = []
        self.epoch_started = self.trained = self.drawn = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Takes up the rows of the epochs that are done."""
        assert isinstance(pl_module, TaskModule)
        columns = [*BEFORE, *pl_module.columns, *AFTER]
        rows = read_metrics(self.run)
        if rows and list(rows[0]) != columns:
            raise RunError(
                f"{self.run.metrics} must have the columns {', '.join(columns)}: restore it or move it away"
            )
        self.rows = [row for row in rows if int(row["epoch"]) <= trainer.current_epoch]
        self.drawn = time.perf_counter()

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Starts the clock."""
        self.epoch_started = time.perf_counter()

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """The training part of the epoch is over."""
        self.trained = time.perf_counter() - self.epoch_started

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Adds the row of this epoch."""
        assert isinstance(pl_module, TaskModule)
        metrics, validated = trainer.callback_metrics, was_validated(trainer)
        if not validated:
            self.trained = time.perf_counter() - self.epoch_started
        images = trainer.num_training_batches * self.batch_size * trainer.world_size
        row = {
            "epoch": trainer.current_epoch + 1,
            "step": trainer.global_step,
            "learning_rate": f"{trainer.optimizers[0].param_groups[0]['lr']:.6g}",
            **{
                name: f"{float(metrics[name]):.6g}" if validated or not name.startswith("val_") else ""
                for name in pl_module.columns
            },
            "images_per_second": f"{images / self.trained:.1f}",
            "seconds": f"{time.perf_counter() - self.epoch_started:.2f}",
        }
        self.rows.append({name: str(value) for name, value in row.items()})
        if not trainer.is_global_zero:
            return
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\n")
        columns = (*BEFORE, *pl_module.columns, *AFTER)
        writer.writerow(columns)
        writer.writerows([row[name] for name in columns] for row in self.rows)
        write_atomically(self.run.metrics, text.getvalue().encode())
        if time.perf_counter() - self.drawn > self.seconds_between_pictures:
            draw_curves(self.run, self.rows)
            self.drawn = time.perf_counter()
