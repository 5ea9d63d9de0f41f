"""CIFAR-10: as published, as a tree of images, or as an archive of either."""

import hashlib
import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
from torchvision.datasets import CIFAR10
from torchvision.datasets.utils import download_url

from crosshead.tasks.classify.archive import SUFFIXES, extract_archive
from crosshead.tasks.classify.data import ClassifyMeta, ImageArray
from crosshead.tasks.classify.folder import find_splits, read_splits
from crosshead.tasks.splits import existing_folder
from crosshead.tasks.task import Data, DataError

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def load_cifar10(
    data_dir: str | Path | None, *, download: bool = False, cache_dir: str | Path | None = None
) -> Data[ClassifyMeta]:
    """Loads CIFAR-10: 32 x 32 RGB pictures of ten kinds of animals and vehicles.

    Source: A. Krizhevsky, "Learning multiple layers of features from tiny images", 2009.

    Args:
        data_dir: what is at hand: the published batches (cifar-10-batches-py/) or their archive, or a tree of
            images {train,test}/<class>/ or an archive of such a tree; or the folder that holds one of these.
        download: whether to download the published archive into `data_dir` where there is nothing to read.
        cache_dir: where archives are unpacked; see `crosshead.tasks.classify.archive.extract_archive`.

    Returns:
        50,000 images to train on and 10,000 to test on in the published set, which has no validation split.

    Raises:
        DataError: if nothing of this is there, a batch is not the published file, an archive or an image is
            damaged, or the download fails.
    """
    if download and data_dir is not None:
        _download(Path(data_dir).expanduser())
    root = _find_root(data_dir, cache_dir=cache_dir)
    splits: dict[str, Any]
    if _has_batches(root):
        splits = {
            "train": _read_batches(root, CIFAR10.train_list),
            "test": _read_batches(root, CIFAR10.test_list),
        }
    else:
        splits, classes = read_splits(find_splits(root), side=32)
        if classes != CLASSES:
            raise DataError(
                f"{root}: class folders {', '.join(classes[:12])}, where CIFAR-10 has {', '.join(CLASSES)}; "
                "rename them, or use the recipe for any folder"
            )
    return Data(
        train=splits["train"],
        val=splits.get("val"),
        test=splits["test"],
        meta=ClassifyMeta(
            classes=CLASSES,
            in_chans=3,
            image_size=32,
            # Of the 50,000 published training images.
            mean=(0.4914, 0.4822, 0.4465),
            std=(0.2470, 0.2435, 0.2616),
        ),
    )


class ArraysOnly(pickle.Unpickler):
    """Unpickles numbers, strings, containers and NumPy's arrays, and refuses to call anything else."""

    def find_class(self, module: str, name: str, /) -> Any:
        """The few names by which a pickle asks for an array.

        Raises:
            UnpicklingError: if it asks for any other.
        """
        match module, name:
            case "numpy.core.multiarray", "_reconstruct":
                return super().find_class(module, name)
            case "numpy", "ndarray":
                return np.ndarray
            case "numpy", "dtype":
                # NumPy warns of the numbers that stand for its other two arguments in old pickles.
                return lambda code, *_flags: np.dtype(code, copy=True)
        raise pickle.UnpicklingError(f"it asks to run {module}.{name}, which no batch needs")


def _read_batches(folder: Path, published: list[list[str]]) -> ImageArray:
    """Reads pickles without running what they may contain.

    A file is unpickled only if it is, to the bit, the published one; and even that may ask for arrays alone.
    """
    images, labels = [], []
    for name, checksum in published:
        path = folder / name
        try:
            content = path.read_bytes()
        except OSError as error:
            raise DataError(
                f"{path}: cannot be read ({error.strerror}); get the six batch files again"
            ) from error
        if (found := hashlib.md5(content, usedforsecurity=False).hexdigest()) != checksum:
            raise DataError(
                f"{path}: not the published CIFAR-10 batch (MD5 {found}, not {checksum}); get the file again "
                "from its publisher, or sort the images into train/<class>/ and test/<class>/"
            )
        batch = ArraysOnly(io.BytesIO(content), encoding="bytes").load()
        images.append(batch[b"data"])
        labels.extend(batch[b"labels"])
    # A row holds the 1,024 red values, then the green, then the blue.
    pixels = np.concatenate(images).reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return ImageArray(np.ascontiguousarray(pixels), np.asarray(labels))


def _find_root(data_dir: str | Path | None, *, cache_dir: str | Path | None) -> Path:
    archive = None if data_dir is None else Path(data_dir).expanduser()
    if archive is None or not (archive.is_file() and _is_archive(archive)):
        folder = existing_folder(data_dir)
        root = _root_below(folder)
        if root is not None:
            return root
        archive = _only_archive(folder)
    content = extract_archive(archive, cache_dir=cache_dir)
    inside = (content, *sorted(path for path in content.iterdir() if path.is_dir()))
    root = next((path for path in inside if _has_data(path)), None)
    if root is None:
        raise DataError(
            f"{archive}: neither {CIFAR10.base_folder}/ nor train/ and test/ in it; "
            "get the archive of CIFAR-10"
        )
    return root


def _root_below(folder: Path) -> Path | None:
    known = (folder, folder / CIFAR10.base_folder, folder / "cifar10")
    return next((path for path in known if _has_data(path)), None)


def _has_data(folder: Path) -> bool:
    return _has_batches(folder) or (folder / "train").is_dir()


def _has_batches(folder: Path) -> bool:
    return any((folder / name).is_file() for name, _ in CIFAR10.train_list + CIFAR10.test_list)


def _only_archive(folder: Path) -> Path:
    archives = sorted(path for path in folder.iterdir() if path.is_file() and _is_archive(path))
    ours = [path for path in archives if "cifar" in path.name.lower() and "100" not in path.name] or archives
    if not ours:
        raise DataError(
            f"{folder}: no CIFAR-10; put {CIFAR10.base_folder}/, {CIFAR10.filename}, or train/<class>/ and "
            "test/<class>/ there, or download it (download=True)"
        )
    if len(ours) > 1:
        raise DataError(
            f"{folder}: several archives ({', '.join(path.name for path in ours)}); give data_dir one of them"
        )
    return ours[0]


def _is_archive(path: Path) -> bool:
    return path.name.lower().endswith(SUFFIXES)


def _download(folder: Path) -> None:
    if folder.is_file() or _root_below(folder) is not None:
        return
    try:
        # Against the published checksum, also where the archive is already there.
        download_url(CIFAR10.url, str(folder), filename=CIFAR10.filename, md5=CIFAR10.tgz_md5)
    except (OSError, RuntimeError) as error:
        raise DataError(
            f"{folder}: CIFAR-10 cannot be downloaded ({error}); put {CIFAR10.filename} there by hand"
        ) from error
