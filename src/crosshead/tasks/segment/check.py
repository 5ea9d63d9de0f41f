"""Everything that is wrong with labelled images, where loading stops at the first fault; what they hold."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from crosshead.tasks.counts import Counts
from crosshead.tasks.depth import find_bits
from crosshead.tasks.detect.annotated import AnnotatedImages, Annotations
from crosshead.tasks.detect.check import Parts, check_objects
from crosshead.tasks.segment.classes import ValueLegend, find_legend
from crosshead.tasks.segment.data import BACKGROUND, LabelImages, deal_label_images, paint_labels
from crosshead.tasks.segment.folders import find_label_files
from crosshead.tasks.segment.labels import VALUES, ignored_label, label_table
from crosshead.tasks.segment.recipe import SegmentRecipe
from crosshead.tasks.splits import shared_files
from crosshead.tasks.task import DataError, require_folder


def check_label_images(recipe: SegmentRecipe) -> Iterator[str | Counts]:
    """Walks whole folders of images and label images and decodes them all.

    Args:
        recipe: as in `load_label_images`.

    Yields:
        One line for each fault, as soon as it is found; and images that are in two splits. At the end what
        the splits hold, if the classes are known.

    Raises:
        DataError: if no folder is given.
        ValueError: if `ignore_index` is the value of a class with a name.
    """
    require_folder(recipe)
    try:
        files = find_label_files(recipe)
    except DataError as error:
        yield str(error)
        return
    for part in files.values():
        yield from part.findings
    said = None
    try:
        legend = find_legend(recipe, [path for part in files.values() for path in part.labels])
    except DataError as error:
        said = str(error)
        yield said
        # Every value is taken, so that the files are looked at all the same.
        legend = ValueLegend(classes=(), table=label_table(range(VALUES), ignored=()))
    bits = find_bits(files["train"].images)
    pixels: dict[str, list[np.ndarray]] = {}
    for split, part in files.items():
        images = LabelImages(part, legend=legend, in_chans=3, bits=bits)
        pixels[split] = []
        for index in range(len(images)):
            counts = np.zeros(len(legend.classes), int)
            try:
                _, labels = images[index]
                counts = np.bincount(labels.flatten(), minlength=len(counts))[: len(counts)]
            except DataError as error:
                if str(error) != said:
                    yield str(error)
            pixels[split].append(counts)
    yield from shared_files({split: part.images for split, part in files.items()})
    if said is None:
        try:
            yield count_pixels(legend.classes, pixels, deal_label_images(recipe, files))
        except DataError as error:
            yield str(error)


def check_objects_painted(recipe: SegmentRecipe) -> Iterator[str | Counts]:
    """Everything that is wrong with objects whose masks are to be painted: see `check_objects`."""
    return check_objects(recipe, masks=True, count=count_painted)


def count_painted(found: Mapping[str, Annotations], parts: Parts) -> Counts:
    """Images and pixels of each class by split, where the masks of objects are painted.

    Args:
        found: the annotations, whose masks are decoded once more; those that cannot be are left out.
        parts: the splits that are made of them.
    """
    classes = (BACKGROUND, *found["train"].categories.values())
    ignored = ignored_label(len(classes))
    pixels: dict[str, list[np.ndarray]] = {}
    for split, each in found.items():
        images = AnnotatedImages(each, masks=True, in_chans=3, skip_faulty=True)
        pixels[split] = []
        for index, image in enumerate(each.images):
            counts = np.zeros(len(classes), int)
            # That a file has no mask at all has been said.
            if image.segmentations is not None:
                labels = paint_labels(images.objects(index), ignore_index=ignored)
                counts = np.bincount(labels.flatten(), minlength=len(counts))[: len(counts)]
            pixels[split].append(counts)
    return count_pixels(classes, pixels, parts)


def count_pixels(
    classes: Sequence[str],
    pixels: Mapping[str, Sequence[np.ndarray]],
    parts: Parts,
) -> Counts:
    """Images and pixels of each class by split.

    Args:
        classes: their names.
        pixels: for each image of the splits of the folder the number of pixels of each class.
        parts: the splits that are made of them.
    """
    sums = {
        split: sum((pixels[source][position] for position in positions), np.zeros(len(classes), int))
        for split, (source, positions) in parts.items()
    }
    return Counts(
        totals={"images": {split: len(positions) for split, (_, positions) in parts.items()}},
        classes={
            f"pixels of {name}": {split: int(counts[label]) for split, counts in sums.items()}
            for label, name in enumerate(classes)
        },
    )
