"""The colours of classes: the same in every picture of a run, and the first ones for every eye."""

import colorsys
from collections.abc import Sequence

Color = tuple[int, int, int]

BACKGROUND = "background"
# Paul Tol, "Colour schemes", 2021: the scheme "bright", which the colour-blind can tell apart.
_BRIGHT: tuple[Color, ...] = (
    (0x44, 0x77, 0xAA),
    (0xEE, 0x66, 0x77),
    (0x22, 0x88, 0x33),
    (0xCC, 0xBB, 0x44),
    (0x66, 0xCC, 0xEE),
    (0xAA, 0x33, 0x77),
    (0xBB, 0xBB, 0xBB),
)
_LIGHTNESS = (0.35, 0.75, 0.55)


def palette(count: int) -> list[Color]:
    """So many different colours: seven that the colour-blind can tell apart, then hues all around the circle.

    Args:
        count: How many.

    Returns:
        Red, green and blue of each, 0..255. The first seven are the same for every count.

    Example:
        >>> palette(2)
        [(68, 119, 170), (238, 102, 119)]
    """
    more = max(0, count - len(_BRIGHT))
    # Neighbouring hues differ in lightness, which tells more than hue where there are many.
    hues = [
        colorsys.hls_to_rgb(index / more, _LIGHTNESS[index % len(_LIGHTNESS)], 0.9) for index in range(more)
    ]
    colors = [(round(255 * red), round(255 * green), round(255 * blue)) for red, green, blue in hues]
    return [*_BRIGHT[:count], *colors]


def class_colors(classes: Sequence[str]) -> dict[str, Color]:
    """The colour of each class by its name; a class "background" is transparent, so it has none.

    Args:
        classes: All classes of the data, in their order.

    Example:
        >>> class_colors(["background", "nucleus"])
        {'nucleus': (68, 119, 170)}
    """
    shown = [name for name in classes if name.lower() != BACKGROUND]
    return dict(zip(shown, palette(len(shown)), strict=True))
