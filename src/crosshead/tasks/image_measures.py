from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from crosshead.tasks.task import DataError

# Images whose brightness stands for that of all.
MEASURED = 64


def spread(count: int, *, most: int = MEASURED) -> list[int]:
    """Positions spread evenly over a set, the first and the last among them; always the same ones.

    Args:
        count: How many there are to choose from.
        most: How many to choose at most.

    Example:
        >>> spread(9, most=3)
        [0, 4, 8]
    """
    return np.unique(np.linspace(0, count - 1, min(count, most)).astype(int)).tolist()


def find_bands(paths: Sequence[Path]) -> Literal[1, 3]:
    """How many bands the images of a set have, told by a few spread over it.

    Args:
        paths: The image files, one or more.

    Returns:
        1 when all that were looked at are grey, else 3.

    Raises:
        DataError: When a file cannot be read.

    Example:
        >>> from tempfile import mkdtemp
        >>> path = Path(mkdtemp(), "grey.png")
        >>> Image.new("L", (6, 4)).save(path)
        >>> find_bands([path])
        1
    """
    grey = ("1", "L", "LA", "I;16", "I;16B", "I;16L")
    modes = [_mode(paths[position]) for position in spread(len(paths))]
    return 1 if all(mode in grey for mode in modes) else 3


def band_mode(in_chans: int) -> Literal["L", "RGB"]:
    """Pillow's mode for images of one or three bands.

    Example:
        >>> band_mode(3)
        'RGB'
    """
    return "L" if in_chans == 1 else "RGB"


def mean_and_std(images: Sequence[Image.Image]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of every band over all pixels of some images, scaled to 0..1.

    Args:
        images: One or more, all of one mode, "L" or "RGB"; each of its own size.

    Returns:
        The means and the standard deviations, a value for each band. Of images that are flat, a standard
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
        with Image.open(path) as image:
            return image.mode
    except Exception as error:
        raise DataError(
            f"{path}: not readable as an image; repair or replace the file, or leave it out"
        ) from error
