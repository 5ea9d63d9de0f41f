"""Everything that is wrong with images and label images, where loading stops at the first fault."""

from collections.abc import Iterator

from crosshead.tasks.segment.data import LabelImages
from crosshead.tasks.segment.folders import find_label_files
from crosshead.tasks.segment.labels import VALUES, find_classes, label_table
from crosshead.tasks.segment.recipe import SegmentRecipe
from crosshead.tasks.splits import shared_files
from crosshead.tasks.task import DataError, require_folder


def check_label_images(recipe: SegmentRecipe) -> Iterator[str]:
    """Walks whole folders of images and label images and decodes them all.

    Args:
        recipe: as in `load_label_images`.

    Yields:
        One line for each fault, as soon as it is found; and images that are in two splits.

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
        _, table = find_classes(recipe, [path for part in files.values() for path in part.labels])
    except DataError as error:
        said = str(error)
        yield said
        # Every value is taken, so that the files are looked at all the same.
        table = label_table(range(VALUES), ignored=())
    for part in files.values():
        images = LabelImages(part, table=table, in_chans=3)
        for index in range(len(images)):
            try:
                images[index]
            except DataError as error:
                if str(error) != said:
                    yield str(error)
    yield from shared_files({split: part.images for split, part in files.items()})
