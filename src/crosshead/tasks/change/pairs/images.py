"""Pairs of images of one place at two dates, with sparse labels of what has changed."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from crosshead.tasks.change.pairs.files import find_pair_files, read_pair
from crosshead.tasks.task import DataError

CHANGE_CLASSES = ("unchanged", "changed")


@dataclass(frozen=True, kw_only=True, eq=False)
class ImagePair:
    """One place at two dates, co-registered.

    Attributes:
        name: What messages and predictions call it.
        before: (bands, height, width), uint8 or float32.
        after: The same shape.
        label: uint8, (height, width): 0 unlabelled, k the class `classes[k - 1]` of the set it belongs to.

    Raises:
        ValueError: When the shapes do not fit.

    Example:
        >>> image = np.zeros((6, 40, 30), np.uint8)
        >>> ImagePair(name="field", before=image, after=image, label=image[0]).size
        (40, 30)
    """

    name: str
    before: np.ndarray
    after: np.ndarray
    label: np.ndarray

    def __post_init__(self) -> None:
        if self.before.ndim != 3 or self.after.shape != self.before.shape:
            raise ValueError(
                f"before is {self.before.shape} and after {self.after.shape}; give both as one and the same "
                "(bands, height, width)"
            )
        if self.label.shape != self.size:
            raise ValueError(
                f"label is {self.label.shape}; give it the (height, width) {self.size} of before"
            )

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.before.shape[1], self.before.shape[2]


@dataclass(frozen=True, kw_only=True)
class ImagePairs:
    """Image pairs of one sensor.

    Attributes:
        pairs: One or more, of any sizes.
        bands: The name of each band, in the order in which all images have them.
        classes: The names of the label values 1, 2 and so on.

    Example:
        >>> image = np.zeros((1, 4, 4), np.uint8)
        >>> pair = ImagePair(name="field", before=image, after=image, label=image[0])
        >>> ImagePairs(pairs=(pair,), bands=("red",), classes=CHANGE_CLASSES).in_chans
        1
    """

    pairs: tuple[ImagePair, ...]
    bands: tuple[str, ...]
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        counts = {len(pair.before) for pair in self.pairs}
        if counts != {len(self.bands)}:
            raise ValueError(
                f"pairs have {sorted(counts)} bands and bands is {self.bands}; give one name for each band, "
                "and one pair or more, all with the same bands"
            )

    @property
    def in_chans(self) -> int:
        """How many bands an image has."""
        return len(self.bands)


def load_image_pairs(data_dir: str | Path | None, *, classes: tuple[str, ...] = CHANGE_CLASSES) -> ImagePairs:
    """Load any folder of image pairs.

    The layout is `<data_dir>/{before,after,label}/`. Each file in label/ names a pair, `NAME.png`; in before/
    and in after/ lies `NAME.ext`, or one file for each band or group of bands, `NAME_<band>.ext`, or both.
    Files of a pair are joined in alphabetical order, `NAME.ext` first. Where the names of two pairs begin
    alike, a file belongs to the longer one. `read_bands` and `read_label` say what the files may be.

    Args:
        data_dir: The folder.
        classes: The names of the label values 1, 2 and so on.

    Returns:
        The pairs in alphabetical order, all of them in memory.

    Raises:
        DataError: With the first of the lines that `check_image_pairs` lists.

    Example:
        >>> load_image_pairs("no/such/folder")
        Traceback (most recent call last):
            ...
        crosshead.tasks.task.DataError: no/such/folder: no such folder; give data_dir a folder that exists
    """
    pairs: list[ImagePair] = []
    bands: tuple[str, ...] = ()
    for found in _read_all(data_dir, classes):
        if isinstance(found, str):
            raise DataError(found)
        pair, bands = found
        pairs.append(pair)
    return ImagePairs(pairs=tuple(pairs), bands=bands, classes=classes)


def check_image_pairs(
    data_dir: str | Path | None, *, classes: tuple[str, ...] = CHANGE_CLASSES
) -> Iterator[str]:
    """Walk a whole folder of image pairs and list everything that is wrong with it.

    Args:
        data_dir: As in `load_image_pairs`.
        classes: As in `load_image_pairs`.

    Yields:
        One line for each fault, naming the file: files missing or left over, unreadable ones, sizes and bands
        that differ, label values without a class.

    Example:
        >>> list(check_image_pairs("no/such/folder"))
        ['no/such/folder: no such folder; give data_dir a folder that exists']
    """
    yield from (found for found in _read_all(data_dir, classes) if isinstance(found, str))


def _read_all(
    data_dir: str | Path | None, classes: tuple[str, ...]
) -> Iterator[str | tuple[ImagePair, tuple[str, ...]]]:
    """What is wrong, a line each, and the pairs that are sound with the names of their bands."""
    try:
        sets, faults = find_pair_files(data_dir)
    except DataError as error:
        yield str(error)
        return
    yield from faults
    first: tuple[Path, tuple[str, ...]] | None = None
    for files in sets:
        arrays, faults = read_pair(files, num_classes=len(classes))
        yield from faults
        if arrays is None:
            continue
        place = next(iter(files.before.values()))
        if first is None:
            first = place, arrays.bands
        elif arrays.bands != first[1]:
            yield (
                f"{place}: bands {', '.join(arrays.bands)} where {first[0]} has {', '.join(first[1])}; "
                "all pairs need the same bands"
            )
            continue
        pair = ImagePair(name=files.name, before=arrays.before, after=arrays.after, label=arrays.label)
        yield pair, arrays.bands
