"""From the name of a data source to its images."""

from crosshead import data
from crosshead.data.splits import ImageSplits
from crosshead.runs.classify.recipe import ClassifyRecipe
from crosshead.runs.folder import RunError


def load_splits(recipe: ClassifyRecipe) -> ImageSplits:
    """The training and test images that a recipe names.

    Raises:
        RunError: If the source needs a folder and none is given, or cannot be downloaded.
        DataError: If the folder does not hold what it should.
    """
    if recipe.data == "digits":
        return data.load_digits()
    if recipe.data_dir is None:
        raise RunError(f"{recipe.data} needs the folder of its images: name it with --data-dir")
    if recipe.data == "fashion-mnist":
        return data.load_fashion_mnist(recipe.data_dir, download=recipe.download)
    if recipe.data == "cifar10":
        return data.load_cifar10(recipe.data_dir, download=recipe.download)
    if recipe.download:
        raise RunError(
            f"{recipe.data} cannot be downloaded: leave --download out and name the folder with --data-dir"
        )
    if recipe.data == "imagenet1k":
        return data.load_imagenet1k(recipe.data_dir)
    return data.load_folder(recipe.data_dir)
