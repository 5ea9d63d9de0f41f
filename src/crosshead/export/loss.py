"""What a smaller precision costs: the run's own evaluation, with the file in the place of the net."""

import copy
import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn
from torch.utils.data import DataLoader, Subset

from crosshead.runs.evaluate import measure
from crosshead.runs.exported import ExportedNet
from crosshead.runs.folder import RunError, RunFolder
from crosshead.runs.record import RunRecord
from crosshead.tasks.images import spread
from crosshead.tasks.task import Evaluation, task_of

# Training images that ranges of activations are taken from, and images of each call.
CALIBRATION, BATCH = 128, 8


@dataclass(frozen=True, kw_only=True)
class Loss:
    """The metrics of a run on its test set, by the net and by the file.

    Attributes:
        before: of the net in PyTorch.
        after: of the file.
    """

    before: Evaluation
    after: Evaluation

    def rows(self) -> list[tuple[str, str, str, str]]:
        """The metrics in words: what, before, after, and the difference."""
        return [
            (before[0], before[-1], after[-1], difference(before[-1], after[-1]))
            for before, after in zip(self.before.metrics(), self.after.metrics(), strict=True)
        ]

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return dataclasses.asdict(self)


def measure_loss(
    run: RunFolder,
    record: RunRecord,
    net: nn.Module,
    exported: ExportedNet,
    *,
    weights: str,
    data_dir: Path | None,
) -> Loss:
    """Evaluates the net and the file on the test set of the run.

    Args:
        run: the run; nothing is written into it.
        record: its record.
        net: its net.
        exported: the file, read back.
        weights: which weights: `last` or `best`.
        data_dir: where the data are now, if elsewhere than in training.

    Raises:
        DataError: if the data are not as they should be.
    """
    # Copies: a test may change what it is given.
    stand_in = copy.deepcopy(net)
    setattr(stand_in, exported.interface.method, exported.forward)
    found = [
        measure(
            record, model, weights=weights, folder=run.path, data_dir=data_dir, accelerator="cpu"
        ).evaluation
        for model in (copy.deepcopy(net), stand_in)
    ]
    before, after = map(_without_costs, found)
    return Loss(before=before, after=after)


def calibration_batches(record: RunRecord, *, data_dir: Path | None, inputs: int) -> list[list[np.ndarray]]:
    """Training images as the run's own loader gives them, 128 of them, in batches of 8.

    Args:
        record: of the run.
        data_dir: where the data are now, if elsewhere than in training.
        inputs: how many of the first values of an item are inputs of the net.

    Raises:
        DataError: if the data are not as they should be.
        RunError: if there are no training images.
    """
    task = task_of(record.recipe.task)
    recipe = dataclasses.replace(record.recipe, data_dir=data_dir or record.recipe.data_dir)
    items: Any = task.loaders(recipe, task.data(recipe), record.meta).training_items()(0)
    if not len(items):
        raise RunError("int8 needs training images, to take ranges from: point --data-dir to them")
    chosen = Subset(items, spread(len(items), most=CALIBRATION))
    batches = DataLoader(chosen, batch_size=BATCH)
    return [[tensor.numpy() for tensor in list(batch)[:inputs]] for batch in batches]


def difference(before: str, after: str) -> str:
    """What was lost, in the unit of both.

    Example:
        >>> difference("98.30%", "97.9%"), difference("0.0120", "0.0121"), difference("-", "-")
        ('-0.40', '+0.0001', '')
    """
    try:
        first, second = (float(text.removesuffix("%").replace(",", "")) for text in (before, after))
    except ValueError:
        return ""
    digits = len(before.removesuffix("%").partition(".")[2])
    return f"{second - first:+.{digits}f}"


def _without_costs(evaluation: Evaluation) -> Evaluation:
    """Costs are those of nets in PyTorch, and not of the file."""
    fields = {field.name for field in dataclasses.fields(evaluation)}
    changes: Any = {"cost": {}} if "cost" in fields else {}
    return dataclasses.replace(evaluation, **changes)
