from pathlib import Path

import numpy as np

from crosshead.tasks.classify.archive import SUFFIXES, extract_archive
from crosshead.tasks.classify.cifar_batches import read_cifar_batch
from crosshead.tasks.classify.folder import read_folder_splits
from crosshead.tasks.classify.image_array import ImageArray
from crosshead.tasks.layout import existing_folder
from crosshead.tasks.splits import ImageSplits
from crosshead.tasks.task import DataError

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
SIDE = 32
TRAIN_BATCHES = tuple(f"data_batch_{number}" for number in range(1, 6))
TEST_BATCHES = ("test_batch",)
BATCHES_FOLDER = "cifar-10-batches-py"
PUBLISHED_ARCHIVE = "cifar-10-python.tar.gz"


def load_cifar10(
    data_dir: str | Path | None, *, download: bool = False, cache_dir: str | Path | None = None
) -> ImageSplits:
    """Load CIFAR-10: 32 x 32 RGB pictures of ten kinds of animals and vehicles.

    Source: A. Krizhevsky, "Learning multiple layers of features from tiny images", 2009.

    Args:
        data_dir: What is at hand: the published batches (cifar-10-batches-py/) or their archive, or a tree of
            images {train,test}/<class>/ or an archive of such a tree; or the folder that holds one of these.
        download: Whether to download the published archive into `data_dir` where there is nothing to read.
        cache_dir: Where archives are unpacked; see `crosshead.tasks.classify.archive.extract_archive`.

    Returns:
        50,000 images to train on and 10,000 to test on in the published set.

    Raises:
        DataError: When nothing of this is there, a file is damaged, hostile or does not fit the others, or
            the download fails.

    Example:
        >>> load_cifar10("no/such/folder")
        Traceback (most recent call last):
            ...
        crosshead.tasks.task.DataError: no/such/folder: no such folder; give data_dir a folder that exists
    """
    if download and data_dir is not None:
        _download_where_missing(Path(data_dir).expanduser())
    root = _find_root(data_dir, cache_dir=cache_dir)
    if _has_batches(root):
        train, test = _read_batches(root, TRAIN_BATCHES), _read_batches(root, TEST_BATCHES)
    else:
        train, test, classes = read_folder_splits(root, side=SIDE)
        if classes != CLASSES:
            raise DataError(
                f"{root}: class folders {', '.join(classes[:12])}, where CIFAR-10 has {', '.join(CLASSES)}; "
                "rename them, or use the recipe for any folder"
            )
    return ImageSplits(
        train=train,
        test=test,
        classes=CLASSES,
        in_chans=3,
        image_size=SIDE,
        # Of the 50,000 published training images.
        mean=(0.4914, 0.4822, 0.4465),
        std=(0.2470, 0.2435, 0.2616),
    )


def _find_root(data_dir: str | Path | None, *, cache_dir: str | Path | None) -> Path:
    archive = None if data_dir is None else Path(data_dir).expanduser()
    if archive is None or not (archive.is_file() and _is_archive(archive)):
        folder = existing_folder(data_dir)
        known = (folder, folder / BATCHES_FOLDER, folder / "cifar10")
        root = next((path for path in known if _has_data(path)), None)
        if root is not None:
            return root
        archive = _only_archive(folder)
    content = extract_archive(archive, cache_dir=cache_dir)
    inside = (content, *sorted(path for path in content.iterdir() if path.is_dir()))
    root = next((path for path in inside if _has_data(path)), None)
    if root is None:
        raise DataError(
            f"{archive}: neither {BATCHES_FOLDER}/ nor train/ and test/ in it; get the archive of CIFAR-10"
        )
    return root


def _only_archive(folder: Path) -> Path:
    archives = sorted(path for path in folder.iterdir() if path.is_file() and _is_archive(path))
    ours = [path for path in archives if "cifar" in path.name.lower() and "100" not in path.name] or archives
    if not ours:
        raise DataError(
            f"{folder}: no CIFAR-10; put {BATCHES_FOLDER}/, {PUBLISHED_ARCHIVE}, or train/<class>/ and "
            "test/<class>/ there, or download it (download=True)"
        )
    if len(ours) > 1:
        raise DataError(
            f"{folder}: several archives ({', '.join(path.name for path in ours)}); give data_dir one of them"
        )
    return ours[0]


def _is_archive(path: Path) -> bool:
    return path.name.lower().endswith(SUFFIXES)


def _has_data(folder: Path) -> bool:
    return _has_batches(folder) or (folder / "train").is_dir()


def _has_batches(folder: Path) -> bool:
    return any((folder / name).is_file() for name in TRAIN_BATCHES + TEST_BATCHES)


def _read_batches(root: Path, names: tuple[str, ...]) -> ImageArray:
    images, labels = zip(
        *(read_cifar_batch(root / name, num_classes=len(CLASSES)) for name in names), strict=True
    )
    return ImageArray(np.concatenate(images), np.concatenate(labels))


def _download_where_missing(folder: Path) -> None:
    from torchvision.datasets import CIFAR10
    from torchvision.datasets.utils import download_url

    if (
        folder.is_file()
        or _has_data(folder)
        or _has_data(folder / BATCHES_FOLDER)
        or _has_data(folder / "cifar10")
    ):
        return
    try:
        # Against the published checksum, also where the archive is already there.
        download_url(CIFAR10.url, str(folder), filename=PUBLISHED_ARCHIVE, md5=CIFAR10.tgz_md5)
    except (OSError, RuntimeError) as error:
        raise DataError(
            f"{folder}: CIFAR-10 cannot be downloaded ({error}); put {PUBLISHED_ARCHIVE} there by hand"
        ) from error
