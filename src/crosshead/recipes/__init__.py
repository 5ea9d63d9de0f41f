"""Recipes by name: each a function that returns a frozen dataclass, and whose docstring says what to expect.

Importing them imports neither torch nor lightning.
"""

from collections.abc import Callable

from crosshead.recipes.cifar10 import cifar10
from crosshead.recipes.digits import digits
from crosshead.recipes.fashion_mnist import fashion_mnist
from crosshead.recipes.folder import folder
from crosshead.recipes.imagenet1k import imagenet1k
from crosshead.runs.recipe import ClassifyRecipe

RECIPES: dict[str, Callable[[], ClassifyRecipe]] = {
    "digits": digits,
    "fashion-mnist": fashion_mnist,
    "cifar10": cifar10,
    "folder": folder,
    "imagenet1k": imagenet1k,
}

__all__ = ["RECIPES", "ClassifyRecipe", "cifar10", "digits", "fashion_mnist", "folder", "imagenet1k"]
