"""What a change detection sees: maps of change, as files and as pictures."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from crosshead.tasks.change.data import ChangeData, ChangeMeta, WholePairs
from crosshead.tasks.change.net import class_probabilities
from crosshead.tasks.change.pairs import ImagePair, listed
from crosshead.tasks.change.read import read_channels, read_shape
from crosshead.tasks.pictures import (
    chosen,
    class_colors,
    draw_change,
    draw_grid,
    draw_labels,
    probability_map,
    stretched,
)
from crosshead.tasks.task import DataError, Prediction, png


def predict_change(
    meta: ChangeMeta, model: nn.Module, paths: tuple[Path, ...], *, tile: int | None
) -> Prediction:
    """The class of each pixel of a pair.

    Args:
        meta: of the pairs that the net was trained on.
        model: a change detection in evaluation mode.
        paths: the files of the earlier date, then as many of the later one; the channels of a date are those
            of its files one after another.
        tile: larger pairs are seen in windows of this side in pixels; None for never.

    Returns:
        A picture of both dates and the change between them, a map of labels (`.labels.png`: k for
        `classes[k - 1]`, as in training) and the fraction of each class.

    Raises:
        DataError: if a file cannot be read, or sizes or channels do not fit.
    """
    pair = _read_pair(meta, paths)
    probabilities = pair_probabilities(model, meta.standardise(pair), tile=tile)
    labels = (probabilities.argmax(0) + 1).astype(np.uint8)
    fractions = {name: float((labels == number).mean()) for number, name in enumerate(meta.classes, 1)}
    middle = len(paths) // 2
    channels = shown_channels(meta.in_chans)
    return Prediction(
        name=pair.name,
        summary=", ".join(f"{name} {fraction:.1%}" for name, fraction in fractions.items()),
        content={
            "image": str(paths[0]),
            "before": [str(path) for path in paths[:middle]],
            "after": [str(path) for path in paths[middle:]],
            "size": list(labels.shape[::-1]),
            "classes": list(meta.classes),
            "fractions": fractions,
        },
        files={
            ".png": png(draw_change(pair.before, pair.after, 1 - probabilities[0], bands=channels)),
            ".labels.png": png(Image.fromarray(labels)),
        },
    )


def pair_probabilities(model: nn.Module, pair: ImagePair, *, tile: int | None) -> np.ndarray:
    """Probabilities (classes, height, width) of a standardised pair; `tile` as in `predict_change`."""
    device = next(model.parameters()).device
    before, after, _ = WholePairs([pair])[0]
    with torch.inference_mode():
        found = class_probabilities(model, before[None].to(device), after[None].to(device), tile=tile)
    return found[0].cpu().numpy()


def draw_pairs(title: str, data: ChangeData, meta: ChangeMeta, model: nn.Module, *, tile: int) -> bytes:
    """Draws a few pairs, what the net finds in them, and the labels of each split, as a PNG file."""
    model, rows, ready = model.eval(), [], data.standardised(meta)
    classes = ("unlabelled", *meta.classes)
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
                    (what, draw_labels(after, split.pairs[position].label, classes=classes, ignore_index=0))
                    for what, split in splits.items()
                    if split is not None
                ),
            ]
        )
    legend = {name: color for name, color in class_colors(classes).items() if name in meta.classes}
    return draw_grid(rows, title=title, legend=legend)


def shown_channels(count: int) -> tuple[int, ...]:
    """The channels to show as red, green and blue: the first three, or the first alone.

    Example:
        >>> shown_channels(6), shown_channels(2)
        ((0, 1, 2), (0,))
    """
    return (0, 1, 2) if count >= 3 else (0,)


def _read_pair(meta: ChangeMeta, paths: tuple[Path, ...]) -> ImagePair:
    """The pair, once the headers of all its files say that it fits."""
    middle = len(paths) // 2
    shapes = [read_shape(path) for path in paths]
    for path, (_, height, width) in zip(paths, shapes, strict=True):
        if (height, width) != shapes[0][1:]:
            raise DataError(
                f"{path}: {width} x {height} pixels, and {paths[0]} has {shapes[0][2]} x {shapes[0][1]}; "
                "give files of one size"
            )
    for date in (slice(None, middle), slice(middle, None)):
        channels = sum(shape[0] for shape in shapes[date])
        if channels != meta.in_chans:
            raise DataError(
                f"{paths[date][0]}: {channels} channels in the files of its date, and the net takes "
                f"{meta.in_chans} ({listed(meta.bands)}); give as many files for each date as hold them"
            )
    images = [read_channels(path) for path in paths]
    before, after = np.concatenate(images[:middle]), np.concatenate(images[middle:])
    nothing = np.zeros(shapes[0][1:], np.uint8)
    return ImagePair(name=paths[0].stem, before=before, after=after, label=nothing, bands=meta.bands)
