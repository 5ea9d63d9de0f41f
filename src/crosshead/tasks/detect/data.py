"""Images with labelled objects, as a recipe names them: three splits, and what a detector must know."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from crosshead.tasks.classify.data import load_fashion_mnist
from crosshead.tasks.depth import find_bits
from crosshead.tasks.detect.annotated import AnnotatedImage, AnnotatedImages, Annotations
from crosshead.tasks.detect.faults import OVERSHOOT
from crosshead.tasks.detect.formats import find_annotations
from crosshead.tasks.detect.scenes import FashionScenes
from crosshead.tasks.images import find_channels, mean_and_std
from crosshead.tasks.splits import carve, choose, deal
from crosshead.tasks.spread import MEASURED, spread
from crosshead.tasks.task import Data, DataError, Meta, require_folder

if TYPE_CHECKING:
    from crosshead.tasks.detect.recipe import DetectRecipe
    from crosshead.tasks.segment.recipe import SegmentRecipe

# Images of each split that are decoded with their objects before work starts.
PROBED = 8

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class DetectMeta(Meta):
    """What a detector has to know about its images; label `k + 1` is `classes[k]`, and 0 the background.

    Attributes:
        category_ids: the number that the files give each class.
        masks: whether objects have masks.
        min_size: what the short side of an image is scaled to, in pixels.
        max_size: what the long side must not exceed then, in pixels.
    """

    category_ids: tuple[int, ...]
    masks: bool
    min_size: int
    max_size: int


def load_objects(recipe: DetectRecipe | SegmentRecipe, *, masks: bool) -> Data[DetectMeta]:
    """The images with objects that a recipe names, annotated in any format, or as scenes made of
    Fashion-MNIST.

    Classes are the categories of the files in the order of their numbers, labelled from 1 on. Boxes that
    reach a little outside their image are clipped. Images without objects are kept, crowd regions
    are marked. All entries are checked here; images and masks are decoded when asked for.

    Without a held-out split a fraction `recipe.test` of the images is tested on, and without a validation
    split `recipe.val` of the training images is validated on: in proportion to the rarest class of each
    where every class has enough images, else at random.

    Args:
        recipe: names the data.
        masks: whether objects need masks; scenes have them all the same.

    Returns:
        Pairs of an image (mode "L" for one channel, "RGB" for three) and its `Objects`. `min_size` and
        `max_size` are those of the largest image in any split, so that none is shrunk.

    Raises:
        DataError: if no folder is given, or a file is missing, damaged or not of its format; if ids repeat or
            dangle; if an image is missing; if a box, a mask or an area is unusable. Names the file and the
            entry.
        ValueError: if the recipe asks for scenes that are too few or too small, or for other than 1 or 3
            channels.
    """
    require_folder(recipe, downloads=recipe.data == "fashion-scenes")
    return (
        _scenes(recipe, masks=masks) if recipe.data == "fashion-scenes" else _annotated(recipe, masks=masks)
    )


def _scenes(recipe: DetectRecipe | SegmentRecipe, *, masks: bool) -> Data[DetectMeta]:
    (train, test), size = recipe.scenes, recipe.scene_size
    if min(train, test) < 1:
        raise ValueError(f"scenes must be two counts of 1 or more; got {train}, {test}")
    if size < 96:
        raise ValueError(f"scene_size must be 96 pixels or more; got {size}")
    items: Any = load_fashion_mnist(recipe.data_dir, download=recipe.download)
    # Always of the same scenes, so that the count does not change the normalisation.
    measured = FashionScenes(MEASURED, items=items.train, split="train", size=size)
    mean, std = mean_and_std([measured[index][0] for index in range(MEASURED)])
    learned, val = carve(
        FashionScenes(train, items=items.train, split="train", size=size),
        fraction=recipe.val,
        seed=recipe.seed,
    )
    return Data(
        train=learned,
        val=val,
        test=FashionScenes(test, items=items.test, split="test", size=size),
        meta=DetectMeta(
            classes=items.meta.classes,
            category_ids=tuple(range(1, len(items.meta.classes) + 1)),
            masks=masks,
            in_chans=1,
            mean=mean,
            std=std,
            min_size=size,
            max_size=size,
        ),
    )


def _annotated(recipe: DetectRecipe | SegmentRecipe, *, masks: bool) -> Data[DetectMeta]:
    if recipe.in_chans not in (None, 1, 3):
        raise ValueError(f"in_chans must be 1 (grey), 3 (RGB) or left out; got {recipe.in_chans}")
    found = {split: read(masks=masks) for split, read in find_annotations(recipe).items()}
    findings = [
        *(finding for each in found.values() for finding in each.findings),
        *category_differences(found),
    ]
    if findings:
        raise DataError(findings[0])
    for each in found.values():
        if each.faulty and not recipe.skip_faulty:
            raise DataError(each.faulty[0])
        if each.faulty:
            logger.warning(
                "%s: annotations left out for %d faults; %s", each.path, len(each.faulty), each.faulty[0]
            )
        if each.clipped:
            logger.warning("%s: %s", each.path, clipped_boxes(each.clipped))
    paths = [image.path for image in found["train"].images]
    in_chans, bits = recipe.in_chans or find_channels(paths), find_bits(paths)
    sets = {
        split: AnnotatedImages(
            each, masks=masks, in_chans=in_chans, bits=bits, skip_faulty=recipe.skip_faulty
        )
        for split, each in found.items()
    }
    mean, std = mean_and_std([sets["train"].image(position) for position in spread(len(sets["train"]))])
    for images in sets.values():
        for position in spread(len(images), most=PROBED):
            images[position]
    splits = choose(sets, deal_objects(recipe, found))
    sizes = [image.size for each in found.values() for image in each.images]
    return Data(
        train=splits["train"],
        val=splits.get("val"),
        test=splits["test"],
        meta=DetectMeta(
            classes=tuple(found["train"].categories.values()),
            category_ids=tuple(found["train"].categories),
            masks=masks,
            in_chans=in_chans,
            mean=mean,
            std=std,
            bits=bits,
            min_size=max(map(min, sizes)),
            max_size=max(map(max, sizes)),
        ),
    )


def deal_objects(
    recipe: DetectRecipe | SegmentRecipe, found: Mapping[str, Annotations]
) -> dict[str, tuple[str, list[int]]]:
    """The splits that are made of those of a folder, as `deal` gives them.

    Raises:
        DataError: if there are too few images.
    """
    carved = ("test" not in found) + ("val" not in found and recipe.val > 0)
    labels = {
        split: _rarest_classes(each.images, fewest=carved + 1) if split == "train" else [0] * len(each.images)
        for split, each in found.items()
    }
    return deal(labels, val=recipe.val, test=recipe.test, seed=recipe.seed)


def clipped_boxes(count: int) -> str:
    """What is said of boxes that reach outside.

    Example:
        >>> clipped_boxes(1)
        '1 box reaches outside the image by up to 5% of its side; clipped'
    """
    return (
        f"{count} box{'es reach' if count > 1 else ' reaches'} outside the image by up to {OVERSHOOT:.0%} of "
        "its side; clipped"
    )


def category_differences(found: Mapping[str, Annotations]) -> Iterator[str]:
    """Where the categories of a split differ from those of the first, a line each."""
    first, *others = found.values() or (None,)
    for other in others:
        assert first is not None
        for number in sorted(first.categories.keys() | other.categories.keys()):
            names = [each.categories.get(number) for each in (first, other)]
            if names[0] != names[1]:
                yield (
                    f"{other.path}: category {number} is {names[1] or 'missing'!r}, and "
                    f"{names[0] or 'missing'!r} in {first.path}; give all files the same categories"
                )


def _rarest_classes(images: Sequence[AnnotatedImage], *, fewest: int) -> list[int]:
    """The rarest class in each image, 0 without objects; 0 throughout if a class has too few images."""
    counts = np.bincount(np.concatenate([np.zeros(0, int), *(image.objects.labels for image in images)]))
    rarest = [
        min(image.objects.labels.tolist(), key=lambda label: (counts[label], label), default=0)
        for image in images
    ]
    return rarest if min(Counter(rarest).values(), default=0) >= fewest else [0] * len(images)
