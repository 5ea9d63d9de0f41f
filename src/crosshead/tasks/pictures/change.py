"""Two dates, and where they differ."""

from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps
from PIL import Image

from crosshead.tasks.pictures.canvas import enlarged

GAP = 8
# Darkest and brightest pixels are outliers in measured bands: clouds, water, sensor faults.
_PERCENTILES = (2, 98)


def draw_change(
    before: np.ndarray, after: np.ndarray, probability: np.ndarray, *, bands: Sequence[int]
) -> Image.Image:
    """Draws before, after and the probability of change side by side.

    Args:
        before: (bands, height, width), finite numbers of any scale.
        after: The same shape.
        probability: (height, width), 0 to 1: black where nothing changed, bright yellow where all is sure.
        bands: Which bands to show as red, green and blue; one alone is shown grey.

    Returns:
        RGB; small images are enlarged.

    Raises:
        ValueError: When the shapes do not fit, or a band is not there.

    Example:
        >>> image = np.zeros((6, 400, 400))
        >>> draw_change(image, image, image[0], bands=(0, 1, 2)).size
        (1216, 400)
    """
    if before.shape != after.shape or probability.shape != before.shape[1:]:
        raise ValueError(
            f"before is {before.shape}, after {after.shape} and probability {probability.shape}; give "
            "(bands, height, width) twice and (height, width)"
        )
    parts = [*(stretched(image, bands=bands) for image in (before, after)), probability_map(probability)]
    parts = [enlarged(part, smooth=False) for part in parts]
    width, height = parts[0].size
    picture = Image.new("RGB", (3 * width + 2 * GAP, height), "white")
    for number, part in enumerate(parts):
        picture.paste(part, (number * (width + GAP), 0))
    return picture


def stretched(image: np.ndarray, *, bands: Sequence[int]) -> Image.Image:
    """Bands as a picture: each from black at its 2nd percentile to full brightness at its 98th.

    Args:
        image: (bands, height, width), finite numbers of any scale.
        bands: Which bands to show as red, green and blue; one alone is shown grey.

    Returns:
        RGB, of the same size.

    Raises:
        ValueError: When `bands` are not one or three that are there.

    Example:
        >>> stretched(np.array([[[0, 50, 100]]]), bands=[0]).getpixel((1, 0))
        (128, 128, 128)
    """
    if len(bands) not in (1, 3) or not set(bands) <= set(range(len(image))):
        raise ValueError(f"bands is {tuple(bands)}; give one or three of 0..{len(image) - 1}")
    channels = []
    for band in bands:
        values = image[band].astype(np.float64)
        low, high = np.percentile(values, _PERCENTILES)
        share = (values - low) / (high - low) if high > low else np.zeros_like(values)
        channels.append(np.rint(255 * share.clip(0, 1)).astype(np.uint8))
    return Image.fromarray(np.stack(channels * (3 // len(bands)), axis=-1))


def probability_map(probability: np.ndarray) -> Image.Image:
    """Probabilities as colours of equal steps to the eye, black at 0 to bright yellow at 1.

    Args:
        probability: (height, width), 0 to 1.

    Returns:
        RGB, of the same size.

    Example:
        >>> probability_map(np.zeros((2, 3))).getpixel((0, 0))
        (0, 0, 3)
    """
    colors = colormaps["inferno"](np.asarray(probability, dtype=np.float64), bytes=True)
    return Image.fromarray(np.ascontiguousarray(colors[..., :3]))
