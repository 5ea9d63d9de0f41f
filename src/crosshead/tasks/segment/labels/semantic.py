from typing import Any

import numpy as np
from PIL import Image
from torch.utils.data import Dataset

from crosshead.tasks.dense_splits import DetectionSplits, Objects, SegmentationSplits, ignored_label

BACKGROUND = "background"


def semantic_from_coco(splits: DetectionSplits) -> SegmentationSplits:
    """Paint the masks of labelled objects into label maps.

    Label 0 is the background, and the classes keep their labels 1, 2 and so on.

    Args:
        splits: Objects with masks, of `load_coco` or `load_fashion_scenes`.

    Returns:
        The same images with a label for each pixel.

    Raises:
        ValueError: When the objects were loaded without masks.

    Example:
        >>> from crosshead.tasks.detect.coco.file import no_objects
        >>> images = [(Image.new("L", (6, 4)), no_objects(image_id=1, size=(6, 4), masks=True))]
        >>> splits = DetectionSplits(
        ...     train=images, test=images, classes=("nucleus",), category_ids=(1,), masks=True, in_chans=1,
        ...     min_size=4, max_size=6, max_objects=0, mean=(0.5,), std=(0.5,),
        ... )
        >>> semantic_from_coco(splits).classes
        ('background', 'nucleus')
    """
    if not splits.masks:
        raise ValueError("splits have no masks; load them with masks=True")
    classes = (BACKGROUND, *splits.classes)
    ignore_index = ignored_label(len(classes))
    return SegmentationSplits(
        train=PaintedLabels(splits.train, ignore_index=ignore_index),
        test=PaintedLabels(splits.test, ignore_index=ignore_index),
        classes=classes,
        ignore_index=ignore_index,
        in_chans=splits.in_chans,
        min_size=splits.min_size,
        max_size=splits.max_size,
        mean=splits.mean,
        std=splits.std,
    )


class PaintedLabels(Dataset[tuple[Image.Image, np.ndarray]]):
    """The images of a set with label maps in place of objects.

    Args:
        images: Pairs of an image and its objects with masks.
        ignore_index: The label of crowd regions: 255, or 65535 where labels need 16 bits.
    """

    def __init__(self, images: Any, *, ignore_index: int) -> None:
        self.images = images
        self.ignore_index = ignore_index

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Image.Image, np.ndarray]:
        """Decode an image and paint its labels, (height, width)."""
        image, objects = self.images[index]
        return image, paint_labels(objects, ignore_index=self.ignore_index)


def paint_labels(objects: Objects, *, ignore_index: int) -> np.ndarray:
    """Paint the masks of objects into one map of labels.

    Crowd regions are painted first, so that an object within one keeps its label; then the objects from the
    largest mask to the smallest, so that one which lies within another is seen.

    Args:
        objects: With masks.
        ignore_index: The label of crowd regions: 255, or 65535 where labels need 16 bits.

    Returns:
        uint8 or uint16, (height, width); 0 where there is no object.

    Raises:
        ValueError: When the objects have no masks.

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
