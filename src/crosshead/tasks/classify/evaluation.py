"""How good a trained classifier is: accuracy, calibration, and which classes it takes for which."""

from dataclasses import dataclass

from crosshead.tasks.classify.data import ClassifyMeta
from crosshead.tasks.classify.module import Classifier
from crosshead.tasks.task import Evaluation


@dataclass(frozen=True, kw_only=True)
class ClassifyEvaluation(Evaluation):
    """The metrics of a classifier.

    Attributes:
        top1: fraction of images whose class is ranked first.
        top5: fraction of images whose class is among the first five; None with five classes or fewer.
        calibration_error: expected calibration error over 15 bins of confidence.
        per_class: fraction of each class's images that are recognised; None for a class without images.
        confusion: counts: row the true class, column the class ranked first.
    """

    top1: float
    top5: float | None
    calibration_error: float
    per_class: dict[str, float | None]
    confusion: list[list[int]]

    @classmethod
    def of(cls, module: Classifier, meta: ClassifyMeta, *, images: int, weights: str) -> "ClassifyEvaluation":
        """The metrics of a classifier that has been tested."""
        measured = module.test_metrics.compute()
        confusion = measured["confusion"].tolist()
        recognised = zip(meta.classes, measured["per_class"].tolist(), confusion, strict=True)
        return cls(
            images=images,
            weights=weights,
            top1=float(measured["top1"]),
            top5=float(measured["top5"]) if len(meta.classes) > 5 else None,
            calibration_error=float(measured["calibration_error"]),
            per_class={name: fraction if any(counts) else None for name, fraction, counts in recognised},
            confusion=confusion,
        )

    def metrics(self) -> list[tuple[str, str]]:
        """Accuracy and calibration."""
        return [
            ("top-1 accuracy", f"{self.top1:.2%}"),
            ("top-5 accuracy", "-" if self.top5 is None else f"{self.top5:.2%}"),
            ("expected calibration error", f"{self.calibration_error:.2%}"),
        ]

    def by_class(self) -> tuple[str, dict[str, float | None]]:
        """Accuracy of each class."""
        return "accuracy", self.per_class
