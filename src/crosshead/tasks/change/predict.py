"""What a change detection sees: maps of change, as files and as pictures."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from crosshead.tasks.change.data import ChangeData, ChangeMeta, WholePairs
from crosshead.tasks.change.net import class_probabilities
from crosshead.tasks.change.pairs import ImagePair, listed
from crosshead.tasks.change.read import read_channels, read_shape
from crosshead.tasks.net import device_of
from crosshead.tasks.pictures import (
    Color,
    chosen,
    draw_change,
    draw_grid,
    draw_labels,
    palette,
    palette_image,
    probability_map,
    stretched,
)
from crosshead.tasks.result import Result
from crosshead.tasks.sources import Input
from crosshead.tasks.task import DataError


@dataclass(frozen=True, kw_only=True)
class ChangeResult(Result):
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

    def rows(self) -> list[dict[str, Any]]:
        """A row for each class: `image`, `class`, `fraction`."""
        return [
            {"image": self.source, "class": name, "fraction": fraction}
            for name, fraction in self.fractions.items()
        ]

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


def read_dates(meta: ChangeMeta, source: Any, *, position: int) -> Input:
    """A pair as a net takes it.

    Args:
        meta: of the pairs that the net was trained on.
        source: as many files or images for the earlier date as, after them, for the later one; the channels
            of a date are those of its files one after another. Images are images of PIL, arrays (height,
            width) or (height, width, channels), or tensors (channels, height, width), in the numbers that
            the files of the training hold.
        position: of the pair among those that were given, from 0 on; names it if it has no name.

    Raises:
        DataError: if a file cannot be read, or sizes or channels do not fit.
        ValueError: if the dates have not equally many files, or an array has no such form.
        TypeError: if the source is no tuple or list of such images.
    """
    if not isinstance(source, tuple | list):
        raise TypeError(
            f"a pair must be a tuple: the earlier date, then the later one; got {type(source).__name__}"
        )
    if len(source) % 2 or not source:
        raise ValueError(
            f"{len(source)} file{'s' if len(source) > 1 else ''} for two dates: give the files of the "
            "earlier date, then as many of the later one"
        )
    parts = [_Part.of(each, name=f"image-{position + 1}") for each in source]
    middle = len(parts) // 2
    for part in parts:
        if part.shape[1:] != parts[0].shape[1:]:
            raise DataError(
                f"{part.source}: {part.shape[2]} x {part.shape[1]} pixels, and {parts[0].source} has "
                f"{parts[0].shape[2]} x {parts[0].shape[1]}; give files of one size"
            )
    dates = parts[:middle], parts[middle:]
    for date in dates:
        channels = sum(part.shape[0] for part in date)
        if channels != meta.in_chans:
            raise DataError(
                f"{date[0].source}: {channels} channels in the files of its date, and the net takes "
                f"{meta.in_chans} ({listed(meta.bands)}); give as many files for each date as hold them"
            )
    before, after = (np.concatenate([part.read() for part in date]) for date in dates)
    name = Path(parts[0].source).stem
    nothing = np.zeros(parts[0].shape[1:], np.uint8)
    pair = ImagePair(name=name, before=before, after=after, label=nothing, bands=meta.bands)
    files = tuple(tuple(part.source for part in date) for date in dates)
    return Input(name=name, source=parts[0].source, content=(files, pair))


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


def shown_channels(count: int) -> tuple[int, ...]:
    """The channels to show as red, green and blue: the first three, or the first alone.

    Example:
        >>> shown_channels(6), shown_channels(2)
        ((0, 1, 2), (0,))
    """
    return (0, 1, 2) if count >= 3 else (0,)


def change_colors(classes: Sequence[str]) -> dict[str, Color]:
    """Grey for the first class, the absence of change, then red and further colours.

    Example:
        >>> change_colors(["unchanged", "changed"])
        {'unchanged': (187, 187, 187), 'changed': (238, 102, 119)}
    """
    blue, red, green, yellow, cyan, purple, grey, *more = palette(max(len(classes), 7))
    colors = [grey, red, blue, yellow, green, cyan, purple, *more]
    return dict(zip(classes, colors, strict=False))


@dataclass(frozen=True)
class _Part:
    """One file or image of a date: its shape is known before a pixel is decoded."""

    source: str
    shape: tuple[int, ...]
    read: Callable[[], np.ndarray]

    @classmethod
    def of(cls, source: Any, *, name: str) -> "_Part":
        if isinstance(source, str | Path):
            return cls(str(source), read_shape(source), lambda: read_channels(source))
        if isinstance(source, Tensor):
            array = source.detach().cpu().numpy()
        elif isinstance(source, Image.Image | np.ndarray):
            array = np.asarray(source)
            array = array.transpose(2, 0, 1) if array.ndim == 3 else array
        else:
            raise TypeError(
                "a date must be paths, images of PIL, arrays or tensors; got " + type(source).__name__
            )
        array = array[None] if array.ndim == 2 else array
        if array.ndim != 3 or not np.isfinite(array).all():
            raise ValueError(f"a date must be one image of finite numbers; got the shape {array.shape}")
        return cls(name, array.shape, lambda: array)
