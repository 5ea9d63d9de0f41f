"""What a change detection sees: maps of change, as files and as pictures."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from crosshead.tasks.change.data import ChangeData, ChangeMeta, WholePairs
from crosshead.tasks.change.net import class_probabilities
from crosshead.tasks.change.pairs import ImagePair
from crosshead.tasks.change.pictures import (
    change_colors,
    draw_change,
    probability_map,
    shown_channels,
    stretched,
)
from crosshead.tasks.net import device_of
from crosshead.tasks.pictures import chosen, draw_grid, draw_labels, palette_image, with_legend
from crosshead.tasks.result import PixelResult
from crosshead.tasks.sources import Input


@dataclass(frozen=True, kw_only=True)
class ChangeResult(PixelResult):
    """What has changed between two dates, pixel by pixel.

    Attributes:
        files: of the earlier date and of the later one; names for what came from memory.
        pair: both dates, as they were given.
        classes: what is told apart; the first one is the absence of change.
        probabilities: (classes, height, width), float32.
    """

    files: tuple[tuple[str, ...], tuple[str, ...]]
    pair: ImagePair
    classes: tuple[str, ...]
    probabilities: np.ndarray

    @property
    def labels(self) -> np.ndarray:
        """The class of each pixel as in training, (height, width), uint8: k stands for `classes[k - 1]`."""
        return (self.probabilities.argmax(0) + 1).astype(np.uint8)

    @property
    def fractions(self) -> dict[str, float]:
        """The fraction of the pixels that each class has."""
        labels = self.labels
        return {name: float((labels == number).mean()) for number, name in enumerate(self.classes, 1)}

    @property
    def summary(self) -> str:
        """The fraction of each class."""
        return ", ".join(f"{name} {fraction:.1%}" for name, fraction in self.fractions.items())

    def to_dict(self) -> dict[str, Any]:
        """`image`, `before`, `after`, `size` as width and height, `classes` and `fractions`."""
        before, after = self.files
        return {
            "image": self.source,
            "before": list(before),
            "after": list(after),
            "size": list(self.labels.shape[::-1]),
            "classes": list(self.classes),
            "fractions": self.fractions,
        }

    def plot(self) -> Image.Image:
        """Both dates, and the probability of change between them."""
        return draw_change(
            self.pair.before,
            self.pair.after,
            1 - self.probabilities[0],
            bands=shown_channels(len(self.pair.before)),
            title=f"{self.name}: {self.summary}",
        )

    def maps(self) -> dict[str, Image.Image]:
        """`.labels.png`: the labels, in the colours of their classes."""
        return {".labels.png": palette_image(self.labels, change_colors(self.classes), ("", *self.classes))}


def predict_change(meta: ChangeMeta, net: nn.Module, each: Input, *, tile: int | None) -> ChangeResult:
    """The class of each pixel of a pair.

    Args:
        meta: of the pairs that the net was trained on.
        net: a change detection in evaluation mode.
        each: a pair, from `read_dates`.
        tile: larger pairs are seen in windows of this side in pixels; None for never.
    """
    files, pair = each.content
    return ChangeResult(
        name=each.name,
        source=each.source,
        files=files,
        pair=pair,
        classes=meta.classes,
        probabilities=pair_probabilities(net, meta.standardise(pair), tile=tile),
    )


def pair_probabilities(model: nn.Module, pair: ImagePair, *, tile: int | None) -> np.ndarray:
    """Probabilities (classes, height, width) of a standardised pair; `tile` as in `predict_change`."""
    device = device_of(model)
    before, after, _ = WholePairs([pair])[0]
    with torch.inference_mode():
        found = class_probabilities(model, before[None].to(device), after[None].to(device), tile=tile)
    return found[0].cpu().numpy()


def draw_truth(pair: ImagePair, classes: Sequence[str]) -> Image.Image:
    """The labels of a pair, laid over its later date."""
    colors = change_colors(classes)
    after = stretched(pair.after, bands=shown_channels(len(pair.after)))
    picture = draw_labels(after, pair.label, classes=("unlabelled", *classes), colors=colors)
    return with_legend(picture, colors)


def draw_pairs(title: str, data: ChangeData, meta: ChangeMeta, model: nn.Module, *, tile: int) -> bytes:
    """Draws a few pairs, what the net finds in them, and the labels of each split, as a PNG file."""
    model, rows, ready = model.eval(), [], data.standardised(meta)
    classes, colors = ("unlabelled", *meta.classes), change_colors(meta.classes)
    splits = {"labels to learn from": ready.train, "to validate on": ready.val, "to test on": ready.test}
    for position in chosen(len(ready.test)):
        pair = ready.test.pairs[position]
        before, after = (
            stretched(image, bands=shown_channels(meta.in_chans)) for image in (pair.before, pair.after)
        )
        change = probability_map(1 - pair_probabilities(model, pair, tile=tile)[0])
        rows.append(
            [
                (f"{pair.name}, before", before),
                ("after", after),
                ("probability of change", change),
                *(
                    (what, draw_labels(after, split.pairs[position].label, classes=classes, colors=colors))
                    for what, split in splits.items()
                    if split is not None
                ),
            ]
        )
    return draw_grid(rows, title=title, legend=colors)
