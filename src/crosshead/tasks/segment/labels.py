"""Label images: the values in the files, and the label that each value stands for."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from crosshead.tasks.task import DataError

# Of 16 bits. The last one is kept for pixels without a class.
VALUES = 1 << 16
# In a table: no class has this value.
UNKNOWN = -1

_FORMATS = ("PNG", "TIFF", "BMP", "GIF", "JPEG")
_MODES = ("P", "L", "1", "I;16", "I;16B", "I;16L", "I")
_COLOURS = ("RGB", "RGBA", "LA")


def ignored_label(num_classes: int) -> int:
    """The label that stands for pixels without one, beside a number of classes.

    Example:
        >>> ignored_label(150), ignored_label(300)
        (255, 65535)
    """
    return 255 if num_classes <= 255 else VALUES - 1


def label_table(values: Sequence[int], *, ignored: Sequence[int]) -> np.ndarray:
    """The label of each value that a file may hold.

    Args:
        values: the value of each class, in the order of the labels.
        ignored: values that stand for no class.

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
    """Reads a label image as labels.

    Args:
        path: the file.
        table: as `label_table` gives it.

    Returns:
        uint8, or uint16 for a table with larger labels, (height, width).

    Raises:
        DataError: as `read_label_image`, and if a value belongs to no class.

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
        known = np.flatnonzero(table != UNKNOWN)
        runs = np.split(known, np.flatnonzero(np.diff(known) > 1) + 1)
        ranges = (f"{run[0]}..{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)
        raise DataError(
            f"{path}: value {values[row, column]} at column {column}, row {row} is not a class; known are "
            f"{', '.join(ranges)}; correct it, or name more classes"
        )
    return labels.astype(np.uint8 if table.max() <= 255 else np.uint16)


def read_label_image(path: Path) -> np.ndarray:
    """Reads the values of a label image as they are: palette indices stay indices.

    Args:
        path: a grey or palette image of 8 or 16 bits: PNG, TIFF, BMP or GIF. One saved in colour is grey if
            its three channels are the same; transparency does not count.

    Returns:
        uint8 or uint16, (height, width).

    Raises:
        DataError: if the file is unreadable, has colours instead of indices, or is a JPEG, which does not
            keep values.
    """
    with opened(path, labels=True) as image:
        values = np.asarray(image)
    if values.ndim == 3:
        values = values[..., : 3 if values.shape[2] > 2 else 1]
        if (values != values[..., :1]).any():
            raise DataError(
                f"{path}: colours, and no colour map in the folder; write name:r,g,b:: for each class into "
                "labelmap.txt, or save class numbers as a grey or palette PNG"
            )
        values = values[..., 0]
    if values.dtype == bool:
        return values.astype(np.uint8)
    if values.min() < 0 or values.max() >= VALUES:
        raise DataError(f"{path}: label values up to {values.max()}; labels have 16 bits at most")
    return values if values.dtype == np.uint8 else values.astype(np.uint16)


@contextmanager
def opened(path: Path, *, labels: bool = False) -> Iterator[Image.Image]:
    """Opens an image file, which is not decoded yet, and says in a line what is wrong with it.

    Args:
        path: the file.
        labels: whether it has to be a label image, of values or of colours.

    Raises:
        DataError: if it cannot be read, also within the block, or is not a label image where it has to be.
    """
    try:
        with Image.open(path, formats=_FORMATS if labels else None) as image:
            if labels and image.format == "JPEG":
                raise DataError(f"{path}: a JPEG, which does not keep label values; save the labels as PNG")
            if labels and image.mode not in (*_MODES, *_COLOURS):
                raise DataError(
                    f"{path}: mode {image.mode}, not labels; save class indices as a grey or palette PNG"
                )
            yield image
    except DataError:
        raise
    # Pillow's decoders meet damaged files with almost any exception there is.
    except Exception as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise DataError(
            f"{path}: not readable as {'a label' if labels else 'an'} image ({reason}); repair or replace "
            "the file, or leave it out"
        ) from error


def require_regular(path: Path) -> None:
    """Refuses what is not a regular file: to open a named pipe would wait for ever.

    Raises:
        DataError: if it is a pipe, a device, a folder or a broken link.
    """
    if not path.is_file():
        raise DataError(f"{path}: not a regular file; put a file in its place, or leave it out")
