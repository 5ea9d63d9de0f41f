"""From a recipe of change detection to image pairs, cut into what is learned from and what is held out."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from crosshead.runs.folder import RunError
from crosshead.tasks.change.pairs.held_out import check_classes, fold_labels, pair_folds
from crosshead.tasks.change.pairs.images import ImagePair, ImagePairs, check_image_pairs, load_image_pairs
from crosshead.tasks.change.pairs.landsat import check_landsat, load_landsat
from crosshead.tasks.change.pairs.standardisation import BandStatistics, band_statistics
from crosshead.tasks.change.recipe import ChangeRecipe
from crosshead.tasks.task import DataError


@dataclass(frozen=True, kw_only=True)
class ChangeSplits:
    """Image pairs and their labels.

    Attributes:
        pairs: Standardised pairs.
        bands: Names of their bands.
        classes: Names of the label values 1, 2 and so on.
        statistics: Those of the pixels outside the held-out blocks.
        train: For each pair the labels to learn from, (height, width); 0 unlabelled.
        test: For each pair the held-out labels.
    """

    pairs: tuple[ImagePair, ...]
    bands: tuple[str, ...]
    classes: tuple[str, ...]
    statistics: BandStatistics
    train: tuple[np.ndarray, ...]
    test: tuple[np.ndarray, ...]


def load_pairs(recipe: ChangeRecipe) -> ChangeSplits:
    """The pairs that a recipe names, with one fold of their blocks held out.

    Raises:
        RunError: If no folder is given, or a download is asked for.
        DataError: If the folder does not hold what it should, or a class is missing in or outside the fold.
    """
    found = _read(recipe)
    labels = [pair.label for pair in found.pairs]
    names = {"num_classes": len(found.classes), "name": str(recipe.data_dir)}
    folds = pair_folds(labels, folds=recipe.folds, block=recipe.block, **names)
    held_out = [each[recipe.fold] for each in folds]
    parted = [
        fold_labels(label, out, guard=recipe.guard) for label, out in zip(labels, held_out, strict=True)
    ]
    train, test = (tuple(part[which] for part in parted) for which in (0, 1))
    check_classes(train, test, **names)
    statistics = band_statistics(found, held_out)
    return ChangeSplits(
        pairs=tuple(statistics.standardise(pair) for pair in found.pairs),
        bands=found.bands,
        classes=found.classes,
        statistics=statistics,
        train=train,
        test=test,
    )


def check_pairs(recipe: ChangeRecipe) -> Iterator[str]:
    """Everything that is wrong with the files, then whether they can be parted as the recipe asks.

    Raises:
        RunError: If no folder is given.
    """
    _require_folder(recipe)
    faults = (
        check_landsat(recipe.data_dir)
        if recipe.data == "landsat"
        else check_image_pairs(recipe.data_dir, classes=recipe.class_names)
    )
    sound = True
    for fault in faults:
        sound = False
        yield fault
    if sound:
        try:
            load_pairs(recipe)
        except DataError as error:
            yield str(error)


def _read(recipe: ChangeRecipe) -> ImagePairs:
    _require_folder(recipe)
    if recipe.data == "landsat":
        return load_landsat(recipe.data_dir)
    return load_image_pairs(recipe.data_dir, classes=recipe.class_names)


def _require_folder(recipe: ChangeRecipe) -> None:
    if recipe.data_dir is None:
        raise RunError(f"{recipe.data} needs the folder of its images: name it with --data-dir")
    if recipe.download:
        raise RunError(
            f"{recipe.data} cannot be downloaded: leave --download out and name the folder with --data-dir"
        )
