"""Pictures in rows and columns, each with a title, and what the colours stand for."""

import io
import math
from collections.abc import Mapping, Sequence

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from PIL import Image

from crosshead.tasks.pictures.canvas import shortened
from crosshead.tasks.pictures.colors import Color

DPI = 100
# In pixels; a cell is as wide as its widest picture within these.
NARROWEST, WIDEST = 320, 480
LETTER, LINE = 8, 20
# How many times higher than wide a cell may be; a picture beyond that is shown narrower.
TALLEST = 1.5
MOST_NAMED, NAME_LENGTH = 40, 24


def draw_grid(
    rows: Sequence[Sequence[tuple[str, Image.Image]]],
    *,
    title: str,
    legend: Mapping[str, Color] | None = None,
) -> bytes:
    """Draws a grid of pictures; about six rows of three is what can be looked at.

    Args:
        rows: For each row its cells, a title and a picture each; rows may differ in length.
        title: Of the whole.
        legend: The colour of each class; of more than 40 the first ones are shown.

    Returns:
        A PNG file.

    Raises:
        ValueError: Without a cell.

    Example:
        >>> draw_grid([[("truth", Image.new("RGB", (40, 30)))]], title="examples")[1:4]
        b'PNG'
    """
    columns = max(map(len, rows), default=0)
    if not columns:
        raise ValueError(f"rows is {rows!r}; give one cell or more")
    pictures = [picture for row in rows for _, picture in row]
    cell = min(max(NARROWEST, *(picture.width for picture in pictures)), WIDEST)
    tallest = [max((picture.height / picture.width for _, picture in row), default=0) for row in rows]
    heights = [cell * min(ratio, TALLEST) + LINE + 10 for ratio in tallest]
    width = columns * (cell + 10)
    entries = _entries(legend or {})
    longest = max((len(name) for name, _ in entries), default=1)
    across = max(1, min(len(entries), width // (LETTER * longest + 60)))
    lines = 1.5 * LINE + LINE * math.ceil(len(entries) / across)
    figure = Figure(figsize=(width / DPI, (sum(heights) + lines) / DPI), dpi=DPI, layout="constrained")
    places = figure.subplots(len(rows), columns, squeeze=False, height_ratios=heights)
    for row, axes_of_row in zip(rows, places, strict=True):
        for axes in axes_of_row:
            axes.set_axis_off()
            axes.set_anchor("N")
        for (name, picture), axes in zip(row, axes_of_row, strict=False):
            axes.imshow(picture.convert("RGB"))
            axes.set_title(shortened(name, cell // LETTER), fontsize=9, parse_math=False)
    figure.suptitle(shortened(title, width // (LETTER + 2)), fontsize=11, parse_math=False)
    if entries:
        _draw_legend(figure, entries, across)
    file = io.BytesIO()
    FigureCanvasAgg(figure).print_png(file)
    return file.getvalue()


def _entries(legend: Mapping[str, Color]) -> list[tuple[str, Color | None]]:
    """What the legend says, in short names; at the end how many classes it leaves out."""
    entries: list[tuple[str, Color | None]] = [
        (shortened(name, NAME_LENGTH), color) for name, color in list(legend.items())[:MOST_NAMED]
    ]
    if len(legend) > MOST_NAMED:
        entries.append((f"and {len(legend) - MOST_NAMED} more", None))
    return entries


def _draw_legend(figure: Figure, entries: Sequence[tuple[str, Color | None]], columns: int) -> None:
    names = [name for name, _ in entries]
    patches = [
        Patch(visible=False) if color is None else Patch(color="#{:02x}{:02x}{:02x}".format(*color))
        for _, color in entries
    ]
    drawn = figure.legend(
        patches, names, loc="outside lower center", ncols=columns, frameon=False, fontsize=9
    )
    for text in drawn.get_texts():
        text.set_parse_math(False)
