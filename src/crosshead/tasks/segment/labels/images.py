from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from torch.utils.data import Dataset

from crosshead.tasks.dense_splits import SegmentationSplits, ignored_label
from crosshead.tasks.image_measures import band_mode, find_bands, mean_and_std, spread
from crosshead.tasks.images import read_image
from crosshead.tasks.segment.labels.classes import find_classes
from crosshead.tasks.segment.labels.layout import LabelledPairs, find_label_folders, pair_labels
from crosshead.tasks.segment.labels.values import read_labels
from crosshead.tasks.task import DataError

# Images of the held-out split that are opened before work starts.
PROBED = 8


def load_label_images(
    data_dir: str | Path | None,
    *,
    ignore_index: int | None = 255,
    reduce_zero_label: bool = False,
    classes: Sequence[str] | None = None,
    train: str | None = None,
    test: str | None = None,
    in_chans: int | None = None,
) -> SegmentationSplits:
    """Load images with label images of the same size, as folders.

    A label image is a grey or palette PNG (TIFF, BMP, GIF) of class indices. Names of classes are those
    given, or the lines of `classes.txt` in the folder: then the value of a pixel is the position of its
    class. Without either, all label images are read, and each value that occurs is a class named after it, in
    ascending order: a mask of 0 and 255 has classes "0" and "255" (with `ignore_index=None`).

    Args:
        data_dir: A folder with `{train,val}/{images,labels}/NAME.ext` or
            `{images,labels}/{train,val}/NAME.ext`; labels/ may be called masks/ or annotations/, the splits
            train or training, and val, test, valid, validation or testing.
        ignore_index: The value in the files of pixels that have no class, or None where all have one.
        reduce_zero_label: Whether 0 also stands for no class and the values of the classes begin at 1, as in
            ADE20K.
        classes: Names of the classes, in the order of the labels.
        train: The name of the split to learn from, where it has another name.
        test: The name of the split to measure on, likewise.
        in_chans: 1 or 3; by default 1 where all images are grey, else 3.

    Returns:
        Images of any size with their labels. Whatever `ignore_index` is in the files, the ignored label is
        255, or 65535 beside more than 255 classes.

    Raises:
        DataError: When a folder is missing, an image or a label image has no partner, there are fewer than
            two classes, sizes differ, or a label image has colours or the value of no class.
        ValueError: When `in_chans` is neither 1 nor 3, or `ignore_index` is no value of 16 bits or that of a
            class with a name.

    Example:
        >>> load_label_images("no/such/folder")
        Traceback (most recent call last):
            ...
        crosshead.tasks.task.DataError: no/such/folder: no such folder; give data_dir a folder that exists
    """
    if in_chans not in (None, 1, 3):
        raise ValueError(f"in_chans is {in_chans}; give 1 (grey), 3 (RGB) or None")
    pairs = [pair_labels(*folders) for folders in find_label_folders(data_dir, train=train, test=test)]
    for finding in (finding for part in pairs for finding in part.findings):
        raise DataError(finding)
    names, table = find_classes(
        data_dir, pairs, classes=classes, ignore_index=ignore_index, reduce_zero_label=reduce_zero_label
    )
    bands = in_chans or find_bands(pairs[0].images)
    first, second = (LabelImages(part, table=table, in_chans=bands) for part in pairs)
    sizes = [_sides(path) for part in pairs for path in part.images]
    mean, std = mean_and_std([first[position][0] for position in spread(len(first))])
    for position in spread(len(second), most=PROBED):
        second[position]
    return SegmentationSplits(
        train=first,
        test=second,
        classes=names,
        ignore_index=ignored_label(len(names)),
        in_chans=bands,
        min_size=max(map(min, sizes)),
        max_size=max(map(max, sizes)),
        mean=mean,
        std=std,
    )


class LabelImages(Dataset[tuple[Image.Image, np.ndarray]]):
    """Images with their labels, decoded when asked for.

    Args:
        pairs: The files.
        table: The label of each value, as `crosshead.tasks.segment.labels.values.label_table` gives it.
        in_chans: 1 or 3, to which images are brought.

    Example:
        >>> from tempfile import mkdtemp
        >>> from crosshead.tasks.segment.labels.values import label_table
        >>> path = Path(mkdtemp(), "both.png")
        >>> Image.new("L", (6, 4), 1).save(path)
        >>> pairs = LabelledPairs(folder=path.parent, images=[path], labels=[path])
        >>> image, labels = LabelImages(pairs, table=label_table([0, 1], ignored=[]), in_chans=1)[0]
        >>> image.size, labels.shape, int(labels.max())
        ((6, 4), (4, 6), 1)
    """

    def __init__(self, pairs: LabelledPairs, *, table: np.ndarray, in_chans: int) -> None:
        self.pairs = pairs
        self.table = table
        self.in_chans = in_chans

    def __len__(self) -> int:
        return len(self.pairs.images)

    def __getitem__(self, index: int) -> tuple[Image.Image, np.ndarray]:
        """Decode an image and its labels.

        Args:
            index: Position in the order of names.

        Returns:
            The image, and its labels, (height, width).

        Raises:
            DataError: When either is unreadable, their sizes differ, or a value is that of no class.
        """
        path, label_path = self.pairs.images[index], self.pairs.labels[index]
        image = read_image(path, mode=band_mode(self.in_chans))
        labels = read_labels(label_path, table=self.table)
        if labels.shape != image.size[::-1]:
            raise DataError(
                f"{label_path}: {labels.shape[1]} x {labels.shape[0]} pixels, and {path} has {image.width} x "
                f"{image.height}; make them the same size"
            )
        return image, labels


def _sides(path: Path) -> tuple[int, int]:
    try:
        with Image.open(path) as image:
            return image.size
    except Exception as error:
        raise DataError(
            f"{path}: not readable as an image; repair or replace the file, or leave it out"
        ) from error
