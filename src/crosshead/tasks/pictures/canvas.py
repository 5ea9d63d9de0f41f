"""What to draw on: images large enough for lines and text, and what is written on them."""

import math

import numpy as np
from PIL import Image, ImageFont

SHORT_SIDE, LONGEST_SIDE = 400, 2400


def enlargement(size: tuple[int, int]) -> int:
    """How many times larger an image should be shown, 1 or more.

    The short side then has 400 pixels or more, unless the long side would have more than 2,400.

    Args:
        size: Width and height in pixels.

    Example:
        >>> enlargement((320, 240)), enlargement((28, 28)), enlargement((4000, 50)), enlargement((800, 600))
        (2, 15, 1, 1)
    """
    return max(1, min(math.ceil(SHORT_SIDE / min(size)), LONGEST_SIDE // max(size)))


def enlarged(image: Image.Image, *, smooth: bool = True) -> Image.Image:
    """An RGB copy, `enlargement` times larger.

    Args:
        image: Of any mode and size.
        smooth: Whether to interpolate (bicubic); pixels stay squares otherwise.
    """
    factor = enlargement(image.size)
    filter = Image.Resampling.BICUBIC if smooth else Image.Resampling.NEAREST
    return image.convert("RGB").resize((factor * image.width, factor * image.height), filter)


def line_width(image: Image.Image) -> int:
    """Pixels that a line should be wide to be seen on an image as a whole.

    Example:
        >>> [line_width(Image.new("L", (side, side))) for side in (300, 480, 1000)]
        [1, 2, 4]
    """
    return max(1, round(min(image.size) / 250))


def font(image: Image.Image) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own font, in a size that can be read on an image as a whole."""
    return ImageFont.load_default(max(12, round(min(image.size) / 40)))


def shortened(text: str, most: int) -> str:
    """One line of at most so many characters; what is left out in the middle shows as an ellipsis.

    Example:
        >>> shortened("a very\\nlong name.png", 12)
        'a very…e.png'
    """
    text = " ".join(text.split())
    if len(text) <= most:
        return text
    end = (most - 1) // 2
    return f"{text[: most - 1 - end]}…{text[len(text) - end :]}"


def check_size(name: str, shape: tuple[int, ...], image: Image.Image) -> None:
    """Refuse an array that is not as high and wide as the image it belongs to.

    Raises:
        ValueError: With both sizes.
    """
    if tuple(shape[-2:]) != (image.height, image.width):
        raise ValueError(
            f"{name} has the shape {tuple(shape)} and the image {image.height} x {image.width} pixels; "
            f"give (..., {image.height}, {image.width})"
        )


def readable_on(color: tuple[int, int, int]) -> tuple[int, int, int]:
    """Black or white, whichever is read more easily on a colour.

    Example:
        >>> readable_on((255, 255, 0)), readable_on((0, 0, 128))
        ((0, 0, 0), (255, 255, 255))
    """
    brightness = float(np.dot(color, (0.299, 0.587, 0.114)))
    return (0, 0, 0) if brightness > 140 else (255, 255, 255)
