"""Objects in an image as a picture: boxes, masks, names.

Unlike torchvision's drawing functions this enlarges small images, outlines masks, and writes a name only
where it hides nothing.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageFont

from crosshead.tasks.pictures import (
    Color,
    enlarged,
    enlargement,
    line_width,
    palette,
    require_size,
    shortened,
    with_legend,
)

# Names help where objects are few; in a crowd they hide what they name.
MOST_NAMED, FEW, NAME_LENGTH = 40, 8, 24


def draw_objects(
    image: Image.Image,
    *,
    boxes: np.ndarray,
    labels: np.ndarray,
    classes: Sequence[str],
    scores: np.ndarray | None = None,
    masks: np.ndarray | None = None,
    opacity: float = 0.35,
) -> Image.Image:
    """Draws masks, or boxes where there are none, with names and scores where these find room.

    The colour tells the class, and is that of `crosshead.tasks.pictures.palette`. Masks of a single class are
    told apart by colours of their own, and its name is not written; nor are names in a crowd. Small objects
    come on top of large ones.

    Args:
        image: of any mode and size; small ones are enlarged.
        boxes: (n, 4): left, top, right and bottom in pixels of the image, right and bottom exclusive.
        labels: (n,), from 1; label k is `classes[k - 1]`.
        classes: all classes.
        scores: (n,), written behind the names.
        masks: (n, height, width), true where the object is.
        opacity: of masks, 0 to 1; their outline is opaque.

    Returns:
        A new image, RGB, `enlargement` times the size.

    Raises:
        ValueError: if the arrays are not of one length, a label has no class, or masks are not of the size of
            the image.

    Example:
        >>> boxes, labels = np.array([[2.0, 2.0, 9.0, 7.0]]), np.array([1])
        >>> draw_objects(Image.new("L", (32, 20)), boxes=boxes, labels=labels, classes=["cell"]).size
        (640, 400)
    """
    count = len(labels)
    if boxes.shape != (count, 4):
        raise ValueError(
            f"boxes must have the shape ({count}, 4), as there are {count} labels; got {boxes.shape}"
        )
    for name, array in (("scores", scores), ("masks", masks)):
        if array is not None and len(array) != count:
            raise ValueError(f"{name} must have {count} entries, one for each label; got {len(array)}")
    if count and not 1 <= labels.min() <= labels.max() <= len(classes):
        raise ValueError(f"labels must be 1..{len(classes)}; got {labels.min()}..{labels.max()}")
    if masks is not None:
        require_size("masks", masks.shape, image)
    factor, picture = enlargement(image.size), enlarged(image)
    colors = [palette(len(classes))[label - 1] for label in labels.tolist()]
    if masks is not None and len(classes) == 1:
        wheel = palette(min(count, 6))
        colors = [wheel[number % len(wheel)] for number in range(count)]
    boxes = np.asarray(boxes, dtype=np.float64) * factor
    order = np.argsort(-(boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]), kind="stable").tolist()
    for number in order:
        if masks is not None:
            _draw_mask(picture, masks[number], colors[number], factor=factor, opacity=opacity)
            continue
        left, top, right, bottom = (round(side) for side in boxes[number].tolist())
        edges = (left, top, max(left, right - 1), max(top, bottom - 1))
        ImageDraw.Draw(picture).rectangle(edges, outline=colors[number], width=line_width(picture))
    for number in order if count <= MOST_NAMED else ():
        # Of a single class the name says nothing.
        name = shortened(classes[int(labels[number]) - 1], NAME_LENGTH) if len(classes) > 1 else ""
        text = name if scores is None else f"{name} {scores[number]:.2f}".strip()
        if text:
            _write(picture, text, boxes[number], colors[number], always=count <= FEW)
    return picture


def draw_with_legend(
    image: Image.Image, *, labels: np.ndarray, classes: Sequence[str], **options: Any
) -> Image.Image:
    """Draws objects, and below them the colour of each class that occurs, where there are several classes.

    Args:
        image: as for `draw_objects`, like the others.
        labels: (n,).
        classes: all classes.
        **options: what else `draw_objects` takes.
    """
    picture = draw_objects(image, labels=labels, classes=classes, **options)
    if len(classes) < 2:
        return picture
    colors = dict(zip(classes, palette(len(classes)), strict=True))
    names = [classes[int(label) - 1] for label in labels]
    return with_legend(picture, {name: colors[name] for name, _ in Counter(names).most_common()})


def _draw_mask(picture: Image.Image, mask: np.ndarray, color: Color, *, factor: int, opacity: float) -> None:
    whole = Image.fromarray(np.where(mask, 255, 0).astype(np.uint8))
    if (box := whole.getbbox()) is None:
        return
    # A pixel more on each side, so that the outline closes at the border of the image.
    left, top, right, bottom = box[0] - 1, box[1] - 1, box[2] + 1, box[3] + 1
    part = whole.crop((left, top, right, bottom))
    size = factor * part.width, factor * part.height
    # Interpolated and cut at one half, an enlarged mask has a smooth outline.
    inside = part.resize(size, Image.Resampling.BILINEAR).point([255 * (value > 127) for value in range(256)])
    outline = ImageChops.subtract(inside, inside.filter(ImageFilter.MinFilter(2 * line_width(picture) + 1)))
    for mask_of_color in (inside.point([round(opacity * value) for value in range(256)]), outline):
        picture.paste(color, (factor * left, factor * top), mask_of_color)


def _write(picture: Image.Image, text: str, box: np.ndarray, color: Color, *, always: bool) -> None:
    """Writes into the upper left corner of a box, or above one too small if it has to be written."""
    draw = ImageDraw.Draw(picture)
    letters = ImageFont.load_default(max(12, round(min(picture.size) / 40)))
    left, top, right, bottom = draw.textbbox((0, 0), text, font=letters)
    width, height = right - left + 4, bottom - top + 4
    x, y = box[0], box[1]
    if width > box[2] - box[0] or 2 * height > box[3] - box[1]:
        if not always:
            return
        y -= height
    x, y = round(max(0, min(x, picture.width - width))), round(max(0, min(y, picture.height - height)))
    draw.rectangle((x, y, x + width - 1, y + height - 1), fill=color)
    dark = float(np.dot(color, (0.299, 0.587, 0.114))) <= 140
    draw.text((x + 2 - left, y + 2 - top), text, fill="white" if dark else "black", font=letters)
