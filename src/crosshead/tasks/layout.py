from pathlib import Path

from torchvision.datasets.folder import IMG_EXTENSIONS

from crosshead.tasks.splits import DataError

TRAIN_NAMES = ("train", "training")
HELD_OUT_NAMES = ("val", "test", "valid", "validation", "testing")


def existing_folder(data_dir: str | Path | None) -> Path:
    """Check that a data folder was given and exists.

    Args:
        data_dir: What the user gave; `~` stands for the home folder.

    Returns:
        The same as a path.

    Raises:
        DataError: When it is None, does not exist, is a file, or cannot be listed.

    Example:
        >>> existing_folder(None)
        Traceback (most recent call last):
            ...
        crosshead.tasks.splits.DataError: data_dir is None; give the folder that holds the data
    """
    if data_dir is None:
        raise DataError("data_dir is None; give the folder that holds the data")
    root = Path(data_dir).expanduser()
    if not root.exists():
        raise DataError(f"{root}: no such folder; give data_dir a folder that exists")
    if not root.is_dir():
        raise DataError(f"{root}: a file; give data_dir the folder that holds the data, unpacked")
    try:
        next(root.iterdir(), None)
    except OSError as error:
        raise DataError(f"{root}: cannot be listed ({error.strerror}); check the folder") from error
    return root


def find_splits(data_dir: str | Path | None) -> tuple[Path, Path | None]:
    """Find the two splits of a folder of images.

    Two layouts are known: `{train,val|test|valid}/<class>/` (upper and lower case alike; where several are
    there, `val` comes before `test`), and `<class>/` without splits.

    Args:
        data_dir: The folder.

    Returns:
        The folder of the training split and that of the held-out split; the folder itself and None for the
        layout without splits.

    Raises:
        DataError: When `data_dir` is no folder, or one of the two splits is missing.

    Example:
        >>> import tempfile
        >>> root = Path(tempfile.mkdtemp())
        >>> for folder in "train/cat", "train/dog", "val/cat", "val/dog":
        ...     (root / folder).mkdir(parents=True)
        >>> [path.name for path in find_splits(root)]
        ['train', 'val']
    """
    root = existing_folder(data_dir)
    train, held_out = _subfolder(root, TRAIN_NAMES), _subfolder(root, HELD_OUT_NAMES)
    # A folder with images in it is a class, even one called "train" (beside "bus" and "car").
    if train is not None and not _is_class(train):
        if held_out is None:
            raise DataError(f"{root}: has {train.name}/ but no val/, test/ or valid/; add the held-out split")
        return train, held_out
    if train is None and held_out is not None and not _is_class(held_out):
        raise DataError(f"{root}: has {held_out.name}/ but no train/; add the training split")
    return root, None


def _subfolder(root: Path, names: tuple[str, ...]) -> Path | None:
    folders = {path.name.casefold(): path for path in sorted(root.iterdir(), reverse=True) if path.is_dir()}
    return next((folders[name] for name in names if name in folders), None)


def _is_class(folder: Path) -> bool:
    return any(path.suffix.lower() in IMG_EXTENSIONS for path in folder.iterdir())
