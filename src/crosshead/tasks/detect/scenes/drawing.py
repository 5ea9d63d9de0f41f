from dataclasses import dataclass

import numpy as np
from PIL import Image

from crosshead.tasks.dense_splits import Objects

# The fewest and the most items of a scene.
ITEMS = (3, 8)
# The side of a pasted item, as a multiple of its own.
SCALES = (0.75, 2.0)
# An item keeps at least this share of its pixels, whatever lies on it.
VISIBLE = 0.4
# Grey values from here on are the item, those below the black around it.
INK = 24
# Fewer pixels are no item to be found.
SMALLEST = 24
_PLACES = 20
_ATTEMPTS = 30


@dataclass(frozen=True, kw_only=True, eq=False)
class Scene:
    """A canvas with items on it.

    Attributes:
        pixels: uint8, (size, size).
        masks: uint8, (n, size, size): what is seen of each item.
        items: int64, (n,): position of each item among those to choose from.
    """

    pixels: np.ndarray
    masks: np.ndarray
    items: np.ndarray


def draw_scene(pictures: np.ndarray, *, size: int, generator: np.random.Generator) -> Scene:
    """Paste pictures of items at random places and scales on a noisy, shaded canvas.

    Later items lie on earlier ones; a place where too little of one would be seen is not taken.

    Args:
        pictures: uint8, (N, side, side): grey items on black to choose from.
        size: Side of the canvas in pixels.
        generator: What decides everything about the scene.

    Returns:
        The scene, of `ITEMS` items.

    Raises:
        ValueError: When no scene comes about: pictures are black or too large for the canvas.

    Example:
        >>> pictures = np.full((1, 28, 28), 200, np.uint8)
        >>> scene = draw_scene(pictures, size=128, generator=np.random.default_rng(0))
        >>> scene.pixels.shape, len(scene.masks)
        ((128, 128), 8)
    """
    for _ in range(_ATTEMPTS):
        pixels = _background(size, generator)
        owner = np.full((size, size), -1, np.int8)
        whole, seen, items = [], [], []
        for _ in range(generator.integers(ITEMS[0], ITEMS[1] + 1)):
            item = int(generator.integers(len(pictures)))
            picture = _resized(pictures[item], generator)
            ink = picture >= INK
            side = len(picture)
            if side > size or ink.sum() < SMALLEST:
                continue
            for _ in range(_PLACES):
                top, left = generator.integers(0, size - side + 1, size=2)
                place = np.s_[top : top + side, left : left + side]
                # The background is owner -1, whose pixels nobody misses.
                hidden = np.bincount(owner[place][ink] + 1, minlength=len(items) + 1)[1:]
                left_over = np.array(seen, int) - hidden
                if np.all(left_over >= VISIBLE * np.array(whole)):
                    owner[place][ink] = len(items)
                    pixels[place][ink] = picture[ink]
                    seen = [*left_over.tolist(), int(ink.sum())]
                    whole.append(seen[-1])
                    items.append(item)
                    break
        if len(items) >= ITEMS[0]:
            masks = (owner == np.arange(len(items))[:, None, None]).astype(np.uint8)
            return Scene(pixels=pixels, masks=masks, items=np.array(items))
    raise ValueError(
        f"no scene of {ITEMS[0]} items came about on {size} x {size} pixels; give a larger size, or items "
        "that are not black"
    )


def objects_of(scene: Scene, labels: np.ndarray, *, image_id: int) -> Objects:
    """The labelled objects of a scene: boxes and areas are exactly those of the masks.

    Args:
        scene: The scene.
        labels: The label of each picture that it chose from, (N,).
        image_id: The number of the scene.

    Example:
        >>> masks = np.array([[[0, 1, 1], [0, 1, 0]]], np.uint8)
        >>> scene = Scene(pixels=masks[0], masks=masks, items=np.array([0]))
        >>> objects_of(scene, np.array([7]), image_id=1).boxes.tolist()
        [[1.0, 0.0, 3.0, 2.0]]
    """
    return Objects(
        boxes=np.stack([_box(mask) for mask in scene.masks]),
        labels=labels[scene.items].astype(np.int64),
        masks=scene.masks,
        crowd=np.zeros(len(scene.masks), bool),
        area=scene.masks.sum(axis=(1, 2)).astype(np.float32),
        image_id=image_id,
    )


def _background(size: int, generator: np.random.Generator) -> np.ndarray:
    rows, columns = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    angle, level = generator.uniform(0, 2 * np.pi), generator.uniform(50, 170)
    slope, noise = generator.uniform(0, 40), generator.uniform(4, 16)
    shade = level + slope * (np.cos(angle) * rows + np.sin(angle) * columns)
    return np.clip(shade + noise * generator.standard_normal((size, size)), 0, 255).astype(np.uint8)


def _resized(picture: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """A picture at a whole scale, one or two, or at any of `SCALES`."""
    whole, scale = generator.integers(1, 3), generator.uniform(*SCALES)
    scale = whole if generator.random() < 0.3 else scale
    side = round(len(picture) * scale)
    return np.asarray(Image.fromarray(picture).resize((side, side), Image.Resampling.BILINEAR))


def _box(mask: np.ndarray) -> np.ndarray:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], np.float32)
