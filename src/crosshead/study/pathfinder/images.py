import logging
import operator
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
from PIL import Image
from torch.utils.data import Dataset

from crosshead.study.array_cache import cached_arrays
from crosshead.study.pathfinder.drawing import draw_scene
from crosshead.study.pathfinder.parameters import PARAMETERS, PathfinderParameters
from crosshead.study.pathfinder.scene import Scene, make_scene
from crosshead.tasks.classify.data import ClassifyMeta, ImageArray
from crosshead.tasks.task import Data

CLASSES = ("separate", "connected")
SPLITS = ("train", "test")
# Part of the name of a cache file: another procedure, other images.
PROCEDURE = 1
# Training images whose brightness stands for that of all.
MEASURED = 64

logger = logging.getLogger(__name__)


def load_pathfinder(
    *,
    size: int = 32,
    contour_length: int | None = None,
    train: int = 20_000,
    test: int = 2_000,
    seed: int = 0,
    cache_dir: str | Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Data[ClassifyMeta]:
    """Pathfinder: do two discs lie on the same dashed contour, or on two?

    Two contours of short strokes wind among shorter ones; one disc lies at the start of a contour, the other
    at the end of the same (`connected`) or of the other (`separate`). Every image is a function of seed,
    split and position alone: a larger set begins with a smaller one, and there are as many images as one
    asks for.

    Source: Linsley et al. 2018, "Learning long-range spatial dependencies with horizontal gated recurrent
    units", arXiv 1805.08315; the variant of the Long Range Arena, Tay et al. 2020, arXiv 2011.04006,
    which calls contour lengths 6, 9 and 14 easy, intermediate and hard. Where its description is silent
    we chose: a stroke keeps clear of all others by the margin, and no stroke enters the padding; a
    contour that comes to a dead end takes back four strokes, and an image in which that happens too often
    starts anew with its label kept; contrasts as `crosshead.study.pathfinder.drawing.draw_scene` says; the
    numbers that `PARAMETERS` names as ours.

    Args:
        size: side of the images in pixels: 32, 64, 128 or 256.
        contour_length: strokes of each of the two contours, 3 or more; by default 14.
        train: how many images to train on.
        test: how many to measure on.
        seed: not negative; another seed gives other images throughout.
        cache_dir: where to keep the images, made once; without one, an image is made each time it is asked
            for.
        progress: called with the images made and those to make while a cache is being made.

    Returns:
        Grey images, classes "separate" and "connected" in equal parts but for chance.

    Raises:
        ValueError: if there is no such size, a number is too small, or contours of that length find no
            room.
        DataError: if a cache file is damaged, or cannot be read or written.

    Example:
        >>> splits = load_pathfinder(train=100, test=10)
        >>> image, label = splits.train[7]
        >>> image.size, image.mode, splits.meta.classes[label]
        ((32, 32), 'L', 'connected')
    """
    if size not in PARAMETERS:
        raise ValueError(f"size is {size}; the known ones are {', '.join(map(str, PARAMETERS))}")
    parameters = PARAMETERS[size]
    if contour_length is not None:
        if contour_length < 3:
            raise ValueError(f"contour_length is {contour_length}; give 3 or more, distractors have a third")
        parameters = replace(parameters, contour_length=contour_length)
    for name, value, least in (("train", train, 1), ("test", test, 1), ("seed", seed, 0)):
        if value < least:
            raise ValueError(f"{name} is {value}; give {least} or more")
    sets = [
        PathfinderImages(count, parameters=parameters, split=split, seed=seed)
        for split, count in zip(SPLITS, (train, test), strict=True)
    ]
    # Always of the same images, so that neither the count nor the cache changes the normalisation.
    measured = PathfinderImages(MEASURED, parameters=parameters, split="train", seed=seed)
    grey = np.stack([measured.array(index) for index in range(MEASURED)]) / 255
    first, second = sets if cache_dir is None else [_keep(images, cache_dir, progress) for images in sets]
    return Data(
        train=first,
        val=None,
        test=second,
        meta=ClassifyMeta(
            classes=CLASSES,
            in_chans=1,
            image_size=size,
            mean=(float(grey.mean()),),
            std=(float(grey.std()),),
        ),
    )


class PathfinderImages(Dataset[tuple[Image.Image, int]]):
    """The first images of an endless set, each made when it is asked for.

    Args:
        count: how many.
        parameters: what they are made with.
        split: "train" or "test": the two have no image in common.
        seed: not negative.

    Example:
        >>> images = PathfinderImages(5, parameters=PARAMETERS[32], split="train")
        >>> image, label = images[4]
        >>> image == images[4][0], image == images[3][0]
        (True, False)
    """

    def __init__(self, count: int, *, parameters: PathfinderParameters, split: str, seed: int = 0) -> None:
        self.count = count
        self.parameters = parameters
        self.split = split
        self.seed = seed

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        scene = self.scene(index)
        return Image.fromarray(draw_scene(scene, self.parameters)), scene.label

    def array(self, index: int) -> np.ndarray:
        """One image as uint8, (size, size)."""
        return draw_scene(self.scene(index), self.parameters)

    def scene(self, index: int) -> Scene:
        """What an image shows: contours, discs and label.

        Raises:
            IndexError: if there are not so many images.
        """
        place = operator.index(index)
        if not -self.count <= place < self.count:
            raise IndexError(f"index is {index}; there are {self.count} images")
        return make_scene(
            np.random.default_rng([self.seed, SPLITS.index(self.split), place % self.count]), self.parameters
        )


def _keep(
    images: PathfinderImages, cache_dir: str | Path, progress: Callable[[int, int], None] | None
) -> ImageArray:
    count, size = len(images), images.parameters.size

    def make() -> dict[str, np.ndarray]:
        logger.info("making %d Pathfinder images of %d x %d pixels for %s", count, size, size, cache_dir)
        pixels, labels = np.empty((count, size, size), np.uint8), np.empty(count, np.uint8)
        for index in range(count):
            scene = images.scene(index)
            pixels[index], labels[index] = draw_scene(scene, images.parameters), scene.label
            if progress is not None:
                progress(index + 1, count)
        return {"images": pixels, "labels": labels}

    arrays = cached_arrays(
        make,
        cache_dir=cache_dir,
        name=f"pathfinder-{size}-{images.split}",
        parameters={
            **asdict(images.parameters),
            "split": images.split,
            "seed": images.seed,
            "count": count,
            "procedure": PROCEDURE,
        },
        names=("images", "labels"),
    )
    return ImageArray(arrays["images"], arrays["labels"])
