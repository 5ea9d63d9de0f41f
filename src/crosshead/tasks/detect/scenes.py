"""Scenes of Fashion-MNIST items that hide parts of each other, with the exact box, mask and label of each."""

import operator
from dataclasses import dataclass

import numpy as np
from PIL import Image
from torch.utils.data import Dataset

from crosshead.tasks.classify.data import ImageArray
from crosshead.tasks.detect.objects import Objects

# The fewest and the most items of a scene.
ITEMS = (3, 8)
# The side of a pasted item, as a multiple of its own.
SCALES = (0.75, 2.0)
# An item keeps at least this fraction of its pixels, whatever lies on it.
VISIBLE = 0.4
# Grey values from here on are the item, those below the black around it.
INK = 24
# Fewer pixels are too few for an item to be found.
SMALLEST = 24
_PLACES, _ATTEMPTS = 20, 30


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


class FashionScenes(Dataset[tuple[Image.Image, Objects]]):
    """The first scenes of an endless set, each made when it is asked for.

    Items lie at random places and scales on a shaded, noisy canvas and hide parts of each other: a mask is
    what is seen, at least four tenths of the item, and a box is that of the mask. A scene is a function of
    seed, split and position alone: a larger set begins with a smaller one.

    Args:
        count: how many.
        items: the items to paste, with labels from 0 on; in a scene they are one larger.
        split: "train" or "test": the two have no scene in common.
        size: side of a scene in pixels.
        seed: 0 or more; another seed gives other scenes throughout.

    Example:
        >>> items = ImageArray(np.full((2, 28, 28), 200, np.uint8), labels=np.array([3, 3]))
        >>> scenes = FashionScenes(5, items=items, split="train")
        >>> image, objects = scenes[4]
        >>> image == scenes[4][0], image == scenes[3][0], set(objects.labels.tolist())
        (True, False, {4})
    """

    def __init__(self, count: int, *, items: ImageArray, split: str, size: int = 128, seed: int = 0) -> None:
        self.count, self.items, self.size = count, items, size
        self.labels = np.asarray(items.labels).astype(np.int64) + 1
        self.stream = (seed, ("train", "test").index(split))

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Image.Image, Objects]:
        """Makes a scene; IndexError if there are not so many."""
        place = operator.index(index)
        if not -self.count <= place < self.count:
            raise IndexError(f"index is {index}; there are {self.count} scenes")
        generator = np.random.default_rng([*self.stream, place % self.count])
        scene = draw_scene(self.items.images, size=self.size, generator=generator)
        return Image.fromarray(scene.pixels), objects_of(scene, self.labels, image_id=place % self.count)


def draw_scene(pictures: np.ndarray, *, size: int, generator: np.random.Generator) -> Scene:
    """Pastes pictures of items at random places and scales on a noisy, shaded canvas.

    Later items lie on earlier ones; a place where too little of one would be seen is not taken.

    Args:
        pictures: uint8, (N, side, side): grey items on black to choose from.
        size: side of the canvas in pixels.
        generator: decides everything about the scene.

    Returns:
        The scene, of `ITEMS` items.

    Raises:
        ValueError: if no scene comes about: pictures are black or too large for the canvas.

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
    """The objects of a scene, by the label of each picture that it chose from; boxes are those of the masks.

    Example:
        >>> masks = np.array([[[0, 1, 1], [0, 1, 0]]], np.uint8)
        >>> scene = Scene(pixels=masks[0], masks=masks, items=np.array([0]))
        >>> objects_of(scene, np.array([7]), image_id=1).boxes.tolist()
        [[1.0, 0.0, 3.0, 2.0]]
    """
    return Objects(
        boxes=np.array([Image.fromarray(mask).getbbox() for mask in scene.masks], np.float32),
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
