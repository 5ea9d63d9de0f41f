import operator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch.utils.data import Dataset

from crosshead.tasks.classify.fashion_mnist import load_fashion_mnist
from crosshead.tasks.classify.image_array import ImageArray
from crosshead.tasks.dense_splits import DetectionSplits, Objects, SegmentationSplits
from crosshead.tasks.detect.scenes.drawing import ITEMS, Scene, draw_scene, objects_of
from crosshead.tasks.image_measures import MEASURED, mean_and_std
from crosshead.tasks.segment.labels.semantic import semantic_from_coco

SPLITS = ("train", "test")


def load_fashion_scenes(
    data_dir: str | Path | None,
    *,
    train: int = 4_000,
    test: int = 500,
    size: int = 128,
    seed: int = 0,
    download: bool = False,
) -> DetectionSplits:
    """Scenes of three to eight items of Fashion-MNIST, with the exact box, mask and label of each.

    Items lie at random places and scales on a shaded, noisy canvas and hide parts of each other: a mask is
    what is seen, at least four tenths of the item, and a box is that of the mask. Every scene is a function
    of seed, split and position alone: a larger set begins with a smaller one. Scenes to train on are made of
    training items, those to measure on of test items.

    Args:
        data_dir: The folder of Fashion-MNIST, as for `load_fashion_mnist`.
        train: How many scenes to train on.
        test: How many to measure on.
        size: Side of a scene in pixels, 96 or more.
        seed: Not negative; another seed gives other scenes throughout.
        download: As for `load_fashion_mnist`.

    Returns:
        Grey images of size x size pixels with ten classes of objects.

    Raises:
        DataError: As `load_fashion_mnist`.
        ValueError: When a number is too small.

    Example:
        >>> load_fashion_scenes("no/such/folder")
        Traceback (most recent call last):
            ...
        crosshead.tasks.task.DataError: no/such/folder: no such folder; give data_dir a folder that exists
    """
    for name, value, least in (("train", train, 1), ("test", test, 1), ("size", size, 96), ("seed", seed, 0)):
        if value < least:
            raise ValueError(f"{name} is {value}; give {least} or more")
    items: Any = load_fashion_mnist(data_dir, download=download)
    first, second = (
        FashionScenes(count, items=part, split=split, size=size, seed=seed)
        for split, count, part in zip(SPLITS, (train, test), (items.train, items.test), strict=True)
    )
    # Always of the same scenes, so that the count does not change the normalisation.
    measured = FashionScenes(MEASURED, items=items.train, split="train", size=size, seed=seed)
    mean, std = mean_and_std([measured[index][0] for index in range(MEASURED)])
    return DetectionSplits(
        train=first,
        test=second,
        classes=items.classes,
        category_ids=tuple(range(1, len(items.classes) + 1)),
        masks=True,
        in_chans=1,
        min_size=size,
        max_size=size,
        max_objects=ITEMS[1],
        mean=mean,
        std=std,
    )


def load_fashion_scene_labels(
    data_dir: str | Path | None,
    *,
    train: int = 4_000,
    test: int = 500,
    size: int = 128,
    seed: int = 0,
    download: bool = False,
) -> SegmentationSplits:
    """The scenes of `load_fashion_scenes` with a label for each pixel: 0 background, 1 to 10 the items.

    Args:
        data_dir: As in `load_fashion_scenes`.
        train: As in `load_fashion_scenes`.
        test: As in `load_fashion_scenes`.
        size: As in `load_fashion_scenes`.
        seed: As in `load_fashion_scenes`.
        download: As in `load_fashion_scenes`.

    Returns:
        Grey images of size x size pixels with eleven classes of pixels.

    Raises:
        DataError: As in `load_fashion_scenes`.
        ValueError: As in `load_fashion_scenes`.

    Example:
        >>> load_fashion_scene_labels("no/such/folder")
        Traceback (most recent call last):
            ...
        crosshead.tasks.task.DataError: no/such/folder: no such folder; give data_dir a folder that exists
    """
    return semantic_from_coco(
        load_fashion_scenes(data_dir, train=train, test=test, size=size, seed=seed, download=download)
    )


class FashionScenes(Dataset[tuple[Image.Image, Objects]]):
    """The first scenes of an endless set, each made when it is asked for.

    Args:
        count: How many.
        items: The items to paste, with labels from 0 on; in a scene they are one larger.
        split: "train" or "test": the two have no scene in common.
        size: Side of a scene in pixels.
        seed: Not negative.

    Example:
        >>> items = ImageArray(np.full((2, 28, 28), 200, np.uint8), labels=np.array([3, 3]))
        >>> scenes = FashionScenes(5, items=items, split="train")
        >>> image, objects = scenes[4]
        >>> image == scenes[4][0], image == scenes[3][0], set(objects.labels.tolist())
        (True, False, {4})
    """

    def __init__(self, count: int, *, items: ImageArray, split: str, size: int = 128, seed: int = 0) -> None:
        self.count = count
        self.items = items
        self.labels = np.asarray(items.labels).astype(np.int64) + 1
        self.split = split
        self.size = size
        self.seed = seed

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Image.Image, Objects]:
        """Make a scene.

        Raises:
            IndexError: When there are not so many.
        """
        scene = self.scene(index)
        return Image.fromarray(scene.pixels), objects_of(
            scene, self.labels, image_id=range(self.count)[index]
        )

    def scene(self, index: int) -> Scene:
        """What a scene shows, and where.

        Raises:
            IndexError: When there are not so many.
        """
        place = operator.index(index)
        if not -self.count <= place < self.count:
            raise IndexError(f"index is {index}; there are {self.count} scenes")
        generator = np.random.default_rng([self.seed, SPLITS.index(self.split), place % self.count])
        return draw_scene(self.items.images, size=self.size, generator=generator)
