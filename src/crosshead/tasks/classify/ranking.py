"""A picture of a classification: the image, and bars for its most probable classes."""

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from PIL import Image

from crosshead.tasks.pictures import NAME_LENGTH, enlarged, rendered, shortened

_DPI = 100


def draw_ranking(image: Image.Image, ranked: Sequence[tuple[str, float]], *, title: str) -> Image.Image:
    """Draws an image beside the classes that were found in it.

    Args:
        image: of any mode and size; small ones are enlarged.
        ranked: classes and their probabilities, the most probable one first.
        title: what stands above the image.

    Returns:
        A new image, RGB, 800 pixels wide.

    Example:
        >>> draw_ranking(Image.new("L", (8, 8)), [("three", 0.9), ("eight", 0.1)], title="digit").width
        800
    """
    height = max(3.0, 0.6 + 0.35 * len(ranked))
    figure = Figure(figsize=(8, height), dpi=_DPI, layout="constrained")
    shown, bars = figure.subplots(1, 2, width_ratios=(1, 1.4))
    shown.imshow(enlarged(image))
    shown.set_axis_off()
    shown.set_title(shortened(title, 40), fontsize=10, parse_math=False)
    places = range(len(ranked))
    drawn = bars.barh(places, [probability for _, probability in ranked], color="#4477AA")
    bars.bar_label(drawn, [f"{probability:.1%}" for _, probability in ranked], padding=3, fontsize=9)
    bars.set_yticks(places, [shortened(name, NAME_LENGTH) for name, _ in ranked], parse_math=False)
    bars.set_xlim(0, 1.12)
    bars.set_xticks([0, 0.25, 0.5, 0.75, 1])
    bars.xaxis.set_major_formatter(PercentFormatter(1.0))
    bars.spines[["top", "right"]].set_visible(False)
    bars.invert_yaxis()
    bars.set_title("probability", fontsize=10)
    return rendered(figure)
