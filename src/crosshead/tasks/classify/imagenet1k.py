from pathlib import Path

from crosshead.tasks.classify.folder import load_folder
from crosshead.tasks.layout import find_splits
from crosshead.tasks.splits import ImageSplits
from crosshead.tasks.task import DataError

NUM_CLASSES = 1000


def load_imagenet1k(data_dir: str | Path | None) -> ImageSplits:
    """Load ImageNet-1k (ILSVRC 2012) from a folder of images.

    Source: O. Russakovsky et al., "ImageNet large scale visual recognition challenge", arXiv 1409.0575.

    Args:
        data_dir: A folder with `train/` and `val/`, each of 1,000 folders named after WordNet synsets, such
            as n01440764.

    Returns:
        RGB images of any size; classes are the synsets in alphabetical order, as in all published weights.

    Raises:
        DataError: When the folder has no splits or not 1,000 classes, and as in `load_folder`.

    Example:
        >>> load_imagenet1k("no/such/folder")
        Traceback (most recent call last):
            ...
        crosshead.tasks.task.DataError: no/such/folder: no such folder; give data_dir a folder that exists
    """
    train, held_out = find_splits(data_dir)
    if held_out is None:
        raise DataError(f"{data_dir}: no train/ and val/; give the folder that holds both")
    for split in train, held_out:
        count = sum(path.is_dir() and not path.name.startswith(".") for path in split.iterdir())
        if count != NUM_CLASSES:
            raise DataError(
                f"{split}: {count} class folders, and ImageNet-1k has {NUM_CLASSES}; sort the images into "
                "one folder for each synset, or use the recipe for any folder"
            )
    return load_folder(data_dir)
