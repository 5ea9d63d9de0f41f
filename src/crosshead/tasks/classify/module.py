"""Image classification: the net, its loss, its optimiser and its metrics, as Lightning wants them."""

from collections.abc import Sequence
from typing import Unpack

import torch
from timm.data.mixup import Mixup
from timm.loss.binary_cross_entropy import BinaryCrossEntropy
from timm.loss.cross_entropy import LabelSmoothingCrossEntropy, SoftTargetCrossEntropy
from torch import Tensor, nn
from torchmetrics import MetricCollection
from torchmetrics.classification import (
    MulticlassAccuracy,
    MulticlassCalibrationError,
    MulticlassConfusionMatrix,
)

from crosshead.tasks.module import TaskModule, Updates


def classification_loss(
    *,
    smoothing: float = 0.0,
    soft_targets: bool = False,
    binary: bool = False,
    class_weights: Sequence[float] | None = None,
) -> nn.Module:
    """timm's loss for (B, K) logits, or torch's where classes have weights.

    Args:
        smoothing: label smoothing, for targets that are class numbers; mixup smooths its own targets.
        soft_targets: the targets are (B, K) probabilities, as mixup and cutmix make them.
        binary: one sigmoid for each class instead of one softmax over all; it takes no weights.
        class_weights: the weight of each class, as `torch.nn.CrossEntropyLoss` takes it.
    """
    if class_weights is not None and not binary:
        loss = nn.CrossEntropyLoss(label_smoothing=0.0 if soft_targets else smoothing)
        # Of the recipe and the data, and not of the net that a checkpoint keeps.
        loss.register_buffer("weight", torch.tensor(class_weights), persistent=False)
        return loss
    if binary:
        return BinaryCrossEntropy(smoothing=0.0 if soft_targets else smoothing)
    if soft_targets:
        return SoftTargetCrossEntropy()
    return LabelSmoothingCrossEntropy(smoothing) if smoothing else nn.CrossEntropyLoss()


class Classifier(TaskModule):
    """Trains and tests any net from (B, C, H, W) images to (B, num_classes) logits.

    What answers several questions at once gives (B, num_classes, questions), for labels (B, questions).

    It logs `train_loss`, `train_accuracy`, `val_loss`, `val_accuracy` after each epoch and `step_loss` in
    between. With mixup or cutmix, training accuracy counts the class that prevails in the mixture.

    Args:
        model: the net.
        num_classes: number of classes K.
        smoothing: label smoothing.
        binary_loss: one sigmoid for each class instead of one softmax over all.
        class_weights: the weight of each class in the training loss; None if all count alike.
        mixup: parameter of mixup's beta distribution; 0 for none.
        cutmix: parameter of cutmix's beta distribution; 0 for none.
        **updates: how the weights are updated: see `Updates`.

    Example:
        >>> import torch
        >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
        >>> Classifier(net, num_classes=3)(torch.zeros(2, 1, 2, 2)).shape
        torch.Size([2, 3])
    """

    columns = ("train_loss", "train_accuracy", "val_loss", "val_accuracy")

    def __init__(
        self,
        model: nn.Module,
        *,
        num_classes: int,
        smoothing: float = 0.0,
        binary_loss: bool = False,
        class_weights: Sequence[float] | None = None,
        mixup: float = 0.0,
        cutmix: float = 0.0,
        **updates: Unpack[Updates],
    ) -> None:
        super().__init__(model, **updates)
        self.mixing = None
        if mixup or cutmix:
            self.mixing = Mixup(mixup, cutmix, label_smoothing=smoothing, num_classes=num_classes)
        self.train_criterion = classification_loss(
            smoothing=smoothing,
            soft_targets=self.mixing is not None,
            binary=binary_loss,
            class_weights=class_weights,
        )
        self.val_criterion = nn.CrossEntropyLoss()
        self.train_accuracy = MulticlassAccuracy(num_classes, average="micro")
        self.val_accuracy = MulticlassAccuracy(num_classes, average="micro")
        self.test_metrics = MetricCollection(
            {
                "top1": MulticlassAccuracy(num_classes, average="micro"),
                "top5": MulticlassAccuracy(num_classes, average="micro", top_k=min(5, num_classes)),
                "per_class": MulticlassAccuracy(num_classes, average="none"),
                "calibration_error": MulticlassCalibrationError(num_classes, n_bins=15),
                "confusion": MulticlassConfusionMatrix(num_classes),
            },
            compute_groups=False,
        )

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) images to (B, K) logits."""
        return self.model(images.contiguous(memory_format=self.memory_format))

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Tensor]:
        """Loss and accuracy of one batch."""
        images, targets = batch
        if self.mixing is not None:
            images, targets = self.mixing(images, targets)
        logits = self(images)
        loss = self.train_criterion(logits, targets)
        accuracy = self.train_accuracy(
            logits.detach(), targets.argmax(1) if targets.is_floating_point() else targets
        )
        self.log("step_loss", loss)
        self.log("train_loss", loss, on_step=False, on_epoch=True)
        self.log("train_accuracy", self.train_accuracy, on_step=False, on_epoch=True)
        return {"loss": loss, "accuracy": accuracy}

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Loss and accuracy of one batch of the validation set."""
        images, labels = batch
        logits = self(images)
        self.val_accuracy(logits, labels)
        self.log("val_loss", self.val_criterion(logits, labels), sync_dist=True, batch_size=len(labels))
        self.log("val_accuracy", self.val_accuracy)

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Counts one batch of the test set into `test_metrics`."""
        images, labels = batch
        self.test_metrics.update(self(images).float().softmax(1), labels)
