"""Images of more than 8 bits a channel: how many of them hold something, and what is seen of them in 8."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import BITSPERSAMPLE, TiffImageFile
from torchvision.io import ImageReadMode, decode_png

from crosshead.tasks.spread import spread

# Pillow recognises a file by its content, and some of its formats start other programs (EPS does).
FORMATS = ("JPEG", "PNG", "PPM", "BMP", "TIFF", "WEBP", "GIF")

_TOO_DARK = (
    "16 bits a channel, with white at 65535, but no value above 4095: if white is 4095, multiply the values "
    "by 16 and save it again"
)


def find_bits(paths: Sequence[str | Path]) -> int | None:
    """How many bits of a channel the images of a set use, by the largest value of a few spread over it.

    Args:
        paths: the image files; those that cannot be read are passed over.

    Returns:
        9 to 16, for `read_image`; None if no file tried has more than 8 bits a channel.

    Example:
        >>> from tempfile import mkdtemp
        >>> path = Path(mkdtemp(), "camera.png")
        >>> Image.fromarray(np.array([[0, 3100]], np.uint16)).save(path)
        >>> find_bits([path])
        12
    """
    largest = [_largest_value(paths[position]) for position in spread(len(paths))]
    found = [value for value in largest if value is not None]
    return max(9, max(found).bit_length()) if found else None


def stated_bits(image: Image.Image) -> int:
    """Bits a channel of an image that is not decoded yet; Pillow keeps 16 of grey ones only."""
    if isinstance(image, TiffImageFile):
        return max(image.tag_v2.get(BITSPERSAMPLE, (1,)))
    return 16 if isinstance(image, PngImageFile) and ";16" in str(image.tile[0][3]) else 8


def eight_bit(image: Image.Image, stated: int, bits: int | None) -> Image.Image:
    """A decoded image with 8 bits a channel.

    Args:
        image: of any mode.
        stated: bits a channel of its file.
        bits: how many of them are used, so that white is 2 ** bits - 1; None for all.

    Raises:
        ValueError: if the file has 16 bits, `bits` is None and no value is above 4095, or if nothing says
            what white is.

    Example:
        >>> camera = Image.fromarray(np.array([[0, 2048, 4095, 9999]], np.uint16))
        >>> np.asarray(eight_bit(camera, 16, 12)).tolist()
        [[0, 128, 255, 255]]
    """
    if image.mode.startswith("I;16"):
        values = np.asarray(image)
        if bits is None and stated == 16 and 0 < values.max() < 4096:
            raise ValueError(_TOO_DARK)
        used = bits or stated
        # Pillow's own conversion clips at 255, which turns the image white.
        return Image.fromarray((np.minimum(values, 2**used - 1) >> (used - 8)).astype(np.uint8))
    # Of colours, Pillow has kept the upper 8 bits.
    if stated == 16 and np.asarray(image.convert("RGB")).max() < 16:
        raise ValueError(_TOO_DARK)
    if image.mode in ("I", "F"):
        raise ValueError(f"mode {image.mode} does not say which value is white; save it with 8 or 16 bits")
    # Pillow warns when a palette with transparency goes straight to RGB.
    return image.convert("RGBA") if image.mode == "P" and "transparency" in image.info else image


def deep_colours(path: str | Path, image: Image.Image, bits: int) -> Image.Image:
    """A PNG of 16 bits a colour with 8 bits; Pillow alone would keep the upper ones, whatever is in them.

    Args:
        path: the file.
        image: the same, as Pillow has decoded it: of any other kind it is given back.
        bits: how many bits are used, so that white is 2 ** bits - 1.
    """
    if not isinstance(image, PngImageFile) or image.mode not in ("RGB", "RGBA"):
        return image
    values = np.minimum(_colours(path), 2**bits - 1) >> (bits - 8)
    seen = Image.fromarray(values[..., :3].astype(np.uint8))
    # Says how it lies.
    if "exif" in image.info:
        seen.info["exif"] = image.info["exif"]
    return seen


def _colours(path: str | Path) -> np.ndarray:
    """The values of a PNG of 16 bits a colour: int32, (height, width, channels)."""
    content = torch.frombuffer(bytearray(Path(path).read_bytes()), dtype=torch.uint8)
    return decode_png(content, ImageReadMode.UNCHANGED).permute(1, 2, 0).to(torch.int32).numpy()


def _largest_value(path: str | Path) -> int | None:
    """The largest value of an image of more than 8 bits a channel; None for any other file."""
    try:
        with Image.open(path, formats=FORMATS) as image:
            stated = stated_bits(image)
            if stated <= 8:
                return None
            if stated < 16:
                # The file says so itself.
                return 2**stated - 1
            image.load()
            if image.mode.startswith("I;16"):
                return int(np.asarray(image).max())
            if isinstance(image, PngImageFile):
                return int(_colours(path)[..., :3].max())
            # Of colours in a TIFF, Pillow has kept the upper 8 bits.
            return int(np.asarray(image.convert("RGB")).max()) << 8
    # Whoever reads the file for good says what is wrong with it.
    except Exception:
        return None
