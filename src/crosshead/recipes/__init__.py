"""Recipes by name: each a function that returns a frozen dataclass, and whose docstring says what to expect.

Importing them imports neither torch nor lightning.
"""

from collections.abc import Callable

from crosshead.recipes.ade20k import ade20k
from crosshead.recipes.bccd import bccd
from crosshead.recipes.cifar10 import cifar10
from crosshead.recipes.coco import coco, coco_3x
from crosshead.recipes.digits import digits
from crosshead.recipes.fashion_mnist import fashion_mnist
from crosshead.recipes.fashion_scenes import fashion_scenes
from crosshead.recipes.folder import folder
from crosshead.recipes.imagenet1k import imagenet1k
from crosshead.recipes.landsat import landsat
from crosshead.recipes.masks import masks
from crosshead.recipes.nuclei import nuclei
from crosshead.recipes.nuclei_semantic import nuclei_semantic
from crosshead.recipes.pairs import pairs
from crosshead.tasks.recipe import Recipe

RECIPES: dict[str, Callable[[], Recipe]] = {
    "digits": digits,
    "fashion-mnist": fashion_mnist,
    "cifar10": cifar10,
    "folder": folder,
    "imagenet1k": imagenet1k,
    "bccd": bccd,
    "nuclei": nuclei,
    "coco": coco,
    "coco-3x": coco_3x,
    "masks": masks,
    "nuclei-semantic": nuclei_semantic,
    "fashion-scenes": fashion_scenes,
    "ade20k": ade20k,
    "landsat": landsat,
    "pairs": pairs,
}

__all__ = [
    "RECIPES",
    "ade20k",
    "bccd",
    "cifar10",
    "coco",
    "coco_3x",
    "digits",
    "fashion_mnist",
    "fashion_scenes",
    "folder",
    "imagenet1k",
    "landsat",
    "masks",
    "nuclei",
    "nuclei_semantic",
    "pairs",
]
