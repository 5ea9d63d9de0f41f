"""COCO's average precision and recall, by torchmetrics and faster-coco-eval."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor
from torchmetrics.detection import MeanAveragePrecision

# torchmetrics' own thresholds are float32, whose 0.6 lies above 0.6: an IoU of just 3 / 5 would not count.
IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALL_THRESHOLDS = np.linspace(0.0, 1.0, 101)
RANGES = ("small", "medium", "large")


@dataclass(frozen=True, kw_only=True)
class AveragePrecision:
    """How well objects are found, by COCO's rules; None where there is no object to find.

    Crowd regions are no objects, and what is found in them is not counted against the detector. Sizes go by
    the area that the labels give: small is up to 32 x 32 pixels, large from 96 x 96 on.

    Attributes:
        ap: Average precision, mean over classes and over IoU from 0.5 to 0.95 in steps of 0.05.
        ap50: At IoU 0.5 alone.
        ap75: At IoU 0.75 alone.
        small: `ap` of small objects.
        medium: `ap` of objects in between.
        large: `ap` of large objects.
        recall: Mean recall over the same IoUs, by the number of detections that are looked at in an image,
            for each class.
        per_class: `ap` of each class.
    """

    ap: float | None
    ap50: float | None
    ap75: float | None
    small: float | None
    medium: float | None
    large: float | None
    recall: dict[int, float | None]
    per_class: dict[str, float | None]


def precision_metric(*, masks: bool, max_detections: int) -> MeanAveragePrecision:
    """Makes the metric that `average_precision` reads.

    Args:
        masks: Whether masks are compared, besides boxes.
        max_detections: Detections that are looked at in an image, for each class; more than 10.

    Raises:
        ValueError: With a `max_detections` that is not above 10.
    """
    if max_detections <= 10:
        raise ValueError(
            f"max_detections is {max_detections}; give more than 10, as recall is told at 1 and 10"
        )
    metric = MeanAveragePrecision(
        box_format="xyxy",
        iou_type=("bbox", "segm") if masks else "bbox",
        iou_thresholds=IOU_THRESHOLDS.tolist(),
        rec_thresholds=RECALL_THRESHOLDS.tolist(),
        max_detection_thresholds=[1, 10, max_detections],
        extended_summary=True,
        backend="faster_coco_eval",
    )
    metric.warn_on_many_detections = False
    return metric


def average_precision(
    metric: MeanAveragePrecision, *, classes: tuple[str, ...]
) -> dict[str, AveragePrecision]:
    """What a metric has counted.

    Args:
        metric: Made by `precision_metric`.
        classes: Name of each label, from 1 on.

    Returns:
        By "box", and by "mask" where masks are compared.

    Example:
        >>> import torch
        >>> metric = precision_metric(masks=False, max_detections=100)
        >>> boxes, labels = torch.tensor([[0.0, 0.0, 8.0, 8.0]]), torch.tensor([1])
        >>> found = {"boxes": boxes, "labels": labels, "scores": torch.ones(1)}
        >>> metric.update([found], [{"boxes": boxes, "labels": labels}])
        >>> average_precision(metric, classes=("cat", "dog"))["box"].per_class
        {'cat': 1.0, 'dog': None}
    """
    computed = metric.compute()
    names = {"bbox": "box", "segm": "mask"}
    several = len(metric.iou_type) > 1
    return {
        names[kind]: _read(computed, f"{kind}_" if several else "", metric.max_detection_thresholds, classes)
        for kind in metric.iou_type
    }


def _read(
    computed: dict[str, Tensor], prefix: str, limits: list[int], classes: tuple[str, ...]
) -> AveragePrecision:
    shape: Any = (len(IOU_THRESHOLDS), len(RECALL_THRESHOLDS), 0, 1 + len(RANGES), len(limits))
    # Neither is there before the first image. IoU, recall, class, range of sizes, limit; and without recall.
    precision = np.asarray(computed.get(f"{prefix}precision", np.zeros(shape)))
    recall = np.asarray(computed.get(f"{prefix}recall", np.zeros(shape[:1] + shape[2:])))
    places = {int(label): place for place, label in enumerate(computed["classes"].reshape(-1).tolist())}
    whole = precision[..., 0, -1]
    by_size = [_mean(precision[..., 1 + place, -1]) for place in range(len(RANGES))]
    return AveragePrecision(
        ap=_mean(whole),
        ap50=_mean(whole[0]),
        ap75=_mean(whole[5]),
        **dict(zip(RANGES, by_size, strict=True)),
        recall={limit: _mean(recall[..., 0, place]) for place, limit in enumerate(limits)},
        per_class={
            name: _mean(whole[..., places[label]]) if label in places else None
            for label, name in enumerate(classes, start=1)
        },
    )


def _mean(values: np.ndarray) -> float | None:
    """COCO marks what there is nothing to find for with -1."""
    valid = values[values > -1]
    return float(valid.mean()) if valid.size else None
