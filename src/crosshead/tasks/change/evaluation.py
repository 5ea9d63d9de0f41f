"""The figures of a change detection."""

from dataclasses import dataclass
from typing import ClassVar

from crosshead.tasks.change.module import ChangeFigures
from crosshead.tasks.task import Evaluation


@dataclass(frozen=True, kw_only=True)
class ChangeEvaluation(ChangeFigures, Evaluation):
    """The figures of a change detection on the held-out labels."""

    counted: ClassVar[str] = "tiles"

    def measures(self) -> list[tuple[str, str]]:
        """Agreement with the labels."""
        return [
            ("overall accuracy", f"{self.accuracy:.2%}"),
            ("Cohen's kappa", "-" if self.kappa is None else f"{self.kappa:.4f}"),
            ("F1", f"{self.f1:.2%}"),
            ("area under the ROC curve", "-" if self.auc is None else f"{self.auc:.4f}"),
            ("labelled pixels", f"{sum(map(sum, self.confusion)):,}"),
        ]

    def by_class(self) -> tuple[str, dict[str, float | None]]:
        """F1 of each class."""
        return "F1", dict(self.per_class_f1)
