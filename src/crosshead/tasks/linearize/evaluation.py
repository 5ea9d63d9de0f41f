"""The metrics of a linearized ViT: its teacher, itself before it learned, and itself, side by side."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from crosshead.tasks.linearize.data import UNLABELLED
from crosshead.tasks.linearize.module import Agreement, Found, Judged
from crosshead.tasks.linearize.probe import knn_accuracy, linear_accuracy
from crosshead.tasks.task import Evaluation

NETS = ("teacher", "swapped", "linearized")


@dataclass(frozen=True, kw_only=True)
class LinearizeEvaluation(Evaluation):
    """The metrics of a linearized ViT.

    Attributes:
        agreement: of patch tokens with the teacher's, by the side of the images and by net: `cosine`,
            `worst_cosine` of an image, and both `centered`: when each net's mean token of the image is off.
        labels: by net: `accuracy` of its own classifier, and that of nearest neighbours (`knn`) and of a
            linear `probe` on its features; without labels, or a classifier of these classes, less.
        cost: by side and net: `milliseconds` and `megabytes` of a forward pass over one image.
    """

    columns: ClassVar[tuple[str, ...]] = NETS

    agreement: dict[str, dict[str, dict[str, float]]]
    labels: dict[str, dict[str, float]]
    cost: dict[str, dict[str, dict[str, float]]]

    def metrics(self) -> list[tuple[str, ...]]:
        """Agreement, accuracy, cost."""
        rows = [
            (f"{words} at {size} px", *(_number(by_net, net, key, "{:.2%}".format) for net in NETS))
            for size, by_net in self.agreement.items()
            for key, words in (
                ("cosine", "cosine of tokens"),
                ("worst_cosine", "the same, worst image"),
                ("centered_cosine", "cosine without the image's mean"),
                ("worst_centered_cosine", "the same, worst image"),
            )
        ]
        rows += [
            (words, *(_number(self.labels, net, key, "{:.2%}".format) for net in NETS))
            for key, words in (
                ("accuracy", "accuracy of its classifier"),
                ("knn", "accuracy of nearest neighbours"),
                ("probe", "accuracy of a linear probe"),
            )
            if any(key in found for found in self.labels.values())
        ]
        return rows + [
            (f"{words} at {size} px", *(_number(by_net, net, key, show) for net in NETS))
            for size, by_net in self.cost.items()
            for key, words, show in (
                ("milliseconds", "milliseconds an image", "{:,.1f}".format),
                ("megabytes", "megabytes", _megabytes),
            )
        ]

    def by_class(self) -> tuple[str, dict[str, float | None]]:
        """Nothing: tokens have no class."""
        return "", {}


def agreement_of(found: Found) -> dict[str, dict[str, dict[str, float]]]:
    """Means and worst images, by size and net."""
    return {
        str(size): {name: _summary(batches) for name, batches in by_net.items()}
        for size, by_net in found.agreement.items()
    }


def label_metrics(found: Found) -> dict[str, dict[str, float]]:
    """What the features of each net say about labels; empty where labels are not known."""
    tested = {name: _joined(batches) for name, batches in found.tested.items()}
    if not tested or (next(iter(tested.values())).labels == UNLABELLED).any() or not found.bank:
        return {}
    metrics: dict[str, dict[str, float]] = {}
    for name, test in tested.items():
        bank = _joined(found.bank[name])
        arguments = [x.numpy() for x in (bank.features, bank.labels, test.features, test.labels)]
        metrics[name] = {"knn": knn_accuracy(*arguments), "probe": linear_accuracy(*arguments)}
        if test.logits.shape[1] == int(bank.labels.max()) + 1:
            metrics[name]["accuracy"] = float((test.logits.argmax(1) == test.labels).float().mean())
    return metrics


def _summary(batches: list[Agreement]) -> dict[str, float]:
    cosine, centered = (torch.cat(parts) for parts in zip(*batches, strict=True))
    return {
        "cosine": float(cosine.mean()),
        "worst_cosine": float(cosine.min()),
        "centered_cosine": float(centered.mean()),
        "worst_centered_cosine": float(centered.min()),
    }


def _joined(batches: list[Judged]) -> Judged:
    parts: list[Tensor] = [torch.cat(each) for each in zip(*batches, strict=True)]
    return Judged(*parts)


def _number(found: dict[str, dict[str, Any]], net: str, key: str, show: Callable[[float], str]) -> str:
    value = found.get(net, {}).get(key)
    return "" if value is None else show(value)


def _megabytes(value: float) -> str:
    # Resident memory is counted too coarsely to tell smaller numbers apart.
    return f"{value:,.1f}" if value >= 1 else "under 1"
