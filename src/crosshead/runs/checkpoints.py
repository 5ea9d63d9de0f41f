"""Checkpoints: written whole or not at all, read without running what they contain."""

import io
import math
import pickle
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.fabric.plugins.io.checkpoint_io import CheckpointIO
from lightning.pytorch.callbacks import Checkpoint
from torch import Tensor

from crosshead.runs.folder import RunError, RunFolder, write_atomically
from crosshead.runs.rows import comparable
from crosshead.tasks.module import TaskModule

REMEDY = "restore it from a copy, or train again into another folder"


class AtomicCheckpointIO(CheckpointIO):
    """Lightning's checkpoint files, complete at every moment.

    Lightning's own way writes them elsewhere first and copies them where that is another file system.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Writes beside `path`, then replaces it."""
        content = io.BytesIO()
        torch.save(checkpoint, content)
        write_atomically(Path(path), content.getvalue())

    def load_checkpoint(
        self, path: Any, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Reads tensors and plain values, whatever `weights_only` says."""
        return read_checkpoint(Path(path))

    def remove_checkpoint(self, path: Any) -> None:
        """Removes a file."""
        Path(path).unlink(missing_ok=True)


class Checkpoints(Checkpoint):
    """Writes checkpoints/best.ckpt and checkpoints/last.ckpt after each epoch, in this order; `best` only
    where the epoch was validated.

    Killed in between, the run resumes from the older `last`, repeats the epoch and writes the same `best`.
    """

    def __init__(self, run: RunFolder) -> None:
        self.run = run
        self.best_score = -math.inf

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Saves."""
        assert isinstance(pl_module, TaskModule)
        if was_validated(trainer):
            score = comparable(float(trainer.callback_metrics[pl_module.score]))
            if score > self.best_score:
                self.best_score = score
                trainer.save_checkpoint(self.run.best, weights_only=False)
        trainer.save_checkpoint(self.run.last, weights_only=False)

    def state_dict(self) -> dict[str, Any]:
        """The best score so far."""
        return {"best_score": self.best_score}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes up where another run stopped."""
        self.best_score = state_dict["best_score"]


def validates(trainer: pl.Trainer) -> bool:
    """Whether the training has a validation set."""
    loaders: Any = trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]
    return loaders.val is not None


def was_validated(trainer: pl.Trainer) -> bool:
    """Whether the epoch that ends was validated: Lightning keeps older metrics until the next time."""
    due = (trainer.current_epoch + 1) % (trainer.check_val_every_n_epoch or 1) == 0
    return due and validates(trainer)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Reads a checkpoint of tensors and plain values; nothing in it is run.

    Raises:
        RunError: if the file is missing, damaged, no checkpoint, or holds objects that loading would run.
    """
    if path.exists() and not path.is_file():
        raise RunError(f"{path} is not a file: {REMEDY}")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise RunError(f"{path} does not exist: the run has not finished an epoch yet") from None
    except PermissionError:
        raise
    except pickle.UnpicklingError:
        raise RunError(
            f"{path} is refused: it is not a checkpoint, or contains objects that loading would run; {REMEDY}"
        ) from None
    except Exception as error:
        # What a damaged file makes the reader of the archive raise is not documented, and varies.
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise RunError(f"{path} is damaged ({reason}): {REMEDY}") from None
    if not _is_whole(checkpoint):
        raise RunError(f"{path} is not a checkpoint of a training: {REMEDY}")
    return checkpoint


def _is_whole(checkpoint: object) -> bool:
    if not isinstance(checkpoint, dict) or not {"state_dict", "epoch", "loops"} <= checkpoint.keys():
        return False
    state = checkpoint["state_dict"]
    return isinstance(state, dict) and all(isinstance(value, Tensor) for value in state.values())


def require_same_tensors(
    found: dict[str, Tensor], expected: dict[str, Tensor], *, path: Path, model: str
) -> None:
    """Makes sure that weights belong to a model.

    Raises:
        RunError: naming the first tensor that differs.
    """
    for name in sorted(found.keys() | expected.keys()):
        if name not in found:
            difference = f"it lacks {name}"
        elif name not in expected:
            difference = f"it has {name}, which the model lacks"
        elif found[name].shape != expected[name].shape:
            difference = (
                f"{name} is {tuple(found[name].shape)} there and {tuple(expected[name].shape)} in the model"
            )
        else:
            continue
        raise RunError(f"{path} belongs to another architecture than {model}: {difference}; {REMEDY}")
