"""Image files: decoded to 8 bits and upright, listed with their labels, and measured."""

import logging
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps
from torch.utils.data import Dataset

from crosshead.tasks.depth import FORMATS, deep_colours, eight_bit, stated_bits
from crosshead.tasks.spread import spread
from crosshead.tasks.task import DataError

logger = logging.getLogger(__name__)

_GREY = {"1", "L", "LA", "I;16", "I;16B", "I;16L"}

_ORIENTATION = ExifTags.Base.Orientation
# EXIF orientations of images that lie on their side.
_ON_SIDE = range(5, 9)


def read_image(
    path: str | Path,
    *,
    mode: Literal["L", "RGB"] = "RGB",
    side: int | None = None,
    bits: int | None = None,
) -> Image.Image:
    """Reads and decodes one image file, upright.

    White is the largest value of the bits that the file states: 65535 of a PNG or TIFF of 16 bits, 4095 of
    a TIFF of 12. Where a camera's 12 bits are stored in 16, the file does not say so, and the image would
    come out black: `bits` says it, for all images of a set alike (`find_bits`). Without, a file of 16 bits a
    channel is refused if no value is above 4095 (a grey one may be 0 throughout). So no image is brightened
    by a guess of its own.

    Args:
        path: the file; its content decides the format, not its name.
        mode: "RGB", or "L" for grey.
        side: the width and height in pixels that the image must have; None for any.
        bits: how many bits of a channel are used where a file has more than 8: white is 2 ** bits - 1, and
            what is above is white too; None for as many as the file states.

    Returns:
        The image, 8 bits a channel, turned as its EXIF orientation says.

    Raises:
        DataError: if the file is missing, truncated, not an image, so large that Pillow suspects a
            decompression bomb, of 16 bits that hold 12 or fewer, or not of `side` x `side` pixels.

    Example:
        >>> from tempfile import mkdtemp
        >>> path = Path(mkdtemp(), "white.png")
        >>> Image.new("L", (6, 4), "white").save(path)
        >>> image = read_image(path)
        >>> image.mode, image.size
        ('RGB', (6, 4))
    """
    # A pipe would be waited for, and nobody writes to it.
    if Path(path).exists() and not Path(path).is_file():
        raise DataError(f"{path}: not a regular file; give an image file")
    try:
        with Image.open(path, formats=FORMATS) as image:
            stated = stated_bits(image)
            image.load()
            seen = deep_colours(path, image, bits) if bits and stated == 16 else image
            upright = eight_bit(_upright(seen), 8 if seen is not image else stated, bits).convert(mode)
    # Pillow's decoders meet damaged files with almost any exception there is.
    except Exception as error:
        raise _unreadable(path, error) from error
    if side is not None and upright.size != (side, side):
        width, height = upright.size
        raise DataError(
            f"{path}: {width} x {height} pixels, not {side} x {side}; resize or replace the file, or leave "
            "it out"
        )
    return upright


class ImageFiles(Dataset[tuple[Image.Image, int]]):
    """Labelled image files, decoded when they are asked for.

    An unreadable file is reported once, by a warning with the count so far, and the next readable file of the
    list stands in for it, with that file's own label: the same one in every epoch and every worker. Worker
    processes share the record of what is unreadable.

    Args:
        paths: the files.
        labels: integers, (N,).
        root: the folder that messages about the whole set name.
        side: the width and height in pixels that every image must have; None for any.
        bits: as `read_image` takes it.

    Raises:
        ValueError: if there are not as many labels as paths.

    Example:
        >>> from tempfile import mkdtemp
        >>> path = Path(mkdtemp(), "white.png")
        >>> Image.new("RGB", (4, 4), "white").save(path)
        >>> image, label = ImageFiles([str(path)], np.array([7]), root=path.parent)[0]
        >>> image.size, label
        ((4, 4), 7)
    """

    def __init__(
        self,
        paths: Sequence[str],
        labels: np.ndarray,
        *,
        root: Path,
        side: int | None = None,
        bits: int | None = None,
    ) -> None:
        if len(paths) != len(labels):
            raise ValueError(f"paths are {len(paths)} and labels {len(labels)}; give one label for each path")
        self.paths = paths
        self.labels = labels
        self.root = root
        self.side = side
        self.bits = bits
        self._unreadable = torch.zeros(len(paths), dtype=torch.bool).share_memory_()

    @property
    def tolerated(self) -> int:
        """How many files may be unreadable: one in a hundred, or five in a small set."""
        return max(5, len(self) // 100)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        """Decodes an image, or the next readable one.

        Args:
            index: position in `paths`.

        Returns:
            The image, mode "RGB", and its label.

        Raises:
            DataError: if more files than `tolerated`, or all of them, are unreadable.
        """
        start = range(len(self))[index]
        for position in chain(range(start, len(self)), range(start)):
            image = self._read(position)
            if image is not None:
                return image, int(self.labels[position])
        raise DataError(f"{self.root}: none of its {len(self)} images is readable; replace the files")

    def probe(self, count: int = 32) -> None:
        """Decodes a few images spread over the set, so that a broken set is refused before work starts on it.

        Args:
            count: how many.

        Raises:
            DataError: if all of them, or more than `tolerated`, are unreadable.
        """
        positions = spread(len(self), most=count)
        if all(self._read(position) is None for position in positions):
            raise DataError(
                f"{self.root}: none of {len(positions)} images tried is readable, "
                f"{self.paths[positions[0]]} for one; replace the files"
            )

    def _read(self, position: int) -> Image.Image | None:
        if self._unreadable[position]:
            return None
        try:
            return read_image(self.paths[position], side=self.side, bits=self.bits)
        except DataError as error:
            self._unreadable[position] = True
            unreadable = int(self._unreadable.sum())
            logger.warning("%s (%d unreadable of %d; the next image stands in)", error, unreadable, len(self))
            if unreadable > self.tolerated:
                raise DataError(
                    f"{self.root}: {unreadable} of {len(self)} images are unreadable, more than the "
                    f"{self.tolerated} that are tolerated; the last is {error}"
                ) from error
            return None


def find_channels(paths: Sequence[Path]) -> Literal[1, 3]:
    """How many channels the images of a set have, judged by a few spread over it.

    Args:
        paths: the image files, one or more.

    Returns:
        1 if all of these few are grey, else 3.

    Raises:
        DataError: if a file cannot be read.

    Example:
        >>> from tempfile import mkdtemp
        >>> path = Path(mkdtemp(), "grey.png")
        >>> Image.new("L", (6, 4)).save(path)
        >>> find_channels([path])
        1
    """
    return 1 if {_mode(paths[position]) for position in spread(len(paths))} <= _GREY else 3


def image_size(path: str | Path) -> tuple[int, int]:
    """Width and height in pixels of an image as `read_image` gives it, upright; no pixel is decoded.

    Raises:
        DataError: if the file cannot be read.

    Example:
        >>> from tempfile import mkdtemp
        >>> path = Path(mkdtemp(), "wide.png")
        >>> Image.new("L", (6, 4)).save(path)
        >>> image_size(path)
        (6, 4)
    """
    try:
        with Image.open(path, formats=FORMATS) as image:
            size = image.size
            try:
                on_side = image.getexif().get(_ORIENTATION) in _ON_SIDE
            # `read_image` takes such an image as it lies.
            except Exception:
                on_side = False
    except Exception as error:
        raise _unreadable(path, error) from error
    return (size[1], size[0]) if on_side else size


def channel_mode(in_chans: int) -> Literal["L", "RGB"]:
    """Pillow's mode for images of one or three channels.

    Example:
        >>> channel_mode(3)
        'RGB'
    """
    return "L" if in_chans == 1 else "RGB"


def mean_and_std(images: Sequence[Image.Image]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of every channel over all pixels of some images, scaled to 0..1.

    Args:
        images: one or more, all of one mode, "L" or "RGB"; each of its own size.

    Returns:
        The means and the standard deviations, a value for each channel. Of images that are flat, a standard
        deviation is 1: there is nothing to scale.

    Example:
        >>> mean_and_std([Image.new("L", (2, 1), 0), Image.new("L", (2, 1), 255)])
        ((0.5,), (0.5,))
    """
    counts = np.sum([image.histogram() for image in images], axis=0).reshape(-1, 256)
    values, total = np.arange(256) / 255, counts.sum(axis=1)
    mean = counts @ values / total
    std = np.sqrt((counts * (values - mean[:, None]) ** 2).sum(axis=1) / total)
    return tuple(mean.tolist()), tuple(value or 1.0 for value in std.tolist())


def _mode(path: Path) -> str:
    try:
        with Image.open(path, formats=FORMATS) as image:
            return image.mode
    except Exception as error:
        raise _unreadable(path, error) from error


def _unreadable(path: str | Path, error: Exception) -> DataError:
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return DataError(
        f"{path}: not readable as an image ({reason}); repair or replace the file, or leave it out"
    )


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    # Damaged EXIF is common in photographs that are otherwise sound, and raises almost anything.
    except Exception as error:
        logger.debug("EXIF orientation not readable (%s); the image is taken as it lies", error)
        return image
