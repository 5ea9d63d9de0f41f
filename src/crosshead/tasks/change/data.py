"""Three splits of labelled image pairs, and what a net has to know of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch.utils.data import Dataset

from crosshead.tasks.change.crops import Sample
from crosshead.tasks.change.held_out import (
    TRAIN,
    VAL,
    deal_blocks,
    deal_splits,
    require_classes,
    split_labels,
)
from crosshead.tasks.change.pairs import ImagePair, gather, scan_landsat, scan_pairs
from crosshead.tasks.change.recipe import ChangeRecipe
from crosshead.tasks.counts import Counts
from crosshead.tasks.splits import SPLITS
from crosshead.tasks.task import Data, DataError, Meta, require_folder


@dataclass(frozen=True, kw_only=True)
class ChangeMeta(Meta):
    """What a net has to know to find change between two dates.

    Each date has its own statistics, in the numbers of its files: season, sun and haze shift whole images,
    and a shift common to all pixels is no change. `mean` and `std` are those of the earlier date.

    Attributes:
        bands: the name of each channel.
        after_mean: mean of each channel at the later date.
        after_std: standard deviation of each channel at the later date.
    """

    bands: tuple[str, ...]
    after_mean: tuple[float, ...]
    after_std: tuple[float, ...]

    def standardise(self, pair: ImagePair) -> ImagePair:
        """The pair with the channels of both dates brought to mean 0 and spread 1, in float32.

        Raises:
            ValueError: if the pair has another number of channels.
        """
        if len(pair.before) != self.in_chans:
            raise ValueError(
                f"pair must have {self.in_chans} channels, as the statistics; got {len(pair.before)} in "
                f"{pair.name}: give a pair of the same sensor"
            )
        return replace(
            pair,
            before=_standardised(pair.before, self.mean, self.std),
            after=_standardised(pair.after, self.after_mean, self.after_std),
        )


class WholePairs(Dataset[Sample]):
    """Image pairs with the labels of one split.

    Args:
        pairs: the images, each with its labels of the split, 0 elsewhere.

    Example:
        >>> image = np.zeros((1, 40, 30), np.uint8)
        >>> pair = ImagePair(name="field", before=image, after=image, label=image[0], bands=("red",))
        >>> before, after, label = WholePairs([pair])[0]
        >>> before.dtype, label.shape
        (torch.float32, torch.Size([40, 30]))
    """

    def __init__(self, pairs: Sequence[ImagePair]) -> None:
        self.pairs = tuple(pairs)

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Sample:
        """Before and after, float32, (channels, height, width), and the labels, int64, (height, width)."""
        pair = self.pairs[index]
        before, after = (
            torch.from_numpy(image.astype(np.float32, copy=False)) for image in (pair.before, pair.after)
        )
        return before, after, torch.from_numpy(pair.label.astype(np.int64))

    def labelled(self) -> "WholePairs":
        """Those that have a label of the split: the others count for nothing where something is measured."""
        return WholePairs([pair for pair in self.pairs if pair.label.any()])


@dataclass(frozen=True, kw_only=True)
class ChangeData(Data[ChangeMeta]):
    """Image pairs three times, in the same order, with the labels of one split each."""

    train: WholePairs
    val: WholePairs | None
    test: WholePairs

    def standardised(self, meta: ChangeMeta) -> "ChangeData":
        """The same with standardised images, of which all splits share one copy."""
        images = [meta.standardise(pair) for pair in self.train.pairs]

        def prepared(split: WholePairs) -> WholePairs:
            return WholePairs(
                [replace(image, label=pair.label) for image, pair in zip(images, split.pairs, strict=True)]
            )

        return replace(
            self,
            train=prepared(self.train),
            val=None if self.val is None else prepared(self.val),
            test=prepared(self.test),
        )


def load_data(recipe: ChangeRecipe) -> ChangeData:
    """The pairs that a recipe names, with their labels dealt out into three splits.

    Statistics are those of the training area: no pixel of a block to validate or to test on is measured.

    Raises:
        DataError: if no folder is given, a download is asked for, the folder does not hold what it should, or
            a split lacks a class.

    Example:
        >>> load_data(ChangeRecipe(data="folder", model="ivit_nano", epochs=1))
        Traceback (most recent call last):
            ...
        crosshead.tasks.task.DataError: change needs the folder of its images: name it with --data-dir
    """
    return _split(recipe, gather(_scan(recipe)))


def check_data(recipe: ChangeRecipe) -> Iterator[str | Counts]:
    """Everything that is wrong with the files, else why they cannot be split as the recipe asks.

    Of sound data it ends with what the splits hold.

    Raises:
        DataError: if no folder is given, or a download is asked for.
    """
    scan, pairs, sound = _scan(recipe), [], True
    try:
        for found in scan:
            if isinstance(found, ImagePair):
                pairs.append(found)
            else:
                sound = False
                yield found
        if sound:
            yield count_labels(_split(recipe, pairs))
    except DataError as error:
        yield str(error)


def count_labels(data: ChangeData) -> Counts:
    """Labelled pairs, and labelled pixels of each class, by split."""
    splits = {"train": data.train, "val": data.val, "test": data.test}
    labels = {
        split: [pair.label for pair in found.labelled().pairs]
        for split, found in splits.items()
        if found is not None
    }
    return Counts(
        totals={"pairs with labels": {split: len(found) for split, found in labels.items()}},
        classes={
            f"pixels of {name}": {
                split: sum(int((label == number).sum()) for label in found) for split, found in labels.items()
            }
            for number, name in enumerate(data.meta.classes, start=1)
        },
    )


def channel_statistics(
    images: Sequence[np.ndarray], areas: Sequence[np.ndarray]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel over a part of some images, labelled or not.

    Args:
        images: each (channels, height, width).
        areas: for each image the pixels that count, boolean, (height, width); one or more in all.

    Returns:
        The means and the standard deviations; of a constant channel the latter is 1.

    Example:
        >>> channel_statistics([np.array([[[1, 3, 200]]])], [np.array([[True, True, False]])])
        ((2.0,), (1.0,))
    """
    values = np.concatenate([image[:, area] for image, area in zip(images, areas, strict=True)], axis=1)
    std = values.std(axis=1, dtype=np.float64)
    return tuple(values.mean(axis=1, dtype=np.float64).tolist()), tuple(np.where(std > 0, std, 1.0).tolist())


def _scan(recipe: ChangeRecipe) -> Iterator[ImagePair | str]:
    folder, classes = require_folder(recipe), len(recipe.class_names)
    return scan_landsat(folder) if recipe.data == "landsat" else scan_pairs(folder, num_classes=classes)


def _split(recipe: ChangeRecipe, pairs: Sequence[ImagePair]) -> ChangeData:
    areas = _areas(recipe, pairs)
    parted = [
        split_labels(pair.label, area, guard=recipe.guard) for pair, area in zip(pairs, areas, strict=True)
    ]
    labels = {
        split: [of_pair[split] for of_pair in parted]
        for split in SPLITS
        if split != "val" or any((area == VAL).any() for area in areas)
    }
    require_classes(labels, classes=recipe.class_names, name=str(recipe.data_dir))
    splits = {
        split: WholePairs([replace(pair, label=label) for pair, label in zip(pairs, found, strict=True)])
        for split, found in labels.items()
    }
    learned = [area == TRAIN for area in areas]
    mean, std = channel_statistics([pair.before for pair in pairs], learned)
    after_mean, after_std = channel_statistics([pair.after for pair in pairs], learned)
    meta = ChangeMeta(
        classes=recipe.class_names,
        in_chans=len(pairs[0].bands),
        bands=pairs[0].bands,
        mean=mean,
        std=std,
        after_mean=after_mean,
        after_std=after_std,
    )
    return ChangeData(train=splits["train"], val=splits.get("val"), test=splits["test"], meta=meta)


def _areas(recipe: ChangeRecipe, pairs: Sequence[ImagePair]) -> list[np.ndarray]:
    """The split of each pixel of the pairs: that of the folder of its pair, or of its block."""
    if pairs[0].split is None:
        return deal_splits(
            [pair.size for pair in pairs],
            folds=recipe.folds,
            fold=recipe.fold,
            block=recipe.block,
            val=recipe.val,
        )
    areas = [np.full(pair.size, SPLITS.index(pair.split or "train"), np.uint8) for pair in pairs]
    if recipe.val and not any(pair.split == "val" for pair in pairs):
        for number, area in enumerate(areas):
            free = area == TRAIN
            blocks = deal_blocks(
                *area.shape, parts=round(1 / recipe.val), block=recipe.block, first=number, free=free
            )
            area[blocks == 0] = VAL
    return areas


def _standardised(image: np.ndarray, mean: tuple[float, ...], std: tuple[float, ...]) -> np.ndarray:
    centre, spread = np.array(mean)[:, None, None], np.array(std)[:, None, None]
    return ((image - centre) / spread).astype(np.float32)
