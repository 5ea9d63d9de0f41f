"""Recipes by name: each a function that returns a frozen dataclass, and whose docstring says what to expect.

Importing them imports neither torch nor lightning.
"""

from collections.abc import Callable

from crosshead.recipes import change, classify, detect, linearize, segment
from crosshead.tasks.recipe import Recipe

RECIPES: dict[str, Callable[[], Recipe]] = {
    # On anybody's own data.
    "classify": classify.classify,
    "detect": detect.detect,
    "instances": detect.instances,
    "segment": segment.segment,
    "change": change.change,
    "linearize": linearize.linearize,
    # On data sets that are published.
    "digits": classify.digits,
    "fashion-mnist": classify.fashion_mnist,
    "cifar10": classify.cifar10,
    "imagenet1k": classify.imagenet1k,
    "bccd": detect.bccd,
    "nuclei": detect.nuclei,
    "coco": detect.coco,
    "coco-3x": detect.coco_3x,
    "nuclei-semantic": segment.nuclei_semantic,
    "fashion-scenes": segment.fashion_scenes,
    "ade20k": segment.ade20k,
    "landsat": change.landsat,
}
