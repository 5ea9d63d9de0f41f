from collections.abc import Iterator
from pathlib import Path

from crosshead.tasks.detect.coco.file import CocoFile, read_coco
from crosshead.tasks.detect.coco.images import CocoImages
from crosshead.tasks.detect.coco.layout import find_coco
from crosshead.tasks.detect.coco.objects import category_differences
from crosshead.tasks.shared_files import shared_files
from crosshead.tasks.task import DataError


def check_coco(
    data_dir: str | Path | None, *, masks: bool, train: str | None = None, test: str | None = None
) -> Iterator[str]:
    """Walk a whole data set in COCO format and list everything that is wrong with it.

    Where `load_coco` stops at the first fault and opens a few images, this goes on, opens them all and
    decodes every mask.

    Args:
        data_dir: As in `load_coco`.
        masks: Whether objects need masks.
        train: As in `load_coco`.
        test: As in `load_coco`.

    Yields:
        One line for each fault, as soon as it is found: what is wrong with the files, with their entries,
        with images and masks; and images that are in both splits.

    Example:
        >>> list(check_coco("no/such/folder", masks=True))
        ['no/such/folder: no such folder; give data_dir a folder that exists']
    """
    try:
        places = find_coco(data_dir, train=train, test=test)
    except DataError as error:
        yield str(error)
        return
    files: list[CocoFile] = []
    for place in places:
        try:
            files.append(read_coco(place, masks=masks))
        except DataError as error:
            yield str(error)
    for file in files:
        yield from file.findings
        yield from file.faulty
    if len(files) == 2:
        yield from category_differences(files)
    for file in files:
        images = CocoImages(file.images, file=file.path, masks=masks, in_chans=3)
        for index in range(len(images)):
            yield from images.findings(index)
    if len(files) == 2:
        train_images, test_images = ([image.path for image in file.images] for file in files)
        yield from shared_files(train_images, test_images)
