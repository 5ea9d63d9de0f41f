"""Images with a label for each pixel: from folders of label images, or painted from the masks of objects."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, get_args

import numpy as np
from PIL import Image
from torch.utils.data import Dataset

from crosshead.tasks.class_weights import balanced_weights
from crosshead.tasks.depth import find_bits
from crosshead.tasks.detect.data import DetectMeta
from crosshead.tasks.detect.formats import formats_in
from crosshead.tasks.detect.objects import Objects
from crosshead.tasks.images import channel_mode, find_channels, mean_and_std, read_image
from crosshead.tasks.loading import AugmentedItems
from crosshead.tasks.segment.classes import ValueLegend, find_legend
from crosshead.tasks.segment.colours import ColourLegend
from crosshead.tasks.segment.folders import LabelledFiles, find_label_files, has_label_images, other_size
from crosshead.tasks.segment.labels import ignored_label
from crosshead.tasks.segment.recipe import Format, SegmentRecipe
from crosshead.tasks.splits import choose, deal, existing_folder
from crosshead.tasks.spread import spread
from crosshead.tasks.task import Data, DataError, Meta, require_folder

BACKGROUND = "background"
# Images of val and test that are decoded before work starts.
PROBED = 8


@dataclass(frozen=True, kw_only=True)
class SegmentMeta(Meta):
    """What a net has to know to label pixels; label `k` is `classes[k]`.

    Attributes:
        ignore_index: the label of pixels that are neither learned nor measured: 255, or 65535 beside more
            than 255 classes, whatever the files have for it.
        class_weights: weight of each class in the cross-entropy of a training; None if all count alike.
    """

    ignore_index: int
    class_weights: tuple[float, ...] | None = None


@dataclass(eq=False)
class LabelImages(Dataset[tuple[Image.Image, np.ndarray]]):
    """Images with their labels, decoded when they are asked for.

    Attributes:
        files: which.
        legend: what the label images show.
        in_chans: 1 or 3, to which images are brought.
        bits: as `read_image` takes it.
    """

    files: LabelledFiles
    legend: ValueLegend | ColourLegend
    in_chans: int
    bits: int | None = None

    def __len__(self) -> int:
        return len(self.files.images)

    def __getitem__(self, index: int) -> tuple[Image.Image, np.ndarray]:
        """Decodes an image and its labels, (height, width).

        Raises:
            DataError: if either is unreadable, their sizes differ, or a value is that of no class.
        """
        path, label_path = self.files.images[index], self.files.labels[index]
        image = read_image(path, mode=channel_mode(self.in_chans), bits=self.bits)
        labels = self.legend.read(label_path)
        if labels.shape != image.size[::-1]:
            raise other_size(label_path, labels.shape[::-1], path, image.size)
        return image, labels


def of_label_images(recipe: SegmentRecipe) -> bool:
    """Whether a recipe's folder has label images, in place of objects whose masks are to be painted.

    Raises:
        DataError: if no folder is given or it is missing, or it has both and the recipe does not say which.
    """
    if recipe.data != "folder":
        return False
    root = existing_folder(require_folder(recipe))
    if recipe.format is not None:
        return recipe.format == "label-images"
    objects = [name for name in formats_in(root) if name in get_args(Format)]
    if objects and has_label_images(root):
        raise DataError(
            f"{root}: label images and annotations of objects ({', '.join(objects)}); say which with --format"
        )
    return not objects


def load_label_images(recipe: SegmentRecipe) -> Data[SegmentMeta]:
    """Loads images with label images of the same size, from folders.

    Where there is one held-out split it is the test set, and `recipe.val` of the training images are held
    back; where there is none, so are `recipe.test` of all images: drawn at random, since an image holds many
    classes and belongs to none.

    Args:
        recipe: names the folder, laid out as `find_label_files` says, and the classes (`find_legend`).

    Returns:
        Pairs of an image of any size and its labels, (height, width), uint8 or uint16.

    Raises:
        DataError: if a folder is missing, an image or a label image has no partner, there are fewer than two
            classes, sizes differ, or a label image has the colour or the value of no class.
        ValueError: if `ignore_index` is the value of a class with a name.
    """
    require_folder(recipe)
    files = find_label_files(recipe)
    for finding in (finding for part in files.values() for finding in part.findings):
        raise DataError(finding)
    legend = find_legend(recipe, [path for part in files.values() for path in part.labels])
    paths = files["train"].images
    in_chans, bits = recipe.in_chans or find_channels(paths), find_bits(paths)
    sets: dict[str, Any] = {
        split: LabelImages(part, legend=legend, in_chans=in_chans, bits=bits) for split, part in files.items()
    }
    train = sets["train"]
    mean, std = mean_and_std([train[position][0] for position in spread(len(train))])
    for split in sets.keys() - {"train"}:
        for position in spread(len(sets[split]), most=PROBED):
            sets[split][position]
    splits = choose(sets, deal_label_images(recipe, files))
    meta = SegmentMeta(
        classes=legend.classes,
        in_chans=in_chans,
        mean=mean,
        std=std,
        bits=bits,
        ignore_index=ignored_label(len(legend.classes)),
    )
    return Data(train=splits["train"], val=splits.get("val"), test=splits["test"], meta=meta)


def deal_label_images(
    recipe: SegmentRecipe, files: Mapping[str, LabelledFiles]
) -> dict[str, tuple[str, list[int]]]:
    """The splits that are made of those of a folder, as `deal` gives them.

    Raises:
        DataError: if there are too few images.
    """
    alike = {split: [0] * len(part.images) for split, part in files.items()}
    return deal(alike, val=recipe.val, test=recipe.test, seed=recipe.seed)


def weigh_classes(data: Data[SegmentMeta]) -> Data[SegmentMeta]:
    """Adds the weights that balance the classes over the pixels of the training images, which it reads."""
    train: Any = data.train
    counts = np.zeros(len(data.meta.classes), int)
    for position in range(len(train)):
        _, labels = train[position]
        counts += np.bincount(labels.flatten(), minlength=len(counts))[: len(counts)]
    return replace(data, meta=replace(data.meta, class_weights=balanced_weights(counts)))


def paint_data(data: Data[DetectMeta]) -> Data[SegmentMeta]:
    """Paints the masks of labelled objects into label maps.

    Label 0 is the background, and the classes keep their labels 1, 2 and so on.

    Args:
        data: objects with masks.

    Returns:
        The same images with a label for each pixel.
    """
    classes = (BACKGROUND, *data.meta.classes)
    meta = SegmentMeta(
        classes=classes,
        in_chans=data.meta.in_chans,
        mean=data.meta.mean,
        std=data.meta.std,
        bits=data.meta.bits,
        ignore_index=ignored_label(len(classes)),
    )
    painted = partial(AugmentedItems, transform=partial(_paint, ignore_index=meta.ignore_index))
    val = None if data.val is None else painted(data.val)
    return Data(train=painted(data.train), val=val, test=painted(data.test), meta=meta)


def paint_labels(objects: Objects, *, ignore_index: int) -> np.ndarray:
    """Paints the masks of objects into one map of labels.

    Crowd regions are painted first, so that an object within one keeps its label; then the objects from the
    largest mask to the smallest, so that one which lies within another is seen.

    Args:
        objects: with masks.
        ignore_index: the label of crowd regions: 255, or 65535 where labels need 16 bits.

    Returns:
        uint8 or uint16, (height, width); 0 where there is no object.

    Raises:
        ValueError: if the objects have no masks.

    Example:
        >>> masks = np.array([[[0, 1, 1, 0]], [[0, 1, 1, 1]]], np.uint8)
        >>> objects = Objects(boxes=np.zeros((2, 4)), labels=np.array([5, 7]), masks=masks,
        ...                   crowd=np.array([False, True]), area=np.ones(2), image_id=1)
        >>> paint_labels(objects, ignore_index=255)
        array([[  0,   5,   5, 255]], dtype=uint8)
    """
    if objects.masks is None:
        raise ValueError("objects have no masks; load them with masks=True")
    labels = np.zeros(objects.masks.shape[1:], np.uint8 if ignore_index <= 255 else np.uint16)
    sizes = objects.masks.sum(axis=(1, 2))
    for position in np.lexsort((-sizes.astype(np.int64), ~objects.crowd)):
        label = ignore_index if objects.crowd[position] else objects.labels[position]
        labels[objects.masks[position].astype(bool)] = label
    return labels


def _paint(image: Image.Image, objects: Objects, *, ignore_index: int) -> tuple[Image.Image, np.ndarray]:
    return image, paint_labels(objects, ignore_index=ignore_index)
