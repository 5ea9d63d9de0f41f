"""What a confusion matrix says about a segmentation."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class SegmentationFigures:
    """How good a segmentation is, over all labelled pixels of a set.

    Means are NaN where there is no labelled pixel at all.

    Attributes:
        pixel_accuracy: Share of the pixels that have the right class.
        mean_iou: Mean over the classes that occur in truth or prediction.
        mean_accuracy: Mean over the classes that occur in truth of the share of their pixels that is found.
        per_class_iou: Intersection over union of each class; None where it occurs in neither.
        per_class_dice: The same for the Dice coefficient, which is the F1 score of its pixels.
        confusion: Pixels; rows are true classes, columns predicted ones.
    """

    pixel_accuracy: float
    mean_iou: float
    mean_accuracy: float
    per_class_iou: dict[str, float | None]
    per_class_dice: dict[str, float | None]
    confusion: list[list[int]]


def figures(confusion: Tensor, classes: Sequence[str]) -> SegmentationFigures:
    """Derives all figures from one matrix.

    Args:
        confusion: Pixels (K, K); rows are true classes, columns predicted ones.
        classes: Names of the K classes.

    Raises:
        ValueError: When there are not as many names as rows and columns.

    Example:
        >>> import torch
        >>> figures(torch.tensor([[3, 1], [0, 4]]), ("sky", "sea")).per_class_iou
        {'sky': 0.75, 'sea': 0.8}
    """
    if confusion.shape != (len(classes), len(classes)):
        raise ValueError(
            f"confusion must be ({len(classes)}, {len(classes)}) for {len(classes)} classes; "
            f"got {tuple(confusion.shape)}"
        )
    counts = confusion.cpu().double()
    hits, truth, predicted = counts.diagonal(), counts.sum(1), counts.sum(0)
    # 0 / 0 gives NaN: a class that occurs nowhere has no figure.
    iou = hits / (truth + predicted - hits)
    return SegmentationFigures(
        pixel_accuracy=(hits.sum() / counts.sum()).item(),
        mean_iou=iou.nanmean().item(),
        mean_accuracy=(hits / truth).nanmean().item(),
        per_class_iou=_named(classes, iou),
        per_class_dice=_named(classes, 2 * hits / (truth + predicted)),
        confusion=confusion.tolist(),
    )


def _named(classes: Sequence[str], values: Tensor) -> dict[str, float | None]:
    known = [
        None if missing else value for value, missing in zip(values.tolist(), values.isnan(), strict=True)
    ]
    return dict(zip(classes, known, strict=True))
