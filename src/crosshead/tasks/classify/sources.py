"""From the name of a data source to its images."""

from crosshead.runs.folder import RunError
from crosshead.tasks.classify.cifar10 import load_cifar10
from crosshead.tasks.classify.digits import load_digits
from crosshead.tasks.classify.fashion_mnist import load_fashion_mnist
from crosshead.tasks.classify.folder import load_folder
from crosshead.tasks.classify.imagenet1k import load_imagenet1k
from crosshead.tasks.classify.recipe import ClassifyRecipe
from crosshead.tasks.splits import ImageSplits


def load_splits(recipe: ClassifyRecipe) -> ImageSplits:
    """The training and test images that a recipe names.

    Raises:
        RunError: If the source needs a folder and none is given, or cannot be downloaded.
        DataError: If the folder does not hold what it should.
    """
    if recipe.data == "digits":
        return load_digits()
    if recipe.data_dir is None:
        raise RunError(f"{recipe.data} needs the folder of its images: name it with --data-dir")
    if recipe.data == "fashion-mnist":
        return load_fashion_mnist(recipe.data_dir, download=recipe.download)
    if recipe.data == "cifar10":
        return load_cifar10(recipe.data_dir, download=recipe.download)
    if recipe.download:
        raise RunError(
            f"{recipe.data} cannot be downloaded: leave --download out and name the folder with --data-dir"
        )
    if recipe.data == "imagenet1k":
        return load_imagenet1k(recipe.data_dir)
    return load_folder(recipe.data_dir)
