"""What TensorBoard shows of a run: curves in groups, pictures, the recipe, its choices beside their score."""

import dataclasses
import json
from typing import Any

import lightning.pytorch as pl
import numpy as np
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from PIL import Image
from torch.utils.tensorboard.summary import hparams

from crosshead.runs.folder import RunFolder
from crosshead.runs.metrics import KeepMetrics
from crosshead.tasks.recipe import Recipe


def tag_of(name: str) -> str:
    """The tag of a logged figure, of which TensorBoard makes a group for each word before the slash.

    Example:
        >>> tag_of("val_mean_iou"), tag_of("train_loss"), tag_of("step_loss"), tag_of("epoch")
        ('val/mean_iou', 'train/loss', 'train/loss_of_step', 'time/epoch')
    """
    if name == "step_loss":
        return "train/loss_of_step"
    if name == "epoch":
        return "time/epoch"
    group, _, rest = name.partition("_")
    return f"{group}/{rest}" if group in ("train", "val") else name


class GroupedTensorBoard(TensorBoardLogger):
    """Lightning's logger in the folder `tensorboard` of a run, with tags in groups."""

    def __init__(self, run: RunFolder) -> None:
        super().__init__(run.path, name="", version="tensorboard", default_hp_metric=False)

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        """Writes scalars under their tags."""
        super().log_metrics({tag_of(name): value for name, value in metrics.items()}, step)

    @rank_zero_only
    def save(self) -> None:
        """Writes what is pending; choices are in recipe.json, and in no file of Lightning's."""
        self.experiment.flush()

    @rank_zero_only
    def log_picture(self, tag: str, picture: Image.Image, step: int) -> None:
        """Writes a picture, RGB."""
        self.experiment.add_image(tag, np.asarray(picture), step, dataformats="HWC")

    @rank_zero_only
    def log_choices(self, recipe: Recipe, *, score: str) -> None:
        """Writes the recipe: as a text, and as hyper-parameters beside the score."""
        choices = {"task": recipe.task, **dataclasses.asdict(recipe)}
        text = json.dumps(choices, indent=2, default=str)
        self.experiment.add_text("recipe", "\n".join("    " + line for line in text.splitlines()))
        plain = {
            name: value if isinstance(value, bool | int | float | str) else str(value)
            for name, value in choices.items()
        }
        writer: Any = self.experiment._get_file_writer()
        for summary in hparams(plain, {tag_of(score): 0}):
            writer.add_summary(summary)


class LogRun(Callback):
    """Writes what belongs to the run and not to its net: choices, learning rates and times.

    It comes after `KeepMetrics`.

    Args:
        logger: where to.
        recipe: of the run.
        metrics: what times the epochs.
    """

    def __init__(self, logger: GroupedTensorBoard, recipe: Recipe, metrics: KeepMetrics) -> None:
        self.logger, self.recipe, self.metrics = logger, recipe, metrics

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Writes the choices, once."""
        if trainer.current_epoch == 0:
            self.logger.log_choices(self.recipe, score=str(pl_module.score))

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Writes the learning rate at the end of the epoch, and how long it took."""
        row = self.metrics.rows[-1]
        figures = {
            "learning-rate": float(row["learning_rate"]),
            "time/seconds_of_epoch": float(row["seconds"]),
            "time/images_per_second": float(row["images_per_second"]),
        }
        self.logger.log_metrics(figures, trainer.global_step)
