"""How well change is told apart from its absence.

Legend: `K` classes.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from crosshead.tasks.task import Evaluation


@dataclass(frozen=True, kw_only=True)
class ChangeMetrics:
    """How well labelled pixels are told apart; fractions are between 0 and 1.

    With two classes the second one, change, is what is looked for, and `f1` and `auc` are its own. With more
    they are means over the classes that occur.

    Attributes:
        accuracy: fraction of the labelled pixels that are right; NaN without labelled pixels.
        kappa: Cohen's kappa: agreement beyond chance, 1 at best. None where labels and predictions are all of
            one class.
        f1: f1 score; 0 where the class looked for is neither labelled nor predicted.
        auc: area under the receiver operating characteristic, each class against the rest. None where labels
            are all of one class.
        per_class_f1: f1 score of each class; 0 for one that is neither labelled nor predicted.
        confusion: counts of pixels: row the true class, column the predicted one.
    """

    accuracy: float
    kappa: float | None
    f1: float
    auc: float | None
    per_class_f1: dict[str, float]
    confusion: list[list[int]]


@dataclass(frozen=True, kw_only=True)
class ChangeEvaluation(ChangeMetrics, Evaluation):
    """The metrics of a change detection on the test labels of whole image pairs."""

    counted: ClassVar[str] = "image pairs"

    def metrics(self) -> list[tuple[str, str]]:
        """Agreement with the labels."""
        return [
            ("overall accuracy", f"{self.accuracy:.2%}"),
            ("Cohen's kappa", "-" if self.kappa is None else f"{self.kappa:.2%}"),
            ("F1", f"{self.f1:.2%}"),
            ("area under the ROC curve", "-" if self.auc is None else f"{self.auc:.2%}"),
            ("labelled pixels", f"{sum(map(sum, self.confusion)):,}"),
        ]

    def by_class(self) -> tuple[str, dict[str, float | None]]:
        """F1 of each class."""
        return "F1", dict(self.per_class_f1)


def change_metrics(confusion: Tensor, per_class_auc: Tensor, classes: tuple[str, ...]) -> ChangeMetrics:
    """The metrics that follow from counts and curves.

    Args:
        confusion: (K, K) counts of pixels: row the true class, column the predicted one.
        per_class_auc: (K,) area under the curve of each class; what it says of a class that no label, or
            every label has, is not looked at.
        classes: their names, two or more.

    Example:
        >>> import torch
        >>> metrics = change_metrics(torch.tensor([[6, 2], [1, 1]]), torch.ones(2), ("unchanged", "changed"))
        >>> metrics.accuracy, metrics.f1
        (0.7, 0.4)
    """
    counts = confusion.double().cpu()
    total, right = counts.sum(), counts.diagonal()
    labelled, predicted = counts.sum(1), counts.sum(0)
    chance = (labelled * predicted).sum() / total**2
    kappa = ((right.sum() / total - chance) / (1 - chance)).item() if chance < 1 else None
    f1 = 2 * right / (labelled + predicted).clamp(min=1)
    occurring, decidable = labelled + predicted > 0, (labelled > 0) & (labelled < total)
    if len(classes) == 2:
        occurring[0] = decidable[0] = False
    auc = per_class_auc.double().cpu()[decidable]
    return ChangeMetrics(
        accuracy=(right.sum() / total).item(),
        kappa=kappa,
        f1=f1[occurring].mean().item() if occurring.any() else 0.0,
        auc=auc.mean().item() if len(auc) else None,
        per_class_f1=dict(zip(classes, f1.tolist(), strict=True)),
        confusion=confusion.tolist(),
    )
