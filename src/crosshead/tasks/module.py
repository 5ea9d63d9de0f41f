"""What every training has in common: how the weights are updated, and which figure says how good they are."""

from typing import Any, ClassVar, TypedDict, Unpack

import lightning.pytorch as pl
import torch
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from torch import nn


class Updates(TypedDict, total=False):
    """How weights are updated.

    Attributes:
        optimizer: name of a timm optimiser; biases and norms are kept from weight decay.
        learning_rate: peak learning rate.
        weight_decay: weight decay.
        warmup_epochs: epochs of linear warm-up, before the cosine.
        min_learning_rate: where the cosine ends.
        channels_last: run in the channels-last memory format.
    """

    optimizer: str
    learning_rate: float
    weight_decay: float
    warmup_epochs: int
    min_learning_rate: float
    channels_last: bool


class TaskModule(pl.LightningModule):
    """A net with its loss and its metrics. A task adds `training_step`, `validation_step` and `test_step`.

    Each epoch it logs its `columns`, and `step_loss` in between. `training_step` returns a dictionary with
    `loss`, and may add other figures of the batch, which are shown while training.

    Args:
        model: the net.
        **updates: how its weights are updated: see `Updates`.

    Attributes:
        columns: what is logged for each epoch, in the order of metrics.csv: training first, then
            validation, the score last.
        items: what a training sample is.
        val_items: what a sample of the other splits is.
        epochs_before: epochs that come before those of the recipe.
        plan: what a user should know of the epochs before they begin.
    """

    columns: tuple[str, ...]
    items: ClassVar[str] = "images"
    val_items: ClassVar[str] = "images"
    epochs_before: int = 0
    plan: str = ""

    def __init__(self, model: nn.Module, **updates: Unpack[Updates]) -> None:
        super().__init__()
        channels_last = updates.get("channels_last", False)
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        # Lightning types attributes as tensors or modules, and nets return what they return.
        self.model: Any = model
        if channels_last:
            self.model = self.model.to(memory_format=self.memory_format)
        self.optimizer = updates.get("optimizer", "adamw")
        self.learning_rate = updates.get("learning_rate", 1e-3)
        self.min_learning_rate = updates.get("min_learning_rate", 0.0)
        self.weight_decay = updates.get("weight_decay", 0.05)
        self.warmup_epochs = updates.get("warmup_epochs", 0)

    @property
    def score(self) -> str:
        """The column that says how good the net is on the validation set; higher is better."""
        return self.columns[-1]

    def kind_of_epoch(self, epoch: int) -> str:
        """What is learned in an epoch, counted from 0; epochs of one kind take about the same time."""
        return ""

    def configure_optimizers(self) -> Any:
        """timm's optimiser, and timm's cosine with warm-up, stepped after every update."""
        optimizer = create_optimizer_v2(
            self.model, opt=self.optimizer, lr=self.learning_rate, weight_decay=self.weight_decay
        )
        epochs = self.trainer.max_epochs or 1
        scheduler, _ = create_scheduler_v2(
            optimizer,
            sched="cosine",
            num_epochs=epochs - self.warmup_epochs,
            warmup_epochs=self.warmup_epochs,
            warmup_prefix=True,
            warmup_lr=self.learning_rate / 100,
            min_lr=self.min_learning_rate,
            step_on_epochs=False,
            updates_per_epoch=int(self.trainer.estimated_stepping_batches) // epochs,
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
        """timm's schedulers are told the number of updates made so far."""
        scheduler.step_update(self.global_step)
