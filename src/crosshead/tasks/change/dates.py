"""Two dates that a user gives, as one pair that a net takes."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from crosshead.tasks.change.data import ChangeMeta
from crosshead.tasks.change.pairs import ImagePair, listed
from crosshead.tasks.change.read import read_channels, read_shape
from crosshead.tasks.sources import Input
from crosshead.tasks.task import DataError


def read_dates(meta: ChangeMeta, source: Any, *, position: int) -> Input:
    """A pair as a net takes it.

    Args:
        meta: of the pairs that the net was trained on.
        source: as many files or images for the earlier date as, after them, for the later one; the channels
            of a date are those of its files one after another. Images are images of PIL, arrays (height,
            width) or (height, width, channels), or tensors (channels, height, width), in the numbers that
            the files of the training hold.
        position: of the pair among those that were given, from 0 on; names it if it has no name.

    Raises:
        DataError: if a file cannot be read, or sizes or channels do not fit.
        ValueError: if the dates have not equally many files, or an array has no such form.
        TypeError: if the source is no tuple or list of such images.
    """
    if not isinstance(source, tuple | list):
        raise TypeError(
            f"a pair must be a tuple: the earlier date, then the later one; got {type(source).__name__}"
        )
    if len(source) % 2 or not source:
        raise ValueError(
            f"{len(source)} file{'s' if len(source) > 1 else ''} for two dates: give the files of the "
            "earlier date, then as many of the later one"
        )
    parts = [_Part.of(each, name=f"image-{position + 1}") for each in source]
    middle = len(parts) // 2
    for part in parts:
        if part.shape[1:] != parts[0].shape[1:]:
            raise DataError(
                f"{part.source}: {part.shape[2]} x {part.shape[1]} pixels, and {parts[0].source} has "
                f"{parts[0].shape[2]} x {parts[0].shape[1]}; give files of one size"
            )
    dates = parts[:middle], parts[middle:]
    for date in dates:
        channels = sum(part.shape[0] for part in date)
        if channels != meta.in_chans:
            raise DataError(
                f"{date[0].source}: {channels} channels in the files of its date, and the net takes "
                f"{meta.in_chans} ({listed(meta.bands)}); give as many files for each date as hold them"
            )
    before, after = (np.concatenate([part.read() for part in date]) for date in dates)
    name = Path(parts[0].source).stem
    nothing = np.zeros(parts[0].shape[1:], np.uint8)
    pair = ImagePair(name=name, before=before, after=after, label=nothing, bands=meta.bands)
    files = tuple(tuple(part.source for part in date) for date in dates)
    return Input(name=name, source=parts[0].source, content=(files, pair))


@dataclass(frozen=True)
class _Part:
    """One file or image of a date: its shape is known before a pixel is decoded."""

    source: str
    shape: tuple[int, ...]
    read: Callable[[], np.ndarray]

    @classmethod
    def of(cls, source: Any, *, name: str) -> "_Part":
        if isinstance(source, str | Path):
            return cls(str(source), read_shape(source), lambda: read_channels(source))
        if isinstance(source, Tensor):
            array = source.detach().cpu().numpy()
        elif isinstance(source, Image.Image | np.ndarray):
            array = np.asarray(source)
            array = array.transpose(2, 0, 1) if array.ndim == 3 else array
        else:
            raise TypeError(
                "a date must be paths, images of PIL, arrays or tensors; got " + type(source).__name__
            )
        array = array[None] if array.ndim == 2 else array
        if array.ndim != 3 or not np.isfinite(array).all():
            raise ValueError(f"a date must be one image of finite numbers; got the shape {array.shape}")
        return cls(name, array.shape, lambda: array)
