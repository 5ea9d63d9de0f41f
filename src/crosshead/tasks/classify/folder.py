from pathlib import Path

from crosshead.tasks.classify.class_tree import differences, read_class_tree
from crosshead.tasks.images import ImageFiles
from crosshead.tasks.layout import find_splits
from crosshead.tasks.splits import ImageSplits
from crosshead.tasks.task import DataError
from crosshead.tasks.stratified import stratified_split

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def load_folder(data_dir: str | Path | None) -> ImageSplits:
    """Load any folder of images that are sorted into class folders.

    Args:
        data_dir: A folder with the layout `{train,val|test|valid}/<class>/*.jpg`, or `<class>/*.jpg`: then a
            fixed fifth of each class is held out. Image files are known by torchvision's list of extensions,
            other files are ignored and counted.

    Returns:
        RGB images of any size; labels are positions in the alphabetical order of the class folders.

    Raises:
        DataError: When the folder is missing or empty, a class folder is empty, the splits differ in their
            classes, or too many images are unreadable.

    Example:
        >>> load_folder("no/such/folder")
        Traceback (most recent call last):
            ...
        crosshead.tasks.task.DataError: no/such/folder: no such folder; give data_dir a folder that exists
    """
    train, test, classes = read_folder_splits(data_dir)
    return ImageSplits(
        train=train,
        test=test,
        classes=classes,
        in_chans=3,
        image_size=224,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
    )


def read_folder_splits(
    data_dir: str | Path | None, *, side: int | None = None
) -> tuple[ImageFiles, ImageFiles, tuple[str, ...]]:
    """List the image files of a folder, and check it as far as can be done without decoding all of them.

    Args:
        data_dir: As in `load_folder`.
        side: If given, the width and height in pixels that every image must have.

    Returns:
        The training files, the held-out files, and the names of the classes.

    Raises:
        DataError: As in `load_folder`.

    Example:
        >>> from tempfile import mkdtemp
        >>> from PIL import Image
        >>> root = Path(mkdtemp())
        >>> for name in "cat/1.png", "cat/2.png", "dog/1.png", "dog/2.png":
        ...     (root / name).parent.mkdir(exist_ok=True)
        ...     Image.new("RGB", (4, 4)).save(root / name)
        >>> train, test, classes = read_folder_splits(root)
        >>> len(train), len(test), classes
        (2, 2, ('cat', 'dog'))
    """
    train_root, test_root = find_splits(data_dir)
    tree = read_class_tree(train_root)
    if test_root is None:
        tree.check(minimum=2)
        paths, labels = tree.samples()
        train, test = (
            ImageFiles([paths[index] for index in part], labels[part], root=train_root, side=side)
            for part in stratified_split(labels)
        )
    else:
        test_tree = read_class_tree(test_root)
        tree.check()
        for difference in differences(tree, test_tree):
            raise DataError(difference)
        test_tree.check()
        train, test = (ImageFiles(*part.samples(), root=part.root, side=side) for part in (tree, test_tree))
    train.probe()
    test.probe()
    return train, test, tree.classes
