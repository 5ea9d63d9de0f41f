"""Change detection: two dates in, the class of each pixel out, learned from sparse labels.

Legend: `B` batch, `I` bands, `H` and `W` pixels, `K` classes, `n` labelled pixels.
"""

from dataclasses import dataclass
from typing import Unpack

from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torchmetrics.classification import MulticlassAUROC, MulticlassConfusionMatrix

from crosshead.tasks.module import TaskModule, Updates

Batch = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True, kw_only=True)
class ChangeFigures:
    """How well the labelled pixels of a test set are told apart; shares are between 0 and 1.

    With two classes the second one, change, is what is looked for, and `f1` and `auc` are its own. With more
    they are means over the classes that occur.

    Attributes:
        accuracy: Share of the labelled pixels that are right; NaN without labelled pixels.
        kappa: Cohen's kappa: agreement beyond chance, 1 at best. None where labels and predictions are all of
            one class.
        f1: F1 score; 0 where the class looked for is neither labelled nor predicted.
        auc: Area under the receiver operating characteristic, each class against the rest. None where labels
            are all of one class.
        per_class_f1: F1 score of each class; 0 for one that is neither labelled nor predicted.
        confusion: Counts of pixels: row the true class, column the predicted one.
    """

    accuracy: float
    kappa: float | None
    f1: float
    auc: float | None
    per_class_f1: dict[str, float]
    confusion: list[list[int]]


def change_figures(confusion: Tensor, per_class_auc: Tensor, classes: tuple[str, ...]) -> ChangeFigures:
    """The figures that follow from counts and curves.

    Args:
        confusion: (K, K) counts of pixels: row the true class, column the predicted one.
        per_class_auc: (K,) area under the curve of each class; what it says of a class that no label, or
            every label has, is not looked at.
        classes: Their names, two or more.

    Example:
        >>> import torch
        >>> figures = change_figures(torch.tensor([[6, 2], [1, 1]]), torch.ones(2), ("unchanged", "changed"))
        >>> figures.accuracy, figures.f1
        (0.7, 0.4)
    """
    counts = confusion.double().cpu()
    total, right = counts.sum(), counts.diagonal()
    labelled, predicted = counts.sum(1), counts.sum(0)
    chance = (labelled * predicted).sum() / total**2
    kappa = ((right.sum() / total - chance) / (1 - chance)).item() if chance < 1 else None
    f1 = 2 * right / (labelled + predicted).clamp(min=1)
    occurring, decidable = labelled + predicted > 0, (labelled > 0) & (labelled < total)
    if len(classes) == 2:
        occurring[0] = decidable[0] = False
    auc = per_class_auc.double().cpu()[decidable]
    return ChangeFigures(
        accuracy=(right.sum() / total).item(),
        kappa=kappa,
        f1=f1[occurring].mean().item() if occurring.any() else 0.0,
        auc=auc.mean().item() if len(auc) else None,
        per_class_f1=dict(zip(classes, f1.tolist(), strict=True)),
        confusion=confusion.tolist(),
    )


class ChangeDetector(TaskModule):
    """Trains and tests any net from two images (B, I, H, W) to scores (B, K, H, W).

    A batch is (before, after, label), as `PairCrops` and `PairTiles` give it: label is int64, (B, H, W), 0
    where nothing is known and k for the class `classes[k - 1]`. Unlabelled pixels count for nothing, and a
    batch without labels has the loss 0. Every figure is over all labelled pixels of an epoch alike, however
    they are spread over the batches.

    After each epoch it logs its `columns`, those of the test set from `ChangeFigures`, with NaN for None.
    The area under the curve is exact, for which K probabilities of each labelled test pixel are kept.

    Args:
        model: The net.
        classes: Their names, two or more; of two the second one is change.
        **updates: How the weights are updated: see `Updates`.

    Attributes:
        figures: What `trainer.test` measured; None before.

    Raises:
        ValueError: With fewer than two classes.

    Example:
        >>> import torch
        >>> from crosshead.tasks.change.net import SiameseNet
        >>> net = SiameseNet("ivit_nano", in_chans=6, stem_stride=1, dim=16, depths=(1, 1, 1, 1))
        >>> task = ChangeDetector(net, classes=("unchanged", "changed"), learning_rate=1e-3)
        >>> task(torch.zeros(1, 6, 32, 32), torch.zeros(1, 6, 32, 32)).shape
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
    items = "crops"

    def __init__(self, model: nn.Module, *, classes: tuple[str, ...], **updates: Unpack[Updates]) -> None:
        if len(classes) < 2:
            raise ValueError(f"classes is {classes}; name two or more, such as unchanged and changed")
        super().__init__(model, **updates)
        self.classes = classes
        self.figures: ChangeFigures | None = None
        self.confusion = MulticlassConfusionMatrix(len(classes))
        self.auc = MulticlassAUROC(len(classes), average="none", thresholds=None)

    def forward(self, before: Tensor, after: Tensor) -> Tensor:
        """Two images (B, I, H, W), the earlier one first, to scores (B, K, H, W)."""
        before, after = (image.contiguous(memory_format=self.memory_format) for image in (before, after))
        return self.model(before, after)

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Loss and accuracy of one batch."""
        scores, targets = self._labelled(batch)
        loss = _mean_loss(scores, targets)
        accuracy = (scores.argmax(1) == targets).sum() / max(1, len(targets))
        self.log("step_loss", loss)
        for name, value in (("train_loss", loss), ("train_accuracy", accuracy)):
            self.log(name, value, on_step=False, on_epoch=True, sync_dist=True, batch_size=len(targets))
        return {"loss": loss, "accuracy": accuracy}

    def on_validation_epoch_start(self) -> None:
        """Counts afresh, whatever was interrupted before."""
        self.confusion.reset()
        self.auc.reset()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Counts one test batch."""
        scores, targets = self._labelled(batch)
        probabilities = scores.softmax(1)
        self.confusion.update(probabilities, targets)
        self.auc.update(probabilities, targets)
        self.log("val_loss", _mean_loss(scores, targets), sync_dist=True, batch_size=len(targets))

    def on_validation_epoch_end(self) -> None:
        """Logs the figures of the epoch."""
        self._log_figures()

    def on_test_epoch_start(self) -> None:
        """Counts afresh, whatever was interrupted before."""
        self.confusion.reset()
        self.auc.reset()

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Counts one test batch."""
        self.validation_step(batch, batch_idx)

    def on_test_epoch_end(self) -> None:
        """Logs the figures and keeps them."""
        self.figures = self._log_figures()

    def _labelled(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Scores (n, K) in float32 and classes (n,) from 0, of the labelled pixels alone."""
        before, after, label = batch
        labelled = label > 0
        return self(before, after).movedim(1, -1)[labelled].float(), label[labelled] - 1

    def _log_figures(self) -> ChangeFigures:
        confusion = self.confusion.compute()
        # Pixels of one class, or none, have no curve, and torchmetrics warns or fails where it draws.
        drawable = (confusion.sum(1) > 0).sum() > 1
        auc = self.auc.compute() if drawable else confusion.new_zeros(len(self.classes))
        figures = change_figures(confusion, auc, self.classes)
        for name in ("accuracy", "kappa", "f1", "auc"):
            value = getattr(figures, name)
            self.log(f"test_{name}", float("nan") if value is None else value, sync_dist=True)
        return figures


def _mean_loss(scores: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy, and 0 with gradients of 0 where there is nothing to learn from."""
    return cross_entropy(scores, targets, reduction="sum") / max(1, len(targets))
