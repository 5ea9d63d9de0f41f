from pathlib import Path

from crosshead.tasks.classify.idx import read_idx
from crosshead.tasks.classify.image_array import ImageArray, check_labels
from crosshead.tasks.layout import existing_folder
from crosshead.tasks.splits import ImageSplits
from crosshead.tasks.task import DataError

CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
SIDE = 28
TRAIN_FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte")
TEST_FILES = ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
_PUBLISHED = ", ".join(f"{name}.gz" for name in TRAIN_FILES + TEST_FILES)


def load_fashion_mnist(data_dir: str | Path | None, *, download: bool = False) -> ImageSplits:
    """Load Fashion-MNIST: grey 28 x 28 pictures of ten kinds of clothing.

    Source: H. Xiao, K. Rasul, R. Vollgraf, "Fashion-MNIST: a novel image dataset for benchmarking machine
    learning algorithms", arXiv 1708.07747.

    Args:
        data_dir: The folder that holds the four idx files as published, gzipped or not, directly or where
            torchvision puts them (FashionMNIST/raw).
        download: Whether to download what is missing into `data_dir`, through torchvision.

    Returns:
        60,000 images to train on and 10,000 to test on in the published set.

    Raises:
        DataError: When a file is missing, damaged or does not match the others, or the download fails.

    Example:
        >>> load_fashion_mnist("no/such/folder")
        Traceback (most recent call last):
            ...
        crosshead.tasks.task.DataError: no/such/folder: no such folder; give data_dir a folder that exists
    """
    if download and data_dir is not None and not _complete(Path(data_dir).expanduser()):
        _download(Path(data_dir).expanduser())
    root = existing_folder(data_dir)
    return ImageSplits(
        train=_read_split(root, *TRAIN_FILES),
        test=_read_split(root, *TEST_FILES),
        classes=CLASSES,
        in_chans=1,
        image_size=SIDE,
        # Of the 60,000 published training images.
        mean=(0.2860,),
        std=(0.3530,),
    )


def _read_split(root: Path, images_name: str, labels_name: str) -> ImageArray:
    images_path, labels_path = _required(root, images_name), _required(root, labels_name)
    images, labels = read_idx(images_path, ndim=3), read_idx(labels_path, ndim=1)
    if len(images) == 0:
        raise DataError(f"{images_path}: holds no image; get the file again")
    if images.shape[1:] != (SIDE, SIDE):
        raise DataError(
            f"{images_path}: images of {images.shape[1]} x {images.shape[2]} pixels, and Fashion-MNIST has "
            f"{SIDE} x {SIDE}; put the published file in its place"
        )
    if len(images) != len(labels):
        raise DataError(
            f"{labels_path}: {len(labels)} labels for the {len(images)} images of {images_path.name}; "
            "get both files again"
        )
    check_labels(labels, num_classes=len(CLASSES), path=labels_path)
    return ImageArray(images, labels)


def _find(root: Path, name: str) -> Path | None:
    folders = (root, root / "FashionMNIST" / "raw")
    # The gzipped file first: it carries a checksum.
    candidates = (folder / file for folder in folders for file in (f"{name}.gz", name))
    return next((path for path in candidates if path.is_file()), None)


def _required(root: Path, name: str) -> Path:
    path = _find(root, name)
    if path is None:
        raise DataError(f"{root}: no {name}.gz; put {_PUBLISHED} there, or download them (download=True)")
    return path


def _complete(root: Path) -> bool:
    return all(_find(root, name) for name in TRAIN_FILES + TEST_FILES)


def _download(root: Path) -> None:
    from torchvision.datasets import FashionMNIST

    try:
        FashionMNIST(str(root), download=True)
    except (OSError, RuntimeError) as error:
        raise DataError(
            f"{root}: Fashion-MNIST cannot be downloaded ({error}); put {_PUBLISHED} there by hand"
        ) from error
