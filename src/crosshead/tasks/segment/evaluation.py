"""What a confusion matrix says about a segmentation."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from torch import Tensor

from crosshead.tasks.task import Evaluation


@dataclass(frozen=True, kw_only=True)
class SegmentMetrics:
    """How good a segmentation is, over all labelled pixels of a set.

    Means are NaN where there is no labelled pixel at all.

    Attributes:
        pixel_accuracy: fraction of the pixels that have the right class.
        mean_iou: mean over the classes that occur in truth or prediction.
        mean_accuracy: mean, over the classes that occur in truth, of the fraction of their pixels found.
        per_class_iou: intersection over union of each class; None where it occurs in neither.
        per_class_dice: the same for the Dice coefficient, which is the F1 score of its pixels.
        confusion: pixels; rows are true classes, columns predicted ones.
    """

    pixel_accuracy: float
    mean_iou: float
    mean_accuracy: float
    per_class_iou: dict[str, float | None]
    per_class_dice: dict[str, float | None]
    confusion: list[list[int]]

    @classmethod
    def of(cls, confusion: Tensor, classes: Sequence[str]) -> Self:
        """Derives all metrics from one matrix.

        Args:
            confusion: pixels (K, K); rows are true classes, columns predicted ones.
            classes: names of the K classes.

        Raises:
            ValueError: if there are not as many names as rows and columns.

        Example:
            >>> import torch
            >>> SegmentMetrics.of(torch.tensor([[3, 1], [0, 4]]), ("sky", "sea")).per_class_iou
            {'sky': 0.75, 'sea': 0.8}
        """
        if confusion.shape != (len(classes), len(classes)):
            raise ValueError(
                f"confusion must be ({len(classes)}, {len(classes)}) for {len(classes)} classes; "
                f"got {tuple(confusion.shape)}"
            )
        counts = confusion.cpu().double()
        hits, truth, predicted = counts.diagonal(), counts.sum(1), counts.sum(0)
        # 0 / 0 gives NaN: a class that occurs nowhere cannot be measured.
        iou = hits / (truth + predicted - hits)

        def named(values: Tensor) -> dict[str, float | None]:
            known = (None if math.isnan(value) else value for value in values.tolist())
            return dict(zip(classes, known, strict=True))

        return cls(
            pixel_accuracy=(hits.sum() / counts.sum()).item(),
            mean_iou=iou.nanmean().item(),
            mean_accuracy=(hits / truth).nanmean().item(),
            per_class_iou=named(iou),
            per_class_dice=named(2 * hits / (truth + predicted)),
            confusion=confusion.tolist(),
        )


@dataclass(frozen=True, kw_only=True)
class SegmentEvaluation(SegmentMetrics, Evaluation):
    """The metrics of a segmentation over all labelled pixels of the test images."""

    def metrics(self) -> list[tuple[str, str]]:
        """Agreement with the labels."""
        values = {
            "mean IoU": self.mean_iou,
            "pixel accuracy": self.pixel_accuracy,
            "mean accuracy of the classes": self.mean_accuracy,
        }
        return [
            (name, "nothing to measure" if math.isnan(value) else f"{value:.2%}")
            for name, value in values.items()
        ]

    def by_class(self) -> tuple[str, dict[str, float | None]]:
        """Intersection over union of each class."""
        return "IoU", self.per_class_iou
