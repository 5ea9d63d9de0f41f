from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from crosshead.tasks.dense_splits import ignored_label
from crosshead.tasks.task import DataError

# Of a table: no class has this value.
UNKNOWN = -1
# Of 16 bits.
VALUES = 1 << 16
_FORMATS = ("PNG", "TIFF", "BMP", "GIF", "JPEG")
_MODES = ("P", "L", "1", "I;16", "I;16B", "I;16L", "I")


def read_label_image(path: str | Path) -> np.ndarray:
    """Read the values of a label image as they are: palette indices stay indices.

    Args:
        path: A grey or palette image of 8 or 16 bits, PNG, TIFF, BMP or GIF.

    Returns:
        uint8 or uint16, (height, width).

    Raises:
        DataError: When the file is unreadable, has colours instead of indices, or is a JPEG, which does not
            keep values.

    Example:
        >>> from tempfile import mkdtemp
        >>> path = Path(mkdtemp(), "labels.png")
        >>> Image.fromarray(np.array([[0, 7]], np.uint8)).save(path)
        >>> read_label_image(path)
        array([[0, 7]], dtype=uint8)
    """
    try:
        with Image.open(path, formats=_FORMATS) as image:
            form, mode, values = image.format, image.mode, np.asarray(image)
    # Pillow's decoders meet damaged files with almost any exception there is.
    except Exception as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise DataError(
            f"{path}: not readable as a label image ({reason}); repair or replace the file, or leave it out"
        ) from error
    if form == "JPEG":
        raise DataError(f"{path}: a JPEG, which does not keep label values; save the labels as PNG")
    if mode not in _MODES:
        raise DataError(f"{path}: mode {mode}, not labels; save class indices as a grey or palette PNG")
    if values.dtype == bool:
        return values.astype(np.uint8)
    if values.min() < 0 or values.max() >= VALUES:
        raise DataError(f"{path}: label values up to {values.max()}; labels have 16 bits at most")
    return values if values.dtype == np.uint8 else values.astype(np.uint16)


def label_table(values: Sequence[int], *, ignored: Sequence[int]) -> np.ndarray:
    """The label of each value that a file may hold.

    Args:
        values: The value of each class, in the order of the labels.
        ignored: Values that stand for no class.

    Returns:
        int32, (65536,): a label, the ignored label, or -1 where no class has the value.

    Example:
        >>> label_table([0, 7], ignored=[255])[[0, 7, 255, 1]].tolist()
        [0, 1, 255, -1]
    """
    table = np.full(VALUES, UNKNOWN, np.int32)
    table[list(values)] = np.arange(len(values))
    table[list(ignored)] = ignored_label(len(values))
    return table


def read_labels(path: Path, *, table: np.ndarray) -> np.ndarray:
    """Read a label image as labels.

    Args:
        path: The file.
        table: As `label_table` gives it.

    Returns:
        uint8, or uint16 for a table with larger labels, (height, width).

    Raises:
        DataError: As `read_label_image`, and when a value belongs to no class.

    Example:
        >>> from tempfile import mkdtemp
        >>> path = Path(mkdtemp(), "labels.png")
        >>> Image.fromarray(np.array([[0, 7, 255]], np.uint8)).save(path)
        >>> read_labels(path, table=label_table([0, 7], ignored=[255]))
        array([[  0,   1, 255]], dtype=uint8)
    """
    values = read_label_image(path)
    labels = table[values]
    if labels.min() == UNKNOWN:
        row, column = np.argwhere(labels == UNKNOWN)[0]
        raise DataError(
            f"{path}: value {values[row, column]} at column {column}, row {row} is no class; known are "
            f"{_ranges(table)}; correct it, or name more classes"
        )
    return labels.astype(np.uint8 if table.max() <= 255 else np.uint16)


def _ranges(table: np.ndarray) -> str:
    known = np.flatnonzero(table != UNKNOWN)
    runs = np.split(known, np.flatnonzero(np.diff(known) > 1) + 1)
    return ", ".join(f"{run[0]}..{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)
