"""Pictures of what nets see: classes of pixels, legends, and grids of pictures."""

import colorsys
import io
import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from PIL import Image, ImageDraw, ImageFont

Color = tuple[int, int, int]

SHOWN = 5
SHORT_SIDE, LONGEST_SIDE = 400, 2400
GAP = 8
MOST_NAMED, NAME_LENGTH = 40, 24
# Paul Tol, "Colour schemes", 2021: the scheme "bright", which the colour-blind can tell apart.
_BRIGHT = ("#4477AA", "#EE6677", "#228833", "#CCBB44", "#66CCEE", "#AA3377", "#BBBBBB")
_LIGHTNESS = (0.35, 0.75, 0.55)
# Of a grid: the width of a cell in pixels, its greatest height by its width, and the size of text.
DPI, _NARROWEST, _WIDEST, TALLEST, _LETTER, _LINE = 100, 320, 480, 1.5, 8, 20
_LETTER_SIZE = 13


def chosen(count: int, *, most: int = SHOWN) -> list[int]:
    """Positions spread evenly over a set, the same ones each time: chosen without looking at the samples.

    Example:
        >>> chosen(101), chosen(2)
        ([10, 30, 50, 70, 90], [0, 1])
    """
    shown = min(most, count)
    return [(2 * number + 1) * count // (2 * shown) for number in range(shown)]


def palette(count: int) -> list[Color]:
    """Different colours: seven that the colour-blind can tell apart, then hues all around the circle.

    The first seven are the same for every count.

    Example:
        >>> palette(2)
        [(68, 119, 170), (238, 102, 119)]
    """
    more = max(0, count - len(_BRIGHT))
    # Neighbouring hues differ in lightness, which tells more than hue where there are many.
    hues = [colorsys.hls_to_rgb(index / more, _LIGHTNESS[index % 3], 0.9) for index in range(more)]
    colors = [*map(to_rgb, _BRIGHT[:count]), *hues]
    return [(round(255 * red), round(255 * green), round(255 * blue)) for red, green, blue in colors]


def class_colors(classes: Sequence[str]) -> dict[str, Color]:
    """The colour of each class by its name; a class "background" is transparent, so it has none.

    Example:
        >>> class_colors(["background", "nucleus"])
        {'nucleus': (68, 119, 170)}
    """
    shown = [name for name in classes if name.lower() != "background"]
    return dict(zip(shown, palette(len(shown)), strict=True))


def enlargement(size: tuple[int, int]) -> int:
    """How many times larger an image of such width and height is drawn, 1 or more.

    The short side then has 400 pixels or more, unless the long side would have more than 2,400.

    Example:
        >>> enlargement((320, 240)), enlargement((28, 28)), enlargement((4000, 50)), enlargement((800, 600))
        (2, 15, 1, 1)
    """
    return max(1, min(math.ceil(SHORT_SIDE / min(size)), LONGEST_SIDE // max(size)))


def enlarged(image: Image.Image, *, smooth: bool = True) -> Image.Image:
    """An RGB copy, `enlargement` times larger: interpolated (bicubic), or of pixels that stay squares."""
    factor = enlargement(image.size)
    resampling = Image.Resampling.BICUBIC if smooth else Image.Resampling.NEAREST
    return image.convert("RGB").resize((factor * image.width, factor * image.height), resampling)


def shortened(text: str, most: int) -> str:
    """One line of at most `most` characters; what is left out in the middle shows as an ellipsis.

    Example:
        >>> shortened("a very\\nlong name.png", 12)
        'a very…e.png'
    """
    text = " ".join(text.split())
    if len(text) <= most:
        return text
    end = (most - 1) // 2
    return f"{text[: most - 1 - end]}…{text[len(text) - end :]}"


def line_width(image: Image.Image) -> int:
    """Pixels that a line needs to be seen on an image as a whole.

    Example:
        >>> [line_width(Image.new("L", (side, side))) for side in (300, 480, 1000)]
        [1, 2, 4]
    """
    return max(1, round(min(image.size) / 250))


def require_size(name: str, shape: tuple[int, ...], image: Image.Image) -> None:
    """Refuses an array that is not as high and wide as the image that it belongs to.

    Raises:
        ValueError: with both sizes.
    """
    if image.size[::-1] != tuple(shape[-2:]):
        raise ValueError(
            f"{name} must be {image.height} x {image.width} pixels like the image; got {tuple(shape)}"
        )


def draw_labels(
    image: Image.Image,
    labels: np.ndarray,
    *,
    classes: Sequence[str],
    ignore_index: int | None = None,
    colors: Mapping[str, Color] | None = None,
    opacity: float = 0.5,
) -> Image.Image:
    """Lays the colour of its class over each pixel; background and ignored pixels stay as they are.

    Regions have an opaque border, inside, so that thin ones are seen.

    Args:
        image: of any mode and size; small ones are enlarged.
        labels: (height, width), each from 0 to the number of classes - 1, or `ignore_index`.
        classes: the name of each label.
        ignore_index: the label of pixels without one.
        colors: of classes by their names, by default those of `class_colors`; others stay as they are.
        opacity: of the colours inside the borders, 0 to 1.

    Returns:
        A new image, RGB, `enlargement` times the size.

    Raises:
        ValueError: if labels are not of the size of the image, or a label has no class.

    Example:
        >>> labels = np.zeros((20, 32), np.uint8)
        >>> draw_labels(Image.new("L", (32, 20)), labels, classes=["background", "cell"]).size
        (640, 400)
    """
    require_size("labels", labels.shape, image)
    counted = labels[labels != ignore_index]
    if counted.size and not 0 <= counted.min() <= counted.max() < len(classes):
        raise ValueError(
            f"labels must be 0..{len(classes) - 1} or ignore_index; got {counted.min()}..{counted.max()}"
        )
    named = class_colors(classes) if colors is None else colors
    # Ignored pixels get a number beyond all classes, so that they end a region as a class does.
    shown = [*(named.get(name) for name in classes), None]
    numbers = np.where(labels == ignore_index, len(classes), labels.astype(np.int32))
    factor, picture = enlargement(image.size), enlarged(image)
    numbers = numbers.repeat(factor, axis=0).repeat(factor, axis=1)
    strength = np.where(_borders(numbers, width=line_width(picture)), 1.0, opacity)
    strength[np.array([color is None for color in shown])[numbers]] = 0
    overlay = Image.fromarray(np.array([color or (0, 0, 0) for color in shown], np.uint8)[numbers])
    picture.paste(overlay, mask=Image.fromarray(np.rint(255 * strength).astype(np.uint8)))
    return picture


def with_legend(picture: Image.Image, colors: Mapping[str, Color]) -> Image.Image:
    """The picture with the names of colours in rows below it; of more than 40 the first ones are told.

    Args:
        picture: RGB.
        colors: each name's colour; without any, the picture stays as it is.

    Example:
        >>> with_legend(Image.new("RGB", (400, 300)), {"cat": (255, 0, 0), "dog": (0, 0, 255)}).size
        (400, 330)
    """
    names = [*colors][:MOST_NAMED]
    if not names:
        return picture
    letters = ImageFont.load_default(_LETTER_SIZE)
    texts = {name: shortened(name, NAME_LENGTH) for name in names}
    if len(colors) > len(names):
        texts[names[-1]] += f" and {len(colors) - len(names)} more"
    rows: list[list[str]] = [[]]
    room = picture.width - GAP
    for name in names:
        needed = _LINE + round(letters.getlength(texts[name])) + 2 * GAP
        if needed > room and rows[-1]:
            rows.append([])
            room = picture.width - GAP
        rows[-1].append(name)
        room -= needed
    whole = Image.new("RGB", (picture.width, picture.height + len(rows) * _LINE + 10), "white")
    whole.paste(picture)
    draw = ImageDraw.Draw(whole)
    for number, row in enumerate(rows):
        left, top = GAP, picture.height + 5 + number * _LINE
        for name in row:
            draw.rectangle((left, top + 3, left + 13, top + 16), fill=colors[name])
            draw.text((left + _LINE, top + _LINE // 2), texts[name], fill="black", font=letters, anchor="lm")
            left += _LINE + round(letters.getlength(texts[name])) + 2 * GAP
    return whole


def palette_image(labels: np.ndarray, colors: Mapping[str, Color], classes: Sequence[str]) -> Image.Image:
    """Labels as an image whose pixels are the labels themselves, and which is seen in colours when opened.

    Args:
        labels: (height, width), uint8; uint16 has no colours in PNG files, and stays grey.
        colors: of each class by its name; a class without one is black.
        classes: the name of each label.

    Example:
        >>> image = palette_image(np.array([[0, 1]], np.uint8), {"cell": (255, 0, 0)}, ["background", "cell"])
        >>> image.getpixel((1, 0)), image.convert("RGB").getpixel((1, 0))
        (1, (255, 0, 0))
    """
    image = Image.fromarray(labels)
    if image.mode == "L":
        image.putpalette([value for name in classes for value in colors.get(name, (0, 0, 0))])
    return image


def rendered(figure: Figure) -> Image.Image:
    """A figure of matplotlib as an image, RGB."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")


def draw_grid(
    rows: Sequence[Sequence[tuple[str, Image.Image]]],
    *,
    title: str,
    legend: Mapping[str, Color] | None = None,
) -> bytes:
    """Draws pictures in rows and columns, each with a title; about six rows of three can be taken in.

    Args:
        rows: for each row its cells, a title and a picture each; rows may differ in length.
        title: of the whole.
        legend: the colour of each class; of more than 40 the first ones are shown.

    Returns:
        A PNG file.

    Raises:
        ValueError: if there is not one cell.

    Example:
        >>> draw_grid([[("truth", Image.new("RGB", (40, 30)))]], title="examples")[1:4]
        b'PNG'
    """
    columns = max(map(len, rows), default=0)
    if not columns:
        raise ValueError(f"rows must hold one cell or more; got {rows!r}")
    cell = min(max(_NARROWEST, *(picture.width for row in rows for _, picture in row)), _WIDEST)
    tallest = [max((picture.height / picture.width for _, picture in row), default=0) for row in rows]
    heights = [cell * min(ratio, TALLEST) + _LINE + 10 for ratio in tallest]
    width = columns * (cell + 10)
    named = [
        (shortened(name, NAME_LENGTH), Patch(color="#{:02x}{:02x}{:02x}".format(*color)))
        for name, color in [*(legend or {}).items()][:MOST_NAMED]
    ]
    if legend and len(legend) > MOST_NAMED:
        named.append((f"and {len(legend) - MOST_NAMED} more", Patch(visible=False)))
    longest = max((len(name) for name, _ in named), default=1)
    across = max(1, min(len(named), width // (_LETTER * longest + 60)))
    below = 1.5 * _LINE + _LINE * math.ceil(len(named) / across)
    figure = Figure(figsize=(width / DPI, (sum(heights) + below) / DPI), dpi=DPI, layout="constrained")
    bare = {"anchor": "N", "frame_on": False, "xticks": [], "yticks": []}
    places = figure.subplots(len(rows), columns, squeeze=False, height_ratios=heights, subplot_kw=bare)
    for row, axes_of_row in zip(rows, places, strict=True):
        for (name, picture), axes in zip(row, axes_of_row, strict=False):
            axes.imshow(picture.convert("RGB"))
            axes.set_title(shortened(name, cell // _LETTER), fontsize=9, parse_math=False)
    figure.suptitle(shortened(title, width // (_LETTER + 2)), fontsize=11, parse_math=False)
    if named:
        below_all = {"loc": "outside lower center", "ncols": across, "frameon": False, "fontsize": 9}
        drawn = figure.legend([patch for _, patch in named], [name for name, _ in named], **below_all)
        for text in drawn.get_texts():
            text.set_parse_math(False)
    file = io.BytesIO()
    FigureCanvasAgg(figure).print_png(file)
    return file.getvalue()


def _borders(numbers: np.ndarray, *, width: int) -> np.ndarray:
    """True at pixels with another number within so many pixels along a row or a column."""
    borders = np.zeros(numbers.shape, bool)
    for axis in (0, 1):
        along, border = np.moveaxis(numbers, axis, 0), np.moveaxis(borders, axis, 0)
        for step in range(1, width + 1):
            differs = along[step:] != along[:-step]
            border[step:] |= differs
            border[:-step] |= differs
    return borders
