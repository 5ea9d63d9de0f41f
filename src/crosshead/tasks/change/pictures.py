"""Change between two dates as a picture."""

from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from PIL import Image

from crosshead.tasks.pictures import DPI, SHORT_SIDE, TALLEST, Color, palette, rendered, shortened

_PROBABILITY = "inferno"


def draw_change(
    before: np.ndarray, after: np.ndarray, probability: np.ndarray, *, bands: Sequence[int], title: str
) -> Image.Image:
    """Draws before, after and the probability of change side by side, with a bar that tells its colours.

    Args:
        before: (bands, height, width), finite numbers of any scale.
        after: the same shape.
        probability: (height, width), 0 to 1: black where nothing changed, yellow where all did.
        bands: which bands to show as red, green and blue; one alone is shown grey.
        title: what stands above.

    Returns:
        RGB; small images are enlarged, and large ones are made smaller.

    Raises:
        ValueError: if the shapes do not fit, or a band is not there.

    Example:
        >>> image = np.zeros((6, 40, 40))
        >>> draw_change(image, image, image[0], bands=(0, 1, 2), title="field").mode
        'RGB'
    """
    if before.shape != after.shape or probability.shape != before.shape[1:]:
        raise ValueError(
            "before and after must be (bands, height, width) and probability (height, width); got before "
            f"{before.shape}, after {after.shape} and probability {probability.shape}"
        )
    height, width = probability.shape
    side = min(max(SHORT_SIDE, width), 2 * SHORT_SIDE)
    tall = min(max(height / width, 0.4), TALLEST) * side
    size = ((3 * side + 130) / DPI, (tall + 60) / DPI)
    figure = Figure(figsize=size, dpi=DPI, layout="constrained")
    shown = {
        "before": stretched(before, bands=bands),
        "after": stretched(after, bands=bands),
        "change": probability_map(probability),
    }
    for axes, (name, picture) in zip(figure.subplots(1, 3), shown.items(), strict=True):
        axes.imshow(picture, interpolation="nearest" if width < side else None)
        axes.set_title(name, fontsize=10)
        axes.set_axis_off()
    colors = ScalarMappable(Normalize(0, 1), _PROBABILITY)
    bar = figure.colorbar(colors, ax=figure.axes, fraction=0.03, pad=0.01)
    bar.set_label("probability of change", fontsize=9)
    bar.ax.yaxis.set_major_formatter(PercentFormatter(1.0))
    figure.suptitle(shortened(title, 100), fontsize=11, parse_math=False)
    return rendered(figure)


def stretched(image: np.ndarray, *, bands: Sequence[int]) -> Image.Image:
    """Bands as an RGB picture: each from black at its 2nd percentile to full brightness at its 98th.

    Args:
        image: (bands, height, width), finite numbers of any scale.
        bands: which bands to show as red, green and blue; one alone is shown grey.

    Raises:
        ValueError: if `bands` are not one or three that are there.

    Example:
        >>> stretched(np.array([[[0, 50, 100]]]), bands=[0]).getpixel((1, 0))
        (128, 128, 128)
    """
    if len(bands) not in (1, 3) or not set(bands) <= set(range(len(image))):
        raise ValueError(f"bands must be one or three of 0..{len(image) - 1}; got {tuple(bands)}")
    channels = []
    for band in bands:
        values = image[band].astype(np.float64)
        # Darkest and brightest pixels are outliers in measured bands: clouds, water, sensor faults.
        low, high = np.percentile(values, (2, 98))
        brightness = (values - low) / (high - low) if high > low else np.zeros_like(values)
        channels.append(np.rint(255 * brightness.clip(0, 1)).astype(np.uint8))
    return Image.fromarray(np.stack(channels * (3 // len(bands)), axis=-1))


def probability_map(probability: np.ndarray) -> Image.Image:
    """Probabilities (height, width) as colours, ever brighter from black at 0 to yellow at 1; RGB.

    Example:
        >>> probability_map(np.zeros((2, 3))).getpixel((0, 0))
        (0, 0, 3)
    """
    colors = colormaps[_PROBABILITY](np.asarray(probability, dtype=np.float64), bytes=True)
    return Image.fromarray(np.ascontiguousarray(colors[..., :3]))


def shown_channels(count: int) -> tuple[int, ...]:
    """The channels to show as red, green and blue: the first three, or the first alone.

    Example:
        >>> shown_channels(6), shown_channels(2)
        ((0, 1, 2), (0,))
    """
    return (0, 1, 2) if count >= 3 else (0,)


def change_colors(classes: Sequence[str]) -> dict[str, Color]:
    """Grey for the first class, the absence of change, then red and further colours.

    Example:
        >>> change_colors(["unchanged", "changed"])
        {'unchanged': (187, 187, 187), 'changed': (238, 102, 119)}
    """
    blue, red, green, yellow, cyan, purple, grey, *more = palette(max(len(classes), 7))
    colors = [grey, red, blue, yellow, green, cyan, purple, *more]
    return dict(zip(classes, colors, strict=False))
