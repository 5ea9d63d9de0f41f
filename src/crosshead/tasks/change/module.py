"""Change detection: two dates in, the class of each pixel out, learned from sparse labels.

Legend: `B` batch, `I` channels of an image, `H` and `W` pixels, `K` classes, `n` labelled pixels.
"""

from typing import Unpack

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, nll_loss
from torchmetrics.classification import MulticlassAUROC, MulticlassConfusionMatrix

from crosshead.tasks.change.crops import Sample
from crosshead.tasks.change.evaluation import ChangeMetrics, change_metrics
from crosshead.tasks.change.net import class_probabilities
from crosshead.tasks.module import TaskModule, Updates


class ChangeDetector(TaskModule):
    """Trains and tests any net from two images (B, I, H, W) to scores (B, K, H, W).

    A batch is (before, after, label): crops in training, whole pairs in validation and test. The label is
    int64, (B, H, W), 0 where nothing is known and k for the class `classes[k - 1]`. Unlabelled pixels count
    for nothing, and a batch without labels has the loss 0. Every metric is over all labelled pixels of an
    epoch alike, however they are spread over the batches, and speaks of the very map that a prediction with
    the same `tile` gives.

    After each epoch it logs its `columns`, NaN for what is not defined. The area under the curve is exact,
    for which K probabilities of each labelled pixel are kept.

    Args:
        model: the net.
        classes: their names, two or more; of two the second one is change.
        tile: larger pairs are validated and tested in windows of this side in pixels; None for never.
        **updates: how the weights are updated: see `Updates`.

    Attributes:
        metrics: what `trainer.test` measured; None before.

    Raises:
        ValueError: if there are fewer than two classes.

    Example:
        >>> import torch
        >>> from crosshead.tasks.change.net import SiameseNet
        >>> net = SiameseNet("ivit_nano", in_chans=6, stem_stride=1, dim=16, depths=(1, 1, 1, 1))
        >>> module = ChangeDetector(net, classes=("unchanged", "changed"), learning_rate=1e-3)
        >>> module(torch.zeros(1, 6, 32, 32), torch.zeros(1, 6, 32, 32)).shape
        torch.Size([1, 2, 32, 32])
    """

    columns = (
        "train_loss",
        "train_accuracy",
        "val_loss",
        "val_accuracy",
        "val_kappa",
        "val_auc",
        "val_f1",
    )
    items, val_items = "crops", "image pairs"

    def __init__(
        self,
        model: nn.Module,
        *,
        classes: tuple[str, ...],
        tile: int | None = None,
        **updates: Unpack[Updates],
    ) -> None:
        if len(classes) < 2:
            raise ValueError(f"classes must be two or more, such as unchanged and changed; got {classes}")
        super().__init__(model, **updates)
        self.classes, self.tile = classes, tile
        self.metrics: ChangeMetrics | None = None
        self.confusion = MulticlassConfusionMatrix(len(classes))
        self.auc = MulticlassAUROC(len(classes), average="none", thresholds=None)

    def forward(self, before: Tensor, after: Tensor) -> Tensor:
        """Two images (B, I, H, W), the earlier one first, to scores (B, K, H, W)."""
        before, after = (image.contiguous(memory_format=self.memory_format) for image in (before, after))
        return self.model(before, after)

    def training_step(self, batch: Sample, batch_idx: int) -> dict[str, Tensor]:
        """Loss and accuracy of one batch."""
        before, after, label = batch
        scores, targets = _labelled(self(before, after).float(), label)
        # The sum is 0 with gradients of 0 where there is nothing to learn from.
        loss = cross_entropy(scores, targets, reduction="sum") / max(1, len(targets))
        accuracy = (scores.argmax(1) == targets).sum() / max(1, len(targets))
        self.log("step_loss", loss)
        for name, value in (("train_loss", loss), ("train_accuracy", accuracy)):
            self.log(name, value, on_step=False, on_epoch=True, sync_dist=True, batch_size=len(targets))
        return {"loss": loss, "accuracy": accuracy}

    def on_validation_epoch_start(self) -> None:
        """Counts afresh, whatever was interrupted before."""
        self.confusion.reset()
        self.auc.reset()

    def validation_step(self, batch: Sample, batch_idx: int) -> None:
        """Counts the labelled pixels of a batch of whole pairs."""
        probabilities, targets = self._count(batch)
        logarithms = probabilities.clamp(min=torch.finfo(probabilities.dtype).tiny).log()
        loss = nll_loss(logarithms, targets, reduction="sum") / max(1, len(targets))
        self.log("val_loss", loss, sync_dist=True, batch_size=len(targets))

    def on_validation_epoch_end(self) -> None:
        """Logs the metrics of the epoch."""
        found = self._measured()
        for name in ("accuracy", "kappa", "auc", "f1"):
            value = getattr(found, name)
            self.log(f"val_{name}", float("nan") if value is None else value, sync_dist=True)

    def on_test_epoch_start(self) -> None:
        """Counts afresh, whatever was interrupted before."""
        self.on_validation_epoch_start()

    def test_step(self, batch: Sample, batch_idx: int) -> None:
        """Counts the labelled pixels of a batch of whole pairs."""
        self._count(batch)

    def on_test_epoch_end(self) -> None:
        """Keeps the metrics."""
        self.metrics = self._measured()

    def _count(self, batch: Sample) -> tuple[Tensor, Tensor]:
        """Probabilities (n, K) and classes (n,) from 0, of the labelled pixels."""
        before, after, label = batch
        probabilities = class_probabilities(self, before, after, tile=self.tile)
        probabilities, targets = _labelled(probabilities, label)
        self.confusion.update(probabilities, targets)
        self.auc.update(probabilities, targets)
        return probabilities, targets

    def _measured(self) -> ChangeMetrics:
        confusion = self.confusion.compute()
        # Pixels of one class, or none, have no curve, and torchmetrics warns or fails where it draws.
        drawable = (confusion.sum(1) > 0).sum() > 1
        auc = self.auc.compute() if drawable else confusion.new_zeros(len(self.classes))
        return change_metrics(confusion, auc, self.classes)


def _labelled(pixels: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    """Of (B, K, H, W), what the labelled pixels have, (n, K), and their classes from 0, (n,)."""
    return pixels.movedim(1, -1)[label > 0], label[label > 0] - 1
