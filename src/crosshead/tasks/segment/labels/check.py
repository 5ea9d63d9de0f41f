from collections.abc import Iterator, Sequence
from pathlib import Path

from crosshead.tasks.segment.labels.classes import find_classes
from crosshead.tasks.segment.labels.images import LabelImages
from crosshead.tasks.segment.labels.layout import find_label_folders, pair_labels
from crosshead.tasks.segment.labels.values import VALUES, label_table
from crosshead.tasks.shared_files import shared_files
from crosshead.tasks.task import DataError


def check_label_images(
    data_dir: str | Path | None,
    *,
    ignore_index: int | None = 255,
    reduce_zero_label: bool = False,
    classes: Sequence[str] | None = None,
    train: str | None = None,
    test: str | None = None,
) -> Iterator[str]:
    """Walk whole folders of images and label images and list everything that is wrong with them.

    Args:
        data_dir: As in `load_label_images`.
        ignore_index: As in `load_label_images`.
        reduce_zero_label: As in `load_label_images`.
        classes: As in `load_label_images`.
        train: As in `load_label_images`.
        test: As in `load_label_images`.

    Yields:
        One line for each fault, as soon as it is found; and images that are in both splits.

    Example:
        >>> list(check_label_images("no/such/folder"))
        ['no/such/folder: no such folder; give data_dir a folder that exists']
    """
    try:
        pairs = [pair_labels(*folders) for folders in find_label_folders(data_dir, train=train, test=test)]
    except DataError as error:
        yield str(error)
        return
    for part in pairs:
        yield from part.findings
    said = None
    try:
        _, table = find_classes(
            data_dir, pairs, classes=classes, ignore_index=ignore_index, reduce_zero_label=reduce_zero_label
        )
    except DataError as error:
        said = str(error)
        yield said
        # Every value is taken, so that sizes and files are looked at all the same.
        table = label_table(range(VALUES), ignored=())
    for part in pairs:
        images = LabelImages(part, table=table, in_chans=3)
        for index in range(len(images)):
            try:
                images[index]
            except DataError as error:
                if str(error) != said:
                    yield str(error)
    yield from shared_files(*(part.images for part in pairs))
