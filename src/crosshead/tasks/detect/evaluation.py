"""COCO's average precision and recall, by torchmetrics and faster-coco-eval."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor
from torchmetrics.detection import MeanAveragePrecision

from crosshead.tasks.task import Evaluation

# torchmetrics' own thresholds are float32, whose 0.6 lies above 0.6: an IoU of just 3 / 5 would not count.
IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALL_THRESHOLDS = np.linspace(0.0, 1.0, 101)
SIZES = ("small", "medium", "large")


@dataclass(frozen=True, kw_only=True)
class AveragePrecision:
    """How well objects are found, by COCO's rules; None where there is no object to find.

    Crowd regions are not objects, and what is found in them is not counted against the detector. Sizes go by
    the area that the labels give: small is up to 32 x 32 pixels, large from 96 x 96 on.

    Attributes:
        ap: average precision, mean over classes and over IoU from 0.5 to 0.95 in steps of 0.05.
        ap50: at IoU 0.5 alone.
        ap75: at IoU 0.75 alone.
        small: `ap` of small objects.
        medium: `ap` of objects in between.
        large: `ap` of large objects.
        recall: mean recall over the same IoUs, by the number of detections that are looked at in an image,
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


@dataclass(frozen=True, kw_only=True)
class DetectEvaluation(Evaluation):
    """The metrics of a detection by COCO's rules.

    Attributes:
        box: average precision of boxes.
        mask: the same of masks; None without masks.
        max_detections: detections that were looked at in an image.
    """

    box: AveragePrecision
    mask: AveragePrecision | None
    max_detections: int

    def metrics(self) -> list[tuple[str, str]]:
        """Average precision and recall, at several IoUs and sizes."""
        rows: list[tuple[str, float | None]] = []
        for kind, found in (("box", self.box), ("mask", self.mask)):
            if found is not None:
                rows += [
                    (f"{kind} AP", found.ap),
                    (f"{kind} AP50", found.ap50),
                    (f"{kind} AP75", found.ap75),
                    *((f"{kind} AP, {size} objects", getattr(found, size)) for size in SIZES),
                    (
                        f"{kind} recall, {self.max_detections} detections an image",
                        found.recall[self.max_detections],
                    ),
                ]
        return [(what, "nothing to find" if value is None else f"{value:.2%}") for what, value in rows]

    def by_class(self) -> tuple[str, dict[str, float | None]]:
        """Average precision of each class, of masks where there are masks."""
        return ("box AP", self.box.per_class) if self.mask is None else ("mask AP", self.mask.per_class)


def precision_metric(*, masks: bool, max_detections: int) -> MeanAveragePrecision:
    """Makes the metric that `average_precision` reads.

    Args:
        masks: whether masks are compared, besides boxes.
        max_detections: detections that are looked at in an image, for each class; more than 10.

    Raises:
        ValueError: if `max_detections` is not above 10.
    """
    if max_detections <= 10:
        raise ValueError(
            f"max_detections must be above 10, as recall is measured at 1 and 10; got {max_detections}"
        )
    # torchmetrics 1.4 declares tuples of one kind alone.
    kinds: Any = ("bbox", "segm") if masks else "bbox"
    metric = MeanAveragePrecision(
        box_format="xyxy",
        iou_type=kinds,
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
    """What a metric has counted, by "box", and by "mask" where masks are compared.

    Args:
        metric: made by `precision_metric`.
        classes: name of each label, from 1 on.

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
    kinds = {"bbox": "box", "segm": "mask"}
    several = len(metric.iou_type) > 1
    return {
        kinds[kind]: _read(computed, f"{kind}_" if several else "", metric.max_detection_thresholds, classes)
        for kind in metric.iou_type
    }


def _read(
    computed: dict[str, Tensor], prefix: str, limits: list[int], classes: tuple[str, ...]
) -> AveragePrecision:
    shape: Any = (len(IOU_THRESHOLDS), len(RECALL_THRESHOLDS), 0, 1 + len(SIZES), len(limits))
    # Neither is there before the first image. IoU, recall, class, range of sizes, limit; and without recall.
    precision = np.asarray(computed.get(f"{prefix}precision", np.zeros(shape)))
    recall = np.asarray(computed.get(f"{prefix}recall", np.zeros(shape[:1] + shape[2:])))
    places = {int(label): place for place, label in enumerate(computed["classes"].reshape(-1).tolist())}
    whole = precision[..., 0, -1]
    return AveragePrecision(
        ap=_mean(whole),
        ap50=_mean(whole[0]),
        ap75=_mean(whole[5]),
        **{size: _mean(precision[..., place, -1]) for place, size in enumerate(SIZES, start=1)},
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
