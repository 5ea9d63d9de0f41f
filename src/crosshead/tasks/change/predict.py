"""What a change detection sees: maps of change, as files and as pictures."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from crosshead.runs.folder import RunFolder, write_atomically
from crosshead.tasks.change.pairs.bands import read_bands
from crosshead.tasks.change.pairs.images import ImagePair
from crosshead.tasks.change.pairs.standardisation import BandStatistics
from crosshead.tasks.change.recipe import ChangeRecipe
from crosshead.tasks.change.sources import ChangeSplits
from crosshead.tasks.examples import chosen, png
from crosshead.tasks.change.data import ChangeMeta
from crosshead.tasks.pictures.change import draw_change, probability_map, stretched
from crosshead.tasks.pictures.colors import class_colors
from crosshead.tasks.pictures.grid import draw_grid
from crosshead.tasks.pictures.labels import draw_labels
from crosshead.tasks.task import DataError
from crosshead.tasks.task import Prediction
from crosshead.tasks.windows import sliding_windows


def predict_change(meta: ChangeMeta, model: nn.Module, paths: tuple[Path, ...], *, tile: int) -> Prediction:
    """The class of each pixel of a pair.

    Args:
        meta: Of the pairs that the net was trained on.
        model: A change detection in evaluation mode.
        paths: The files of the earlier date, then as many of the later one; the bands of a date are those of
            its files one after another.
        tile: Larger pairs are seen in windows of this side in pixels; 0 for never.

    Returns:
        A picture of both dates and the change between them, a map of labels (`.labels.png`: k for
        `classes[k - 1]`, as in training) and the share of each class.

    Raises:
        DataError: If a file cannot be read, or sizes or bands do not fit.
        ValueError: If `tile` is negative.
    """
    if tile < 0:
        raise ValueError(f"tile is {tile}: give 1 pixel or more, or 0 to see pairs whole")
    middle = len(paths) // 2
    before, after = _read(meta, paths[:middle]), _read(meta, paths[middle:])
    if before.shape != after.shape:
        raise DataError(
            f"{paths[middle]}: {after.shape[2]} x {after.shape[1]} pixels, and {paths[0]} has "
            f"{before.shape[2]} x {before.shape[1]}; give two images of one size"
        )
    pair = ImagePair(
        name=paths[0].stem, before=before, after=after, label=np.zeros(before.shape[1:], np.uint8)
    )
    statistics = BandStatistics(
        before_mean=meta.mean, before_std=meta.std, after_mean=meta.after_mean, after_std=meta.after_std
    )
    probabilities = class_probabilities(model, statistics.standardise(pair), tile=tile)
    labels = (probabilities.argmax(0) + 1).astype(np.uint8)
    shares = {name: float((labels == number).mean()) for number, name in enumerate(meta.classes, 1)}
    return Prediction(
        name=paths[0].stem,
        summary=", ".join(f"{name} {share:.1%}" for name, share in shares.items()),
        content={
            "image": str(paths[0]),
            "before": [str(path) for path in paths[:middle]],
            "after": [str(path) for path in paths[middle:]],
            "size": [before.shape[2], before.shape[1]],
            "classes": list(meta.classes),
            "shares": shares,
        },
        files={
            ".png": png(draw_change(before, after, 1 - probabilities[0], bands=shown_bands(len(before)))),
            ".labels.png": png(Image.fromarray(labels)),
        },
    )


def class_probabilities(model: nn.Module, pair: ImagePair, *, tile: int) -> np.ndarray:
    """Probabilities (classes, height, width) of a standardised pair.

    Args:
        model: A change detection in evaluation mode.
        pair: The pair.
        tile: Larger pairs are seen in windows of this side in pixels; 0 for never.
    """

    def scores(both: Tensor) -> Tensor:
        return model(*both.chunk(2, dim=1))

    both = torch.from_numpy(np.concatenate([pair.before, pair.after]).astype(np.float32))[None]
    device = next(model.parameters()).device
    with torch.inference_mode():
        return sliding_windows(scores, both.to(device), size=tile or max(pair.size))[0].cpu().numpy()


def show_pairs(run: RunFolder, recipe: ChangeRecipe, splits: ChangeSplits, model: nn.Module) -> None:
    """Draws pairs, what the net finds in them, and the labels, into examples.png.

    Args:
        run: The run.
        recipe: Its recipe.
        splits: The pairs.
        model: The net.
    """
    model, rows, unlabelled = model.eval(), [], 0
    classes = ("unlabelled", *splits.classes)
    for position in chosen(len(splits.pairs)):
        pair = splits.pairs[position]
        bands = shown_bands(len(pair.before))
        before, after = (stretched(image, bands=bands) for image in (pair.before, pair.after))
        probabilities = class_probabilities(model, pair, tile=recipe.tile)
        labels = {"labels to learn from": splits.train[position], "held-out labels": splits.test[position]}
        rows.append(
            [
                (f"{pair.name}, before", before),
                ("after", after),
                ("probability of change", probability_map(1 - probabilities[0])),
                *(
                    (name, draw_labels(after, label, classes=classes, ignore_index=unlabelled))
                    for name, label in labels.items()
                ),
            ]
        )
    legend = {name: color for name, color in class_colors(classes).items() if name in splits.classes}
    write_atomically(run.examples, draw_grid(rows, title=run.path.name, legend=legend))


def shown_bands(count: int) -> tuple[int, ...]:
    """The bands to show as red, green and blue: the first three, or the first alone.

    Example:
        >>> shown_bands(6), shown_bands(2)
        ((0, 1, 2), (0,))
    """
    return (0, 1, 2) if count >= 3 else (0,)


def _read(meta: ChangeMeta, paths: tuple[Path, ...]) -> np.ndarray:
    """All bands of one date, (bands, height, width)."""
    files = [read_bands(path) for path in paths]
    for path, bands in zip(paths, files, strict=True):
        if bands.shape[1:] != files[0].shape[1:]:
            raise DataError(
                f"{path}: {bands.shape[2]} x {bands.shape[1]} pixels, and {paths[0]} has "
                f"{files[0].shape[2]} x {files[0].shape[1]}; give files of one size"
            )
    bands = np.concatenate(files)
    if len(bands) != meta.in_chans:
        raise DataError(
            f"{paths[0]}: {len(bands)} bands in the files of its date, and the net takes {meta.in_chans} "
            f"({', '.join(meta.bands)}); give as many files for each date as hold them"
        )
    return bands
