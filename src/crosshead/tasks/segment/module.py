"""Semantic segmentation: the net, its loss and its metrics, as Lightning wants them."""

from collections.abc import Sequence
from typing import Unpack

import torch
from segmentation_models_pytorch.losses import DiceLoss
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics.classification import MulticlassAccuracy, MulticlassConfusionMatrix

from crosshead.tasks.module import TaskModule, Updates
from crosshead.tasks.segment.evaluation import SegmentMetrics
from crosshead.tasks.windows import sliding_windows


class Segmenter(TaskModule):
    """Trains, validates and tests any net from (B, C, H, W) images to (B, K, H, W) scores.

    A batch is (images, labels), labels (B, H, W) being class numbers or `ignore_index`. The loss is
    cross-entropy plus `dice` times the Dice loss, both over labelled pixels; without any it is 0. With
    weights of classes the cross-entropy is the weighted mean of its pixels, as torch's is.

    It logs its columns after each epoch and `step_loss` in between. `val_loss` is the mean over images; other
    metrics come from one confusion matrix over all pixels of the set.

    Args:
        model: the net.
        classes: names of the K classes.
        ignore_index: the label of pixels that are neither learned nor measured.
        dice: weight of the Dice loss, which counts each class alike however few its pixels; 0 for none.
        class_weights: the weight of each class in the cross-entropy; None if all count alike.
        window: images to measure on with a longer side than this, in pixels, go through in overlapping
            windows; None for no limit.
        **updates: how the weights are updated: see `Updates`.

    Attributes:
        metrics: what `trainer.test` measured; None before.

    Raises:
        ValueError: if `ignore_index` is the label of a class.

    Example:
        >>> module = Segmenter(nn.Conv2d(3, 2, 1), classes=("sky", "sea"), ignore_index=255)
        >>> module.loss(module(torch.zeros(1, 3, 8, 8)), torch.full((1, 8, 8), 255)).item()
        0.0
    """

    columns = ("train_loss", "train_pixel_accuracy", "val_loss", "val_pixel_accuracy", "val_mean_iou")

    def __init__(
        self,
        model: nn.Module,
        *,
        classes: Sequence[str],
        ignore_index: int,
        dice: float = 1.0,
        class_weights: Sequence[float] | None = None,
        window: int | None = None,
        **updates: Unpack[Updates],
    ) -> None:
        super().__init__(model, **updates)
        if 0 <= ignore_index < len(classes):
            raise ValueError(
                f"ignore_index must be {len(classes)} or more; got {ignore_index}, the label of "
                f"{classes[ignore_index]!r}"
            )
        self.classes, self.ignore_index = tuple(classes), ignore_index
        self.dice, self.window = dice, window
        self.class_weights: Tensor | None
        weights = None if class_weights is None else torch.tensor(class_weights)
        self.register_buffer("class_weights", weights, persistent=False)
        self.dice_loss = DiceLoss("multiclass", ignore_index=ignore_index)
        # The losses refuse labels that are no class; to look for them again would sort every pixel.
        counting = {"ignore_index": ignore_index, "validate_args": False}
        self.train_accuracy = MulticlassAccuracy(len(classes), average="micro", **counting)
        self.val_confusion = MulticlassConfusionMatrix(len(classes), **counting)
        self.test_confusion = MulticlassConfusionMatrix(len(classes), **counting)
        self.metrics: SegmentMetrics | None = None

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) images to (B, K, H, W) scores."""
        return self.model(images.contiguous(memory_format=self.memory_format))

    def loss(self, scores: Tensor, labels: Tensor) -> Tensor:
        """The loss of (B, K, H, W) scores, given (B, H, W) labels."""
        scores = scores.float()
        labelled = labels != self.ignore_index
        weights, total = self.class_weights, labelled.sum().clamp(min=1)
        if weights is not None:
            total = weights[labels[labelled]].sum().clamp(min=torch.finfo(weights.dtype).tiny)
        # PyTorch's own mean over no pixel is 0 / 0.
        loss = F.cross_entropy(
            scores, labels, weight=weights, ignore_index=self.ignore_index, reduction="sum"
        )
        loss = loss / total
        return loss + self.dice * self.dice_loss(scores, labels) if self.dice else loss

    def probabilities(self, images: Tensor) -> Tensor:
        """(B, C, H, W) images to (B, K, H, W) probabilities, in windows where the images are larger."""
        size = max(images.shape[-2:]) if self.window is None else self.window
        return sliding_windows(self, images, size=size)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Tensor]:
        """Loss and pixel accuracy of one batch."""
        images, labels = batch
        scores = self(images)
        loss = self.loss(scores, labels)
        accuracy = self.train_accuracy(scores.detach().argmax(1), labels)
        self.log("step_loss", loss)
        self.log("train_loss", loss, on_step=False, on_epoch=True)
        self.log("train_pixel_accuracy", self.train_accuracy, on_step=False, on_epoch=True)
        return {"loss": loss, "accuracy": accuracy}

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Loss of one batch; its pixels are counted."""
        images, labels = batch
        probabilities = self.probabilities(images)
        # Logarithms of probabilities are scores whose softmax gives them back.
        scores = probabilities.clamp(min=torch.finfo(probabilities.dtype).tiny).log()
        loss = self.loss(scores, labels)
        self.log("val_loss", loss, on_step=False, on_epoch=True, sync_dist=True, batch_size=len(labels))
        self.val_confusion.update(probabilities.argmax(1), labels)

    def on_validation_epoch_end(self) -> None:
        """Metrics over all pixels of the validation set."""
        found = SegmentMetrics.of(self.val_confusion.compute(), self.classes)
        self.val_confusion.reset()
        self.log("val_pixel_accuracy", found.pixel_accuracy, sync_dist=True)
        self.log("val_mean_iou", found.mean_iou, sync_dist=True)

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Counts the pixels of one batch."""
        images, labels = batch
        self.test_confusion.update(self.probabilities(images).argmax(1), labels)

    def on_test_epoch_end(self) -> None:
        """Keeps what was measured as `metrics`."""
        self.metrics = SegmentMetrics.of(self.test_confusion.compute(), self.classes)
        self.test_confusion.reset()
