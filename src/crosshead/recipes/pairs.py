from dataclasses import replace

from crosshead.recipes.landsat import landsat
from crosshead.tasks.change.recipe import ChangeRecipe


def pairs() -> ChangeRecipe:
    """A Siamese iViT on your own image pairs of any number of bands, in folders before/, after/ and label/.

    Labels may be sparse: 0 is unlabelled, 1 unchanged, 2 changed (--class-names for other classes).

    Expect: depends on the images. Time: not measured.

    Command: crosshead train pairs --data-dir DIR
    """
    return replace(landsat(), data="pairs", crop=64, epochs=30)
