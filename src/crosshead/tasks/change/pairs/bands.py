"""Images of any number of bands, as numbers: what a sensor measured, not a picture to look at."""

import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageSequence

from crosshead.tasks.task import DataError

SUFFIXES = (".png", ".tif", ".tiff", ".jpg", ".jpeg", ".bmp", ".webp", ".npy")
# Pillow recognises a file by its content, and some of its formats start other programs (EPS does).
_FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP")


def read_bands(path: str | Path) -> np.ndarray:
    """Read every band of one file.

    In an image file each channel is a band, one for transparency too, and in a TIFF of several pages each
    page adds its own. A .npy file holds (bands, height, width) or (height, width). The image is taken as it
    lies in the file, whatever its EXIF says of the orientation.

    Args:
        path: A file with one of the `SUFFIXES`.

    Returns:
        (bands, height, width): uint8 where the file has 8 bits a band, else float32, not rescaled.

    Raises:
        DataError: When the file is not readable, its pages differ in size, or a value is not finite.

    Example:
        >>> from tempfile import mkdtemp
        >>> path = Path(mkdtemp(), "scene.npy")
        >>> np.save(path, np.zeros((13, 4, 6), np.uint16))
        >>> bands = read_bands(path)
        >>> bands.shape, bands.dtype.name
        ((13, 4, 6), 'float32')
    """
    bands = _read(path, palette=False)
    if bands.dtype == np.bool_:
        bands = bands.astype(np.uint8)
    if bands.dtype != np.uint8:
        # A value beyond float32 becomes infinite, which the next lines report.
        with np.errstate(over="ignore"):
            bands = bands.astype(np.float32)
    missing = bands.size - int(np.isfinite(bands).sum())
    if missing:
        raise DataError(f"{path}: {missing} of its {bands.size} values are not finite; fill them")
    return bands


def read_label(path: str | Path, *, num_classes: int) -> np.ndarray:
    """Read a sparse label map.

    Args:
        path: A file of one band with one of the `SUFFIXES`; of a palette image the indices count. Compression
            with losses would change labels, so JPEG is refused.
        num_classes: Values lie in 0..num_classes; 0 stands for unlabelled.

    Returns:
        uint8, (height, width).

    Raises:
        DataError: When the file is not readable, has several bands, or a value stands for no class.

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
    bands = _read(path, palette=True)
    if len(bands) != 1:
        raise DataError(f"{path}: {len(bands)} bands in a label map; save one band of class numbers")
    label = bands[0]
    wrong = np.argwhere(~((label >= 0) & (label <= num_classes) & (label == np.floor(label))))
    if len(wrong):
        row, column = wrong[0]
        raise DataError(
            f"{path}: value {label[row, column]} at row {row}, column {column}; 0 is unlabelled, "
            f"1..{num_classes} are classes"
        )
    return label.astype(np.uint8)


def _read(path: str | Path, *, palette: bool) -> np.ndarray:
    try:
        array = np.load(path, allow_pickle=False) if _is_array(path) else _image_bands(path, palette)
    # Decoders meet damaged files with almost any exception there is.
    except Exception as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise DataError(
            f"{path}: not readable as an image ({reason}); replace it, or save bands as .npy or one by one"
        ) from error
    array = array[None] if array.ndim == 2 else array
    if array.ndim != 3 or array.size == 0 or array.dtype.kind not in "buif":
        raise DataError(
            f"{path}: {array.dtype.name} of shape {array.shape}; save real numbers as (bands, height, width)"
        )
    return array


def _is_array(path: str | Path) -> bool:
    return Path(path).suffix.lower() == ".npy"


def _image_bands(path: str | Path, palette: bool) -> np.ndarray:
    with warnings.catch_warnings():
        # Satellite scenes are large; what Pillow takes for a bomb it still refuses.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        with Image.open(path, formats=_FORMATS) as image:
            frames = ImageSequence.Iterator(image) if image.format == "TIFF" else [image]
            pages = [_channels(frame, palette) for frame in frames]
    if len({page.shape[1:] for page in pages}) > 1:
        raise ValueError("its pages differ in size")
    return np.concatenate(pages)


def _channels(image: Image.Image, palette: bool) -> np.ndarray:
    array = np.asarray(image.convert("RGB") if image.mode == "P" and not palette else image)
    return array[None] if array.ndim == 2 else array.transpose(2, 0, 1)
