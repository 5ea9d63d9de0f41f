"""Any folder of images that are sorted into class folders: its splits, and all that is wrong with it."""

import hashlib
import logging
from collections.abc import Iterator
from pathlib import Path

from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torchvision.datasets.folder import IMG_EXTENSIONS

from crosshead.tasks.classify.class_tree import findings, hidden, read_class_tree
from crosshead.tasks.classify.data import ClassifyMeta
from crosshead.tasks.depth import find_bits
from crosshead.tasks.images import ImageFiles, read_image
from crosshead.tasks.splits import NAMES, existing_folder, find_places, stratified_split
from crosshead.tasks.task import Data, DataError

logger = logging.getLogger(__name__)

IMAGENET_CLASSES = 1000


def load_folder(data_dir: str | Path | None, *, test: float = 0.2) -> Data[ClassifyMeta]:
    """Loads any folder of images that are sorted into class folders.

    Args:
        data_dir: a folder of a layout that `find_splits` knows. Image files are known by torchvision's list
            of extensions, other files are ignored and counted.
        test: fraction of each class to test on, where there is no held-out split.

    Returns:
        RGB images of any size; labels are positions in the alphabetical order of the class folders. A lone
        held-out split is the test set; where there is none, a fraction of each class is, always the same
        images.

    Raises:
        DataError: if the folder is missing or empty, a class folder is empty, the splits differ in their
            classes, or too many images are unreadable.
    """
    return _load(find_splits(data_dir), test=test)


def load_imagenet1k(data_dir: str | Path | None) -> Data[ClassifyMeta]:
    """Loads ImageNet-1k (ILSVRC 2012) from a folder of images.

    Source: O. Russakovsky et al., "ImageNet large scale visual recognition challenge", arXiv 1409.0575.

    Args:
        data_dir: a folder with `train/` and `val/`, each of 1,000 folders named after WordNet synsets, such
            as n01440764.

    Returns:
        RGB images of any size; classes are the synsets in alphabetical order, as in all published weights.
        The published validation images are the test set, as in all published results.

    Raises:
        DataError: if the folder has no splits or not 1,000 classes, and as in `load_folder`.
    """
    return _load(find_imagenet1k(data_dir))


def find_splits(data_dir: str | Path | None) -> dict[str, Path]:
    """Finds the splits of a folder of images.

    Two layouts are known: `{train,val,test}/<class>/`, with either or both of the held-out splits or none,
    and with the names of `crosshead.tasks.splits.NAMES` in upper or lower case; and `<class>/` without
    splits. A held-out folder that holds images rather than class folders is passed over beside another one.

    Args:
        data_dir: the folder.

    Returns:
        The folders of "train", "test" and, where there are both of the held-out ones, "val"; without held-out
        splits only "train", which without any is the folder itself.

    Raises:
        DataError: if `data_dir` is not a folder, there is a held-out split without a training split, or a
            training split with other folders beside it that no split is called.

    Example:
        >>> import tempfile
        >>> root = Path(tempfile.mkdtemp())
        >>> for folder in "train/cat", "train/dog", "val/cat", "val/dog":
        ...     (root / folder).mkdir(parents=True)
        >>> {split: path.name for split, path in find_splits(root).items()}
        {'train': 'train', 'test': 'val'}
    """
    root = existing_folder(data_dir)
    known = {name for names in NAMES.values() for name in names}
    folders = {
        name: path
        for path in sorted(root.iterdir(), reverse=True)
        if (name := path.name.casefold()) in known and path.is_dir()
    }
    named = _places(folders)
    # A folder with images in it is a class, even one called "train" (beside "bus" and "car").
    split = _places({name: folder for name, folder in folders.items() if not _holds_images(folder)})
    if "train" in split and "test" in split:
        for folder in set(named.values()) - set(split.values()):
            logger.warning("%s: passed over, for it holds images where class folders should be", folder)
        return split
    if "train" in split and "test" in named:
        return named
    if "train" in split:
        others = [path.name for path in root.iterdir() if path.is_dir() and path != split["train"]]
        others = [name for name in sorted(others) if not hidden(name)]
        if not others:
            return split
        raise DataError(
            f"{root}: has {split['train'].name}/ but no val/, test/ or valid/; call {others[0]}/ so if it is "
            "held out, or move it elsewhere"
        )
    if split and "train" not in named:
        raise DataError(f"{root}: has {split['test'].name}/ but no train/; add the training split")
    return {"train": root}


def find_imagenet1k(data_dir: str | Path | None) -> dict[str, Path]:
    """Finds the splits of ImageNet-1k: "train", and what is published as val for "test".

    The images that are published as its test split have no labels, and are passed over.

    Raises:
        DataError: if the folder has no splits or not 1,000 class folders in each.
    """
    places = find_splits(data_dir)
    if "test" not in places:
        raise DataError(f"{data_dir}: no train/ and val/; give the folder that holds both")
    places = {"train": places["train"], "test": places.get("val", places["test"])}
    for place in places.values():
        count = sum(path.is_dir() and not path.name.startswith(".") for path in place.iterdir())
        if count != IMAGENET_CLASSES:
            raise DataError(
                f"{place}: {count} class folders, and ImageNet-1k has {IMAGENET_CLASSES}; sort the images "
                "into one folder for each synset, or use the recipe for any folder"
            )
    return places


def read_splits(
    places: dict[str, Path], *, side: int | None = None, test: float = 0.2
) -> tuple[dict[str, ImageFiles], tuple[str, ...]]:
    """Lists the image files of each split, and checks all that can be checked without decoding every one.

    Args:
        places: the folders, as `find_splits` returns them; of "train" alone, a part of each class is the
            test set, always the same.
        side: the width and height in pixels that every image must have; None for any.
        test: the fraction that this part is.

    Returns:
        The files by split, and the names of the classes.

    Raises:
        DataError: if a class folder is empty, the splits differ in their classes, or too many images are
            unreadable.

    Example:
        >>> from tempfile import mkdtemp
        >>> from PIL import Image
        >>> root = Path(mkdtemp())
        >>> for name in "cat/1.png", "cat/2.png", "dog/1.png", "dog/2.png":
        ...     (root / name).parent.mkdir(exist_ok=True)
        ...     Image.new("RGB", (4, 4)).save(root / name)
        >>> files, classes = read_splits({"train": root})
        >>> len(files["train"]), len(files["test"]), classes
        (2, 2, ('cat', 'dog'))
    """
    trees = {split: read_class_tree(place) for split, place in places.items()}
    for finding in findings(trees):
        raise DataError(finding)
    for tree in trees.values():
        if tree.ignored:
            logger.warning(
                "%s: %d files ignored (no image by extension, or outside the class folders), such as %s",
                tree.root,
                len(tree.ignored),
                tree.ignored[0],
            )
    bits = find_bits(trees["train"].samples()[0])
    look = {"side": side, "bits": bits}
    files = {split: ImageFiles(*tree.samples(), root=tree.root, **look) for split, tree in trees.items()}
    if "test" not in files:
        whole = files["train"]
        parts = stratified_split(whole.labels, fraction=test)
        for split, part in zip(("train", "test"), parts, strict=True):
            paths = [whole.paths[int(index)] for index in part]
            files[split] = ImageFiles(paths, whole.labels[part], root=whole.root, **look)
    for part in files.values():
        part.probe()
    return files, trees["train"].classes


def check_folder(places: dict[str, Path]) -> Iterator[str]:
    """Walks whole splits and lists everything that is wrong with them.

    Where `read_splits` stops at the first fault and decodes a few images, this goes on and decodes them all.

    Args:
        places: the folders, as `find_splits` returns them.

    Yields:
        One line for each fault, as soon as it is found: what is wrong with the layout, files that are
        ignored, unreadable images, and images that are there twice, in one split or in two.

    Raises:
        DataError: if a folder cannot be listed.
    """
    trees = {split: read_class_tree(place) for split, place in places.items()}
    yield from findings(trees)
    for path in (path for tree in trees.values() for path in tree.ignored):
        yield (
            f"{path}: ignored: no image by its extension, or outside the class folders; move it into one, or "
            "leave it out"
        )
    bits = find_bits(trees["train"].samples()[0])
    seen: dict[bytes, tuple[str, str]] = {}
    for split, path in ((split, path) for split, tree in trees.items() for path in tree.samples()[0]):
        try:
            read_image(path, bits=bits)
        except DataError as error:
            yield str(error)
            continue
        digest = hashlib.blake2b(Path(path).read_bytes(), digest_size=16).digest()
        earlier, first = seen.setdefault(digest, (split, path))
        if first != path:
            where = "" if earlier == split else f" of the {earlier} split"
            yield f"{path}: byte for byte the same as {first}{where}; leave one of them out"


def _load(places: dict[str, Path], *, test: float = 0.2) -> Data[ClassifyMeta]:
    files, classes = read_splits(places, test=test)
    return Data(
        train=files["train"],
        val=files.get("val"),
        test=files["test"],
        meta=ClassifyMeta(
            classes=classes,
            in_chans=3,
            image_size=224,
            mean=IMAGENET_DEFAULT_MEAN,
            std=IMAGENET_DEFAULT_STD,
            bits=files["train"].bits,
        ),
    )


def _places(folders: dict[str, Path]) -> dict[str, Path]:
    return find_places(
        lambda _, names: next((folders[name] for name in names if name in folders), None),
        train=None,
        val=None,
        test=None,
    )


def _holds_images(folder: Path) -> bool:
    return any(path.suffix.lower() in IMG_EXTENSIONS for path in folder.iterdir())
