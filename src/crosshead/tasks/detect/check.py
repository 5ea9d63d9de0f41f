"""Everything that is wrong with annotated images, where loading stops at the first fault; what they hold."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from crosshead.tasks.counts import Counts
from crosshead.tasks.depth import find_bits
from crosshead.tasks.detect.annotated import AnnotatedImages, Annotations
from crosshead.tasks.detect.data import category_differences, clipped_boxes, deal_objects, load_objects
from crosshead.tasks.detect.formats import find_annotations
from crosshead.tasks.splits import shared_files
from crosshead.tasks.task import DataError, require_folder

if TYPE_CHECKING:
    from crosshead.tasks.detect.recipe import DetectRecipe
    from crosshead.tasks.segment.recipe import SegmentRecipe

# The splits that are made of those of a folder, as `deal` gives them.
Parts = Mapping[str, tuple[str, Sequence[int]]]


def count_objects(found: Mapping[str, Annotations], parts: Parts) -> Counts:
    """Images and objects of each class by split.

    Args:
        found: the annotations.
        parts: the splits that are made of them.
    """
    chosen = {
        split: [found[source].images[position] for position in positions]
        for split, (source, positions) in parts.items()
    }
    names = list(found["train"].categories.values())
    counted = {
        split: np.bincount(
            np.concatenate([np.zeros(0, int), *(image.objects.labels for image in images)]),
            minlength=len(names) + 1,
        )
        for split, images in chosen.items()
    }
    clipped = sum(each.clipped for each in found.values())
    return Counts(
        totals={
            "images": {split: len(images) for split, images in chosen.items()},
            "images without objects": {
                split: sum(not len(image.objects) for image in images) for split, images in chosen.items()
            },
        },
        classes={
            f"objects of {name}": {split: int(counts[label]) for split, counts in counted.items()}
            for label, name in enumerate(names, start=1)
        },
        notes=(clipped_boxes(clipped),) if clipped else (),
    )


def check_objects(
    recipe: DetectRecipe | SegmentRecipe,
    *,
    masks: bool,
    count: Callable[[Mapping[str, Annotations], Parts], Counts] = count_objects,
) -> Iterator[str | Counts]:
    """Walks the whole data set of a recipe and lists everything that is wrong with it.

    Where `load_objects` stops at the first fault and opens a few images, this goes on, opens them all and
    decodes every mask.

    Args:
        recipe: names the data.
        masks: whether objects need masks.
        count: says what the splits hold.

    Yields:
        One line for each fault, as soon as it is found: what is wrong with the files, with their entries,
        with images and masks; and images that are in two splits. At the end what the splits hold.

    Raises:
        DataError: if no folder is given, or there is none of that name.
    """
    require_folder(recipe, downloads=recipe.data == "fashion-scenes")
    try:
        if recipe.data == "fashion-scenes":
            load_objects(recipe, masks=masks)
            return
        readers = find_annotations(recipe)
    except DataError as error:
        yield str(error)
        return
    found: dict[str, Annotations] = {}
    for split, read in readers.items():
        try:
            found[split] = read(masks=masks)
        except DataError as error:
            yield str(error)
    for each in found.values():
        yield from each.findings
        yield from each.faulty
    yield from category_differences(found)
    bits = find_bits([image.path for image in found["train"].images]) if "train" in found else None
    for each in found.values():
        images = AnnotatedImages(each, masks=masks, in_chans=3, bits=bits)
        for index in range(len(images)):
            yield from images.findings(index)
    yield from shared_files({split: [image.path for image in each.images] for split, each in found.items()})
    if found.keys() == readers.keys():
        try:
            yield count(found, deal_objects(recipe, found))
        except DataError as error:
            yield str(error)
