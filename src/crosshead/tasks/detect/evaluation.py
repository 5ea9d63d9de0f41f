"""The figures of a detection."""

from dataclasses import dataclass

from crosshead.tasks.detect.average_precision import AveragePrecision
from crosshead.tasks.task import Evaluation


@dataclass(frozen=True, kw_only=True)
class DetectEvaluation(Evaluation):
    """The figures of a detection by COCO's rules.

    Attributes:
        box: Average precision of boxes.
        mask: The same of masks; None without masks.
        max_detections: Detections that were looked at in an image.
    """

    box: AveragePrecision
    mask: AveragePrecision | None
    max_detections: int

    def measures(self) -> list[tuple[str, str]]:
        """Average precision and recall, at several IoUs and sizes."""
        rows: list[tuple[str, str]] = []
        for kind, found in (("box", self.box), ("mask", self.mask)):
            if found is not None:
                rows += [
                    (f"{kind} AP", _share(found.ap)),
                    (f"{kind} AP50", _share(found.ap50)),
                    (f"{kind} AP75", _share(found.ap75)),
                    (f"{kind} AP, small objects", _share(found.small)),
                    (f"{kind} AP, medium objects", _share(found.medium)),
                    (f"{kind} AP, large objects", _share(found.large)),
                    (
                        f"{kind} recall, {self.max_detections} detections an image",
                        _share(found.recall[self.max_detections]),
                    ),
                ]
        return rows

    def by_class(self) -> tuple[str, dict[str, float | None]]:
        """Average precision of each class, of masks where there are masks."""
        return ("box AP", self.box.per_class) if self.mask is None else ("mask AP", self.mask.per_class)


def _share(value: float | None) -> str:
    return "nothing to find" if value is None else f"{value:.2%}"
