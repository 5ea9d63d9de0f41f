"""Recipes by name: each a function that returns a frozen dataclass, and whose docstring says what to expect.

Importing them imports neither torch nor lightning.
"""

from collections.abc import Callable

from crosshead.recipes import change, classify, detect, linearize, segment
from crosshead.tasks.recipe import Recipe

RECIPES: dict[str, Callable[[], Recipe]] = {
    "digits": classify.digits,
    "fashion-mnist": classify.fashion_mnist,
    "cifar10": classify.cifar10,
    "folder": classify.folder,
    "imagenet1k": classify.imagenet1k,
    "bccd": detect.bccd,
    "nuclei": detect.nuclei,
    "coco": detect.coco,
    "coco-3x": detect.coco_3x,
    "masks": segment.masks,
    "nuclei-semantic": segment.nuclei_semantic,
    "fashion-scenes": segment.fashion_scenes,
    "ade20k": segment.ade20k,
    "landsat": change.landsat,
    "pairs": change.pairs,
    "linearize": linearize.linearize,
}
