"""The class of each pixel, as colours over the image."""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from crosshead.tasks.pictures.canvas import check_size, enlarged, enlargement, line_width
from crosshead.tasks.pictures.colors import class_colors


def draw_labels(
    image: Image.Image,
    labels: np.ndarray,
    *,
    classes: Sequence[str],
    ignore_index: int | None = None,
    opacity: float = 0.5,
) -> Image.Image:
    """Lays the colour of its class over each pixel; background and ignored pixels stay as they are.

    Regions have an opaque border, inside, so that thin ones are seen.

    Args:
        image: Of any mode and size; small ones are enlarged.
        labels: (height, width), each from 0 to the number of classes - 1, or `ignore_index`.
        classes: The name of each label; `class_colors` gives their colours.
        ignore_index: The label of pixels without one.
        opacity: Of the colours inside the borders, 0 to 1.

    Returns:
        A new image, RGB, `enlargement` times the size.

    Raises:
        ValueError: When labels have not the size of the image, or a label has no class.

    Example:
        >>> labels = np.zeros((20, 32), np.uint8)
        >>> draw_labels(Image.new("L", (32, 20)), labels, classes=["background", "cell"]).size
        (640, 400)
    """
    check_size("labels", labels.shape, image)
    counted = labels[labels != ignore_index]
    if counted.size and not 0 <= counted.min() <= counted.max() < len(classes):
        raise ValueError(
            f"labels are {counted.min()}..{counted.max()}; give 0..{len(classes) - 1}, or ignore_index"
        )
    named = class_colors(classes)
    # Ignored pixels get a number beyond all classes, so that they end a region as a class does.
    colors = [*(named.get(name) for name in classes), None]
    numbers = np.where(labels == ignore_index, len(classes), labels.astype(np.int32))
    factor, picture = enlargement(image.size), enlarged(image)
    numbers = numbers.repeat(factor, axis=0).repeat(factor, axis=1)
    strength = np.where(_borders(numbers, width=line_width(picture)), 1.0, opacity)
    strength[np.array([color is None for color in colors])[numbers]] = 0
    overlay = Image.fromarray(np.array([color or (0, 0, 0) for color in colors], np.uint8)[numbers])
    picture.paste(overlay, mask=Image.fromarray(np.rint(255 * strength).astype(np.uint8)))
    return picture


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
