"""One image file of any number of channels, as numbers: what a sensor measured, not a picture to look at."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.lib.format import open_memmap
from PIL import Image, ImageSequence

from crosshead.tasks.task import DataError

SUFFIXES = (".png", ".tif", ".tiff", ".jpg", ".jpeg", ".bmp", ".webp", ".npy")
# What a binary map has for changed.
WHITE = 255
# More than the sensors of today have; what is beyond has its axes in another order, or is damaged.
MAX_CHANNELS = 1024
# Pillow recognises a file by its content, and some of its formats start other programs (EPS does).
_FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP")

T = TypeVar("T")


def read_shape(path: str | Path, *, palette: bool = False) -> tuple[int, int, int]:
    """What the header of a file says of its image; no pixel is decoded.

    Args:
        path: a file with one of the `SUFFIXES`.
        palette: whether the indices of a palette image count, one channel, and not its colours.

    Returns:
        Channels, height and width.

    Raises:
        DataError: if the file is not readable, its pages differ in size, or it does not hold 1 to
            `MAX_CHANNELS` channels of real numbers.
    """
    if _is_array(path):
        array = _readable(path, lambda: open_memmap(path, mode="r"))
        if array.ndim not in (2, 3) or not array.size or array.dtype.kind not in "buif":
            raise DataError(
                f"{path}: {array.dtype.name} of shape {array.shape}; save real numbers as "
                "(channels, height, width)"
            )
        pages = [(1, *array.shape)[-3:]]
    else:
        pages = _readable(path, lambda: [_page_shape(page, palette) for page in _pages(path)])
    channels = sum(page[0] for page in pages)
    if channels > MAX_CHANNELS:
        raise DataError(
            f"{path}: {channels} channels, more than {MAX_CHANNELS}; save it as (channels, height, width)"
        )
    if len({page[1:] for page in pages}) > 1:
        raise DataError(f"{path}: its pages differ in size; save channels of one size, or one by one")
    _, height, width = pages[0]
    return channels, height, width


def read_channels(path: str | Path) -> np.ndarray:
    """Reads every channel of one file.

    Of an image file each band is a channel, transparency too, and in a TIFF of several pages each page adds
    its own. A .npy file holds (channels, height, width) or (height, width). The image is taken as it lies in
    the file, whatever its EXIF says of the orientation.

    Args:
        path: a file with one of the `SUFFIXES`.

    Returns:
        (channels, height, width): uint8 where the file has 8 bits a channel, else float32, not rescaled.

    Raises:
        DataError: if `read_shape` refuses the file, it is damaged, or a value is not finite.

    Example:
        >>> from tempfile import mkdtemp
        >>> path = Path(mkdtemp(), "scene.npy")
        >>> np.save(path, np.zeros((13, 4, 6), np.uint16))
        >>> read_shape(path), read_channels(path).dtype.name
        ((13, 4, 6), 'float32')
    """
    image = _read(path, palette=False)
    if image.dtype == np.bool_:
        image = image.astype(np.uint8)
    if image.dtype != np.uint8:
        # A value beyond float32 becomes infinite, which the next lines report.
        with np.errstate(over="ignore"):
            image = image.astype(np.float32)
    missing = image.size - int(np.isfinite(image).sum())
    if missing:
        raise DataError(f"{path}: {missing} of its {image.size} values are not finite; fill them")
    return image


def are_binary(paths: Sequence[str | Path]) -> bool:
    """Whether some label maps hold 0 and 255 alone, and both; those that cannot be read are passed over.

    Example:
        >>> from tempfile import mkdtemp
        >>> path = Path(mkdtemp(), "label.png")
        >>> Image.fromarray(np.array([[0, 255]], np.uint8)).save(path)
        >>> are_binary([path])
        True
    """
    white = False
    for path in paths:
        try:
            values = np.unique(_read(path, palette=True))
        except DataError:
            continue
        if not np.isin(values, (0, WHITE)).all():
            return False
        white = white or WHITE in values
    return white


def read_label(path: str | Path, *, num_classes: int, binary: bool = False) -> np.ndarray:
    """Reads a sparse label map.

    Args:
        path: a file of one channel with one of the `SUFFIXES`; of a palette image the indices count.
            Compression with losses would change labels, so JPEG is refused.
        num_classes: values lie in 0..num_classes, at most 255; 0 stands for unlabelled.
        binary: whether the values are 0 and 255, which stand for 1 and 2.

    Returns:
        uint8, (height, width).

    Raises:
        DataError: if the file is not readable, has several channels, or a value stands for no class.

    Example:
        >>> from tempfile import mkdtemp
        >>> path = Path(mkdtemp(), "label.png")
        >>> Image.fromarray(np.array([[0, 1], [2, 255]], np.uint8)).save(path)
        >>> read_label(path, num_classes=2)[0, 0]
        Traceback (most recent call last):
            ...
        crosshead.tasks.task.DataError: ...: value 255 at row 1, column 1; 0 is unlabelled, 1..2 are classes
    """
    if Path(path).suffix.lower() in (".jpg", ".jpeg"):
        raise DataError(f"{path}: a JPEG, whose losses change labels; save it as PNG")
    label, *others = _read(path, palette=True)
    if others:
        raise DataError(
            f"{path}: {1 + len(others)} channels in a label map; save one channel of class numbers"
        )
    if binary:
        label = np.where(label == WHITE, 2, np.where(label == 0, 1, label))
    wrong = np.argwhere(~((label >= 0) & (label <= num_classes) & (label == np.floor(label))))
    if len(wrong):
        row, column = wrong[0]
        raise DataError(
            f"{path}: value {label[row, column]} at row {row}, column {column}; 0 is unlabelled, "
            f"1..{num_classes} are classes"
        )
    return label.astype(np.uint8)


def _read(path: str | Path, *, palette: bool) -> np.ndarray:
    shape = read_shape(path, palette=palette)
    if _is_array(path):
        return _readable(path, lambda: np.load(path, allow_pickle=False)).reshape(shape)
    return np.concatenate(_readable(path, lambda: [_decoded(page, palette) for page in _pages(path)]))


def _readable(path: str | Path, read: Callable[[], T]) -> T:
    try:
        if Path(path).exists() and not Path(path).is_file():
            # Of a named pipe nobody knows whether anything will ever be written into it.
            raise ValueError("not a regular file")
        return read()
    # Decoders meet damaged files with almost any exception there is.
    except Exception as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise DataError(
            f"{path}: not readable as an image ({reason}); replace it, or save channels as .npy or one by one"
        ) from error


def _is_array(path: str | Path) -> bool:
    return Path(path).suffix.lower() == ".npy"


def _pages(path: str | Path) -> Iterator[Image.Image]:
    """The pages of an image file, one after another; none is decoded yet."""
    with warnings.catch_warnings():
        # Satellite scenes are large; what Pillow takes for a bomb it still refuses.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        with Image.open(path, formats=_FORMATS) as image:
            pages = ImageSequence.Iterator(image) if image.format == "TIFF" else [image]
            for number, page in enumerate(pages):
                if number == MAX_CHANNELS:
                    raise ValueError(f"more than {MAX_CHANNELS} pages")
                yield page


def _page_shape(page: Image.Image, palette: bool) -> tuple[int, int, int]:
    channels = 3 if page.mode == "P" and not palette else len(page.getbands())
    return channels, page.height, page.width


def _decoded(page: Image.Image, palette: bool) -> np.ndarray:
    array = np.asarray(page.convert("RGB") if page.mode == "P" and not palette else page)
    return array[None] if array.ndim == 2 else array.transpose(2, 0, 1)
