"""Images with a class each: what a classifier has to know of them, and two sets that are held in memory."""

import gzip
import math
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch.utils.data import Dataset
from torchvision.datasets import FashionMNIST

from crosshead.tasks.splits import existing_folder, stratified_split
from crosshead.tasks.task import Data, DataError, Meta

FASHION_FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
_FASHION_NAMES = [name for names in FASHION_FILES.values() for name in names]
_PUBLISHED = ", ".join(f"{name}.gz" for name in _FASHION_NAMES)


@dataclass(frozen=True, kw_only=True)
class ClassifyMeta(Meta):
    """What a classifier has to know about its images.

    Attributes:
        image_size: side of the square that images are brought to, in pixels.
        class_weights: weight of each class in the loss of a training; None if all count alike.
    """

    image_size: int
    class_weights: tuple[float, ...] | None = None


class ImageArray(Dataset[tuple[Image.Image, int]]):
    """Labelled images of one size, held in memory.

    Args:
        images: uint8, (N, height, width) for grey images or (N, height, width, 3) for RGB.
        labels: integers, (N,).

    Raises:
        ValueError: if there are not as many labels as images.

    Example:
        >>> images = ImageArray(np.zeros((5, 28, 28), np.uint8), labels=np.arange(5))
        >>> image, label = images[3]
        >>> len(images), image.mode, image.size, label
        (5, 'L', (28, 28), 3)
    """

    def __init__(self, images: np.ndarray, labels: np.ndarray) -> None:
        if len(images) != len(labels):
            raise ValueError(
                f"images are {len(images)} and labels {len(labels)}; give one label for each image"
            )
        self.images = images
        self.labels = labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        return Image.fromarray(self.images[index]), int(self.labels[index])


def load_digits() -> Data[ClassifyMeta]:
    """Loads the 1,797 handwritten digits of 8 x 8 pixels that ship with scikit-learn.

    They are the test part of the UCI "Optical Recognition of Handwritten Digits" set, without a split of
    their own: a fixed fifth of each class is the test set. The grey values 0..16 are stretched to 0..255.

    Returns:
        1,438 images to train on and 359 to test on, grey, ten classes; no validation split.

    Raises:
        ImportError: if scikit-learn is not installed.

    Example:
        >>> digits = load_digits()
        >>> len(digits.train), len(digits.test), digits.meta.image_size
        (1438, 359, 8)
    """
    try:
        from sklearn import datasets
    except ImportError as error:
        raise ImportError(
            "the digits ship with scikit-learn, which is not installed: pip install 'crosshead[train]'"
        ) from error
    bundle: Any = datasets.load_digits()
    images = np.rint(bundle.images * (255 / 16)).astype(np.uint8)
    train, test = stratified_split(bundle.target)
    return Data(
        train=ImageArray(images[train], bundle.target[train]),
        val=None,
        test=ImageArray(images[test], bundle.target[test]),
        meta=ClassifyMeta(
            classes=tuple(map(str, bundle.target_names)),
            in_chans=1,
            image_size=8,
            mean=(float(images[train].mean() / 255),),
            std=(float(images[train].std() / 255),),
        ),
    )


def load_fashion_mnist(data_dir: str | Path | None, *, download: bool = False) -> Data[ClassifyMeta]:
    """Loads Fashion-MNIST: grey 28 x 28 pictures of ten kinds of clothing.

    Source: H. Xiao, K. Rasul, R. Vollgraf, "Fashion-MNIST: a novel image dataset for benchmarking machine
    learning algorithms", arXiv 1708.07747.

    Args:
        data_dir: the folder that holds the four idx files as published, gzipped or not, directly or where
            torchvision puts them (FashionMNIST/raw).
        download: whether to download what is missing into `data_dir`, through torchvision.

    Returns:
        60,000 images to train on and 10,000 to test on in the published set; no validation split.

    Raises:
        DataError: if a file is missing, damaged or does not match the others, or the download fails.
    """
    if download and data_dir is not None:
        _download_fashion(Path(data_dir).expanduser())
    root = existing_folder(data_dir)
    return Data(
        train=_read_fashion(root, "train"),
        val=None,
        test=_read_fashion(root, "test"),
        meta=ClassifyMeta(
            classes=tuple(FashionMNIST.classes),
            in_chans=1,
            image_size=28,
            # Of the 60,000 published training images.
            mean=(0.2860,),
            std=(0.3530,),
        ),
    )


def read_idx(path: Path, *, ndim: int) -> np.ndarray:
    """Reads an array of unsigned bytes from an idx file, the format of MNIST and its successors.

    The file may be gzipped or not, whatever its name says.

    Source of the format: Y. LeCun, C. Cortes, C. Burges, "The MNIST database of handwritten digits".

    Args:
        path: the file.
        ndim: the number of axes that the file must have: 3 for images, 1 for labels.

    Returns:
        uint8 with `ndim` axes; read-only.

    Raises:
        DataError: if the file cannot be read, has another magic number, or holds fewer or more bytes than
            its header announces.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "labels-idx1-ubyte"
        >>> _ = path.write_bytes(b"\\x00\\x00\\x08\\x01" + b"\\x00\\x00\\x00\\x03" + b"\\x07\\x01\\x02")
        >>> read_idx(path, ndim=1)
        array([7, 1, 2], dtype=uint8)
    """
    try:
        content = path.read_bytes()
        if content.startswith(b"\x1f\x8b"):
            content = gzip.decompress(content)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: damaged or truncated gzip ({error}); get the file again") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check the file") from error

    # Two zeros, the code of unsigned bytes, the number of axes.
    magic, start = bytes([0, 0, 8, ndim]), 4 + 4 * ndim
    if content[:4] != magic:
        raise DataError(
            f"{path}: magic number 0x{content[:4].hex()}, and an idx file of unsigned bytes with {ndim} axes "
            f"starts with 0x{magic.hex()}; put the published file in its place"
        )
    if len(content) < start:
        raise DataError(f"{path}: ends within its header of {start} bytes; get the file again")
    shape = tuple(np.frombuffer(content, ">u4", count=ndim, offset=4).tolist())
    if len(content) - start != math.prod(shape):
        raise DataError(
            f"{path}: the header announces {' x '.join(map(str, shape))} = {math.prod(shape)} bytes and "
            f"{len(content) - start} follow; get the file again"
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def _read_fashion(root: Path, split: str) -> ImageArray:
    images_path, labels_path = (_fashion_file(root, name) for name in FASHION_FILES[split])
    images, labels = read_idx(images_path, ndim=3), read_idx(labels_path, ndim=1)
    if len(images) == 0:
        raise DataError(f"{images_path}: holds no image; get the file again")
    if images.shape[1:] != (28, 28):
        raise DataError(
            f"{images_path}: images of {images.shape[1]} x {images.shape[2]} pixels, and Fashion-MNIST has "
            "28 x 28; put the published file in its place"
        )
    if len(images) != len(labels):
        raise DataError(
            f"{labels_path}: {len(labels)} labels for the {len(images)} images of {images_path.name}; "
            "get both files again"
        )
    if labels.max() > 9:
        raise DataError(
            f"{labels_path}: label {labels.max()} at position {labels.argmax()}, not in 0..9; "
            "get the file again"
        )
    return ImageArray(images, labels)


def _fashion_file(root: Path, name: str) -> Path:
    for place in (root, root / "FashionMNIST" / "raw"):
        # The gzipped file first: it carries a checksum.
        for path in (place / f"{name}.gz", place / name):
            if path.is_file():
                return path
    raise DataError(f"{root}: no {name}.gz; put {_PUBLISHED} there, or download them (download=True)")


def _download_fashion(root: Path) -> None:
    try:
        for name in _FASHION_NAMES:
            _fashion_file(root, name)
    except DataError:
        try:
            FashionMNIST(str(root), download=True)
        except (OSError, RuntimeError) as error:
            raise DataError(
                f"{root}: Fashion-MNIST cannot be downloaded ({error}); put {_PUBLISHED} there by hand"
            ) from error
