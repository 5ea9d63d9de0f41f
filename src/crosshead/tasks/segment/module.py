"""Semantic segmentation: the net, its loss and its metrics, as Lightning wants them."""

from collections.abc import Sequence
from typing import Unpack

import torch
from segmentation_models_pytorch.losses import DiceLoss
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics.classification import MulticlassAccuracy, MulticlassConfusionMatrix

from crosshead.tasks.module import TaskModule, Updates
from crosshead.tasks.segment.measures import SegmentationFigures, figures
from crosshead.tasks.windows import sliding_windows


class Segmenter(TaskModule):
    """Trains and tests any net from (B, C, H, W) images to (B, K, H, W) scores.

    A batch is (images, labels), labels (B, H, W) being class numbers or `ignore_index`. The loss is
    cross-entropy plus `dice` times the Dice loss, both over labelled pixels; without any it is 0.

    It logs its columns after each epoch and `step_loss` in between. `val_loss` is the mean over batches,
    weighted by their images; other test figures come from one confusion matrix over all pixels of the set.

    Args:
        model: The net.
        classes: Names of the K classes.
        ignore_index: The label of pixels that are neither learned nor measured.
        dice: Weight of the Dice loss, which counts each class alike however few its pixels; 0 for none.
        window: Test images with a longer side than this, in pixels, go through in overlapping windows; None
            for no limit.
        **updates: How the weights are updated: see `Updates`.

    Attributes:
        figures: What `trainer.test` measured; None before.

    Raises:
        ValueError: With an `ignore_index` that is the label of a class, or a negative `dice`.

    Example:
        >>> task = Segmenter(nn.Conv2d(3, 2, 1), classes=("sky", "sea"), ignore_index=255)
        >>> task.loss(task(torch.zeros(1, 3, 8, 8)), torch.full((1, 8, 8), 255)).item()
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
        window: int | None = None,
        **updates: Unpack[Updates],
    ) -> None:
        super().__init__(model, **updates)
        if 0 <= ignore_index < len(classes):
            raise ValueError(
                f"ignore_index is {ignore_index}, the label of {classes[ignore_index]!r}; "
                f"give {len(classes)} or more"
            )
        if dice < 0:
            raise ValueError(f"dice is {dice}; give a weight of 0 or more")
        self.classes, self.ignore_index = tuple(classes), ignore_index
        self.dice, self.window = dice, window
        self.dice_loss = DiceLoss("multiclass", ignore_index=ignore_index)
        # The losses refuse labels that are no class; to look for them again would sort every pixel.
        counting = {"ignore_index": ignore_index, "validate_args": False}
        self.train_accuracy = MulticlassAccuracy(len(classes), average="micro", **counting)
        self.confusion = MulticlassConfusionMatrix(len(classes), **counting)
        self.figures: SegmentationFigures | None = None

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) images to (B, K, H, W) scores."""
        return self.model(images.contiguous(memory_format=self.memory_format))

    def loss(self, scores: Tensor, labels: Tensor) -> Tensor:
        """The loss of (B, K, H, W) scores, given (B, H, W) labels."""
        scores = scores.float()
        labelled = (labels != self.ignore_index).sum()
        # PyTorch's own mean over no pixel is 0 / 0.
        loss = F.cross_entropy(scores, labels, ignore_index=self.ignore_index, reduction="sum")
        loss = loss / labelled.clamp(min=1)
        return loss + self.dice * self.dice_loss(scores, labels) if self.dice else loss

    def probabilities(self, images: Tensor) -> Tensor:
        """(B, C, H, W) images to (B, K, H, W) probabilities, in windows where they are larger than those."""
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
        """Loss of one test batch; its pixels are counted."""
        images, labels = batch
        probabilities = self.probabilities(images)
        # Logarithms of probabilities are scores whose softmax gives them back.
        scores = probabilities.clamp(min=torch.finfo(probabilities.dtype).tiny).log()
        loss = self.loss(scores, labels)
        self.log("val_loss", loss, on_step=False, on_epoch=True, sync_dist=True, batch_size=len(labels))
        self.confusion.update(probabilities.argmax(1), labels)

    def on_validation_epoch_end(self) -> None:
        """Figures over all pixels of the set."""
        self._measure()

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """The same as in validation."""
        self.validation_step(batch, batch_idx)

    def on_test_epoch_end(self) -> None:
        """Keeps what was measured as `figures`."""
        self.figures = self._measure()

    def _measure(self) -> SegmentationFigures:
        found = figures(self.confusion.compute(), self.classes)
        self.confusion.reset()
        self.log("val_pixel_accuracy", found.pixel_accuracy, sync_dist=True)
        self.log("val_mean_iou", found.mean_iou, sync_dist=True)
        return found
