"""What a user gives a trained net to look at: files, folders, patterns, videos, and images in memory."""

import glob
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.datasets.folder import IMG_EXTENSIONS
from torchvision.transforms.v2 import functional as F

from crosshead.tasks.images import channel_mode, read_image
from crosshead.tasks.task import DataError
from crosshead.tasks.video import VIDEO_EXTENSIONS, read_frames


@dataclass(frozen=True)
class NamedImage:
    """An image in memory with a name of its own, such as a frame of a video.

    Attributes:
        image: the image.
        name: stem of the files that are made of it.
        source: where it comes from.
    """

    image: Image.Image
    name: str
    source: str


Source = str | Path | Image.Image | np.ndarray | Tensor | NamedImage


@dataclass(frozen=True, kw_only=True)
class Input:
    """What a net looks at, read and checked.

    Attributes:
        name: stem of the files that are made of it.
        source: the file, or a name for what came from memory.
        content: the image, in the mode that the net was trained on; of a change detection the pair.
    """

    name: str
    source: str
    content: Any


def find_sources(path: str | Path) -> Path | list[Path] | Iterator[NamedImage]:
    """What a path stands for.

    Args:
        path: an image file, a folder, a pattern such as `photos/*.jpg`, or a video.

    Returns:
        The file; the image files below the folder, or those that the pattern matches, in order of their
        names; the frames of the video, one after another.

    Raises:
        DataError: if the folder holds no image, or the pattern matches none.

    Example:
        >>> find_sources("photos/cat.jpg")
        PosixPath('photos/cat.jpg')
    """
    path = Path(path)
    if path.is_dir():
        # Like a shell, leaves hidden files out.
        every = (Path(folder, name) for folder, _, names in os.walk(path) for name in names)
        found = [
            each for each in every if not any(part.startswith(".") for part in each.relative_to(path).parts)
        ]
        return _images(found, f"{path}: no image below this folder; give one that holds images")
    if glob.has_magic(str(path)) and not path.exists():
        matches = Path(path.anchor).glob(str(path.relative_to(path.anchor)))
        return _images(matches, f"{path}: matches no image; check the pattern")
    if path.suffix.lower() in VIDEO_EXTENSIONS:
        frames = read_frames(path)
        return (
            NamedImage(frame, f"{path.stem}-{number:06d}", f"{path}#{number}")
            for number, frame in enumerate(frames)
        )
    return path


def read_input(source: Source, *, in_chans: int, position: int, bits: int | None = None) -> Input:
    """An image as a net takes it.

    Args:
        source: a file; or an image of PIL; or an array (height, width) or (height, width, channels) or a
            tensor (channels, height, width), of uint8, or of floats in 0 to 1.
        in_chans: channels of the net: 1 or 3. Colour is made grey and grey is made colour.
        position: of the source among those that were given, from 0 on; names it if it has no name.
        bits: as `read_image` takes it, for files.

    Raises:
        DataError: if a file cannot be read.
        ValueError: if an array or a tensor is no such image.
        TypeError: if the source is of another kind.

    Example:
        >>> read_input(np.zeros((4, 6, 3), np.uint8), in_chans=1, position=0)
        Input(name='image-1', source='image-1', content=<PIL.Image.Image image mode=L size=6x4 at ...>)
    """
    mode = channel_mode(in_chans)
    if isinstance(source, str | Path):
        image = read_image(source, mode=mode, bits=bits)
        return Input(name=Path(source).stem, source=str(source), content=image)
    if isinstance(source, NamedImage):
        return Input(name=source.name, source=source.source, content=source.image.convert(mode))
    name = f"image-{position + 1}"
    if not isinstance(source, Image.Image | np.ndarray | Tensor):
        raise TypeError(
            f"an image must be a path, an image of PIL, an array or a tensor; got {type(source).__name__}"
        )
    if not isinstance(source, Image.Image):
        return Input(name=name, source=name, content=_from_array(source).convert(mode))
    # What PIL has opened knows its file.
    file = str(getattr(source, "filename", "") or "")
    return Input(name=Path(file).stem if file else name, source=file or name, content=source.convert(mode))


def _from_array(source: np.ndarray | Tensor) -> Image.Image:
    if isinstance(source, Tensor):
        what, channels_at, tensor = "tensor", 0, source.detach().cpu()
        tensor = tensor[None] if tensor.ndim == 2 else tensor
    else:
        what, channels_at, tensor = "array", -1, torch.from_numpy(np.ascontiguousarray(source))
        tensor = tensor[..., None] if tensor.ndim == 2 else tensor
    if tensor.ndim != 3 or tensor.shape[channels_at] not in (1, 3, 4) or not tensor.numel():
        form = "(channels, height, width)" if what == "tensor" else "(height, width, channels)"
        raise ValueError(
            f"{what} must be {form} with 1, 3 or 4 channels; got {tuple(source.shape)}: move its axes"
        )
    tensor = tensor if what == "tensor" else tensor.permute(2, 0, 1)
    if tensor.dtype != torch.uint8:
        if not tensor.is_floating_point() or not 0 <= tensor.min() <= tensor.max() <= 1:
            raise ValueError(
                f"{what} must be of uint8, or of floats in 0 to 1; got {str(tensor.dtype)[6:]} from "
                f"{tensor.min().item():g} to {tensor.max().item():g}: scale it, and do not normalise it"
            )
        tensor = (255 * tensor).round().to(torch.uint8)
    return F.to_pil_image(tensor)


def _hidden(name: str) -> bool:
    return name.startswith(".")


def _images(paths: Iterable[Path], nothing: str) -> list[Path]:
    images = sorted(path for path in paths if path.suffix.lower() in IMG_EXTENSIONS and path.is_file())
    if not images:
        raise DataError(nothing)
    return images
