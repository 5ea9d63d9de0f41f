"""What happens beside a training: seeding, watching the loss, stopping early, keeping the model."""

import math
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback, WeightAveraging
from torch import Tensor

from crosshead.runs.checkpoints import validates
from crosshead.runs.folder import RunError, RunFolder
from crosshead.runs.metrics import KeepMetrics
from crosshead.runs.model import save_model
from crosshead.runs.rows import has_stopped_early
from crosshead.tasks.seeding import seed_everything


class SeedEpochs(Callback):
    """Seeds every generator from (seed, epoch, rank) at the start of each epoch."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Seeds."""
        seed_everything(self.seed, trainer.current_epoch, trainer.global_rank)


class LastIsValidated(Callback):
    """Sees to it that the last epoch is validated, however many epochs lie between two validations."""

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Asks for a validation after this epoch, where it is the last."""
        if trainer.current_epoch + 1 == trainer.max_epochs:
            trainer.check_val_every_n_epoch = 1


class StopEarly(Callback):
    """Ends a training whose score has not risen for a while.

    It looks at the rows that `KeepMetrics` writes and has no state of its own, so that a resumed training
    decides as the uninterrupted one does. It comes after `KeepMetrics`.

    Args:
        metrics: what writes the rows.
        patience: validations without a better score after which the training ends.
    """

    def __init__(self, metrics: KeepMetrics, *, patience: int) -> None:
        self.metrics, self.patience = metrics, patience

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stops at once where the checkpoint is of the last epoch, and the process died just then."""
        self.look(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stops after this epoch, where it is time."""
        self.look(trainer)

    def look(self, trainer: pl.Trainer) -> None:
        """Asks the trainer to stop, where it is time."""
        if has_stopped_early(self.metrics.rows, self.patience):
            trainer.should_stop = True


class Progress(Callback):
    """Knows how far a training has come.

    Attributes:
        restored: whether it has begun, and so whether its checkpoint was restored.
        stepped: whether a step has succeeded.
    """

    restored = stepped = False

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """It has begun."""
        self.restored = True

    def on_train_batch_end(self, *_: object) -> None:
        """A step has succeeded."""
        self.stepped = True


class NonFiniteLoss(RunError):
    """The loss has become infinite or NaN."""


class WatchLoss(Callback):
    """Stops at the first loss that is not finite, before it reaches a checkpoint.

    On the CPU every step is looked at. Elsewhere looking would make the host wait for the device, so the
    losses are looked at together, every 20 steps and at the end of the epoch.

    Args:
        remedy: what the message tells the user to do.
    """

    def __init__(self, *, remedy: str) -> None:
        self.remedy = remedy
        self.pending: list[tuple[int, float, Tensor]] = []
        self.coming_step, self.coming_rate = 0, 0.0

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Remembers the step and its learning rate, which the scheduler is about to change."""
        self.coming_step = trainer.global_step + 1
        self.coming_rate = trainer.optimizers[0].param_groups[0]["lr"]

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Checks the losses: on the CPU at every step, elsewhere every 20 steps."""
        self.pending.append((self.coming_step, self.coming_rate, outputs["loss"].detach()))
        if pl_module.device.type == "cpu" or len(self.pending) == 20:
            self.look(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Checks the rest of the epoch, where no validation follows."""
        self.look(trainer)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Checks the rest of the epoch."""
        self.look(trainer)

    def look(self, trainer: pl.Trainer) -> None:
        """Checks the losses since the last time.

        Raises:
            NonFiniteLoss: if one is infinite or NaN.
        """
        if not self.pending:
            return
        pending, self.pending = self.pending, []
        losses = torch.stack([loss for _, _, loss in pending]).tolist()
        for (step, rate, _), loss in zip(pending, losses, strict=True):
            if not math.isfinite(loss):
                raise NonFiniteLoss(
                    f"the loss became {loss} at step {step} (epoch {trainer.current_epoch + 1}), learning "
                    f"rate {rate:.3g}: {self.remedy}"
                )


class KeepModel(Callback):
    """Writes `model/` after each epoch, so that a run can be used whenever it is stopped.

    It has to come before the callback that averages weights: during a validation the module holds the
    averaged ones, and those are what is kept.

    Args:
        run: the run.
        config: what model/config.json says.
        averaging: the callback that averages weights, if there is one.
    """

    def __init__(self, run: RunFolder, config: dict[str, Any], *, averaging: WeightAveraging | None) -> None:
        self.run, self.config, self.averaging = run, config, averaging

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Saves the weights that have just been validated."""
        self._save(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Saves the weights where nothing is validated."""
        if validates(trainer):
            return
        if self.averaging is None:
            self._save(trainer)
            return
        self.averaging.on_validation_epoch_start(trainer, pl_module)
        self._save(trainer)
        self.averaging.on_validation_epoch_end(trainer, pl_module)

    def _save(self, trainer: pl.Trainer) -> None:
        state = trainer.strategy.lightning_module_state_dict()
        if trainer.is_global_zero:
            weights = {
                name.removeprefix("model."): value
                for name, value in state.items()
                if name.startswith("model.")
            }
            note = {"epoch": trainer.current_epoch + 1, "averaged": self.averaging is not None}
            save_model(self.run, self.config, weights, note=note)
