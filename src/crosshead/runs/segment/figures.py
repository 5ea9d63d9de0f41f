"""The figures of a segmentation."""

from dataclasses import dataclass

from crosshead.runs.job import Evaluation
from crosshead.tasks.segment.figures import SegmentationFigures


@dataclass(frozen=True, kw_only=True)
class SegmentEvaluation(SegmentationFigures, Evaluation):
    """The figures of a segmentation over all labelled pixels of the test images."""

    def measures(self) -> list[tuple[str, str]]:
        """Agreement with the labels."""
        return [
            ("mean IoU", f"{self.mean_iou:.2%}"),
            ("pixel accuracy", f"{self.pixel_accuracy:.2%}"),
            ("mean accuracy of the classes", f"{self.mean_accuracy:.2%}"),
        ]

    def by_class(self) -> tuple[str, dict[str, float | None]]:
        """Intersection over union of each class."""
        return "IoU", self.per_class_iou
