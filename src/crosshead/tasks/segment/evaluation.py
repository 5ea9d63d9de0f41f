"""The figures of a segmentation."""

import math
from dataclasses import dataclass

from crosshead.tasks.segment.measures import SegmentationFigures
from crosshead.tasks.task import Evaluation


@dataclass(frozen=True, kw_only=True)
class SegmentEvaluation(SegmentationFigures, Evaluation):
    """The figures of a segmentation over all labelled pixels of the test images."""

    def measures(self) -> list[tuple[str, str]]:
        """Agreement with the labels."""
        return [
            ("mean IoU", _share(self.mean_iou)),
            ("pixel accuracy", _share(self.pixel_accuracy)),
            ("mean accuracy of the classes", _share(self.mean_accuracy)),
        ]

    def by_class(self) -> tuple[str, dict[str, float | None]]:
        """Intersection over union of each class."""
        return "IoU", self.per_class_iou


def _share(value: float) -> str:
    return "nothing to measure" if math.isnan(value) else f"{value:.2%}"
