"""Images with labelled objects, as a recipe names them: three splits, and what a detector must know."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from crosshead.tasks.classify.data import load_fashion_mnist
from crosshead.tasks.detect.coco.layout import CocoPlace, find_coco
from crosshead.tasks.detect.coco.read import CocoFile, CocoImage, CocoImages, read_coco
from crosshead.tasks.detect.scenes import FashionScenes
from crosshead.tasks.images import MEASURED, find_channels, mean_and_std, spread
from crosshead.tasks.splits import carve, shared_files
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
    """The images with objects that a recipe names, in COCO format or as scenes made of Fashion-MNIST.

    Classes are the categories of the files in the order of their numbers, labelled from 1 on. Boxes that
    reach outside their image by up to a pixel are clipped. Images without objects are kept, crowd regions
    are marked. All entries are checked here; images and masks are decoded when asked for.

    Without a validation split, one is carved from the training images, in proportion to the rarest class of
    each where every class has two images or more, else at random.

    Args:
        recipe: names the data.
        masks: whether objects need masks; scenes have them all the same.

    Returns:
        Pairs of an image (mode "L" for one channel, "RGB" for three) and its `Objects`. `min_size` and
        `max_size` are those of the largest image in any split, so that none is shrunk.

    Raises:
        DataError: if no folder is given, or a file is missing, damaged or not COCO; if ids repeat or dangle;
            if an image is missing; if a box, a mask or an area is unusable. Names the file and the entry.
        ValueError: if the recipe asks for scenes that are too few or too small, or for other than 1 or 3
            channels.
    """
    require_folder(recipe, downloads=recipe.data == "fashion-scenes")
    return _scenes(recipe, masks=masks) if recipe.data == "fashion-scenes" else _coco(recipe, masks=masks)


def check_objects(recipe: DetectRecipe | SegmentRecipe, *, masks: bool) -> Iterator[str]:
    """Walks the whole data set of a recipe and lists everything that is wrong with it.

    Where `load_objects` stops at the first fault and opens a few images, this goes on, opens them all and
    decodes every mask.

    Args:
        recipe: names the data.
        masks: whether objects need masks.

    Yields:
        One line for each fault, as soon as it is found: what is wrong with the files, with their entries,
        with images and masks; and images that are in two splits.

    Raises:
        DataError: if no folder is given.
    """
    require_folder(recipe, downloads=recipe.data == "fashion-scenes")
    try:
        if recipe.data == "fashion-scenes":
            load_objects(recipe, masks=masks)
            return
        places = _places(recipe)
    except DataError as error:
        yield str(error)
        return
    files: dict[str, CocoFile] = {}
    for split, place in places.items():
        try:
            files[split] = read_coco(place, masks=masks)
        except DataError as error:
            yield str(error)
    for file in files.values():
        yield from file.findings
        yield from file.faulty
    yield from _category_differences(files)
    for file in files.values():
        images = CocoImages(file, masks=masks, in_chans=3)
        for index in range(len(images)):
            yield from images.findings(index)
    yield from shared_files({split: [image.path for image in file.images] for split, file in files.items()})


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


def _coco(recipe: DetectRecipe | SegmentRecipe, *, masks: bool) -> Data[DetectMeta]:
    if recipe.in_chans not in (None, 1, 3):
        raise ValueError(f"in_chans must be 1 (grey), 3 (RGB) or left out; got {recipe.in_chans}")
    files = {split: read_coco(place, masks=masks) for split, place in _places(recipe).items()}
    findings = [
        *(finding for file in files.values() for finding in file.findings),
        *_category_differences(files),
    ]
    if findings:
        raise DataError(findings[0])
    for file in files.values():
        if file.faulty and not recipe.skip_faulty:
            raise DataError(file.faulty[0])
        if file.faulty:
            logger.warning(
                "%s: annotations left out for %d faults; %s", file.path, len(file.faulty), file.faulty[0]
            )
    in_chans = recipe.in_chans or find_channels([image.path for image in files["train"].images])
    sets = {
        split: CocoImages(file, masks=masks, in_chans=in_chans, skip_faulty=recipe.skip_faulty)
        for split, file in files.items()
    }
    train, val = sets["train"], sets.get("val")
    mean, std = mean_and_std([train.image(position) for position in spread(len(train))])
    for images in sets.values():
        for position in spread(len(images), most=PROBED):
            images[position]
    if val is None:
        labels = _rarest_classes(files["train"].images)
        train, val = carve(train, fraction=recipe.val, seed=recipe.seed, labels=labels)
    sizes = [image.size for file in files.values() for image in file.images]
    return Data(
        train=train,
        val=val,
        test=sets["test"],
        meta=DetectMeta(
            classes=tuple(files["train"].categories.values()),
            category_ids=tuple(files["train"].categories),
            masks=masks,
            in_chans=in_chans,
            mean=mean,
            std=std,
            min_size=max(map(min, sizes)),
            max_size=max(map(max, sizes)),
        ),
    )


def _places(recipe: DetectRecipe | SegmentRecipe) -> dict[str, CocoPlace]:
    return find_coco(recipe.data_dir, train=recipe.train_split, val=recipe.val_split, test=recipe.test_split)


def _category_differences(files: Mapping[str, CocoFile]) -> Iterator[str]:
    """Where the categories of a file differ from those of the first, a line each."""
    all_files = list(files.values())
    for other in all_files[1:]:
        first = all_files[0]
        for number in sorted(first.categories.keys() | other.categories.keys()):
            names = [file.categories.get(number) for file in (first, other)]
            if names[0] != names[1]:
                yield (
                    f"{other.path}: category {number} is {names[1] or 'missing'!r}, and "
                    f"{names[0] or 'missing'!r} in {first.path}; give all files the same categories"
                )


def _rarest_classes(images: Sequence[CocoImage]) -> list[int] | None:
    """The rarest class in each image, 0 without objects; None where a class has a single image."""
    counts = np.bincount(np.concatenate([image.objects.labels for image in images]))
    rarest = [
        min(image.objects.labels.tolist(), key=lambda label: (counts[label], label), default=0)
        for image in images
    ]
    return rarest if min(Counter(rarest).values()) >= 2 else None
