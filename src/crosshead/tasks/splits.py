"""Three splits: what folders call them, and what is carved from the training set where one is missing.

`val` decides which epoch is best, `test` is touched by an evaluation alone. A data set with one held-out
split, whatever it is called, keeps it for the test; its `val` is a fraction of the training set.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from torch.utils.data import Dataset, Subset

from crosshead.tasks.task import DataError

# What data sets call their splits; the first is the usual name.
NAMES = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
SPLITS = tuple(NAMES)

P = TypeVar("P")


def existing_folder(data_dir: str | Path | None) -> Path:
    """Checks that a data folder was given and exists.

    Args:
        data_dir: what the user gave; `~` stands for the home folder.

    Returns:
        The same as a path.

    Raises:
        DataError: if it is None, does not exist, is a file, or cannot be listed.

    Example:
        >>> existing_folder(None)
        Traceback (most recent call last):
            ...
        crosshead.tasks.task.DataError: data_dir is None; give the folder that holds the data
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


def find_places(
    find: Callable[[str, Sequence[str]], P | None], *, train: str | None, val: str | None, test: str | None
) -> dict[str, P]:
    """Where the splits of a data set lie.

    Args:
        find: from a split and the names it may have to its place. It returns None where there is none, unless
            the only name was given by the user.
        train: the name that the user gives the training split.
        val: the same of the validation split.
        test: the same of the test split.

    Returns:
        The places by split. A lone held-out split is the test, unless the user has called it val.

    Example:
        >>> there = {"train", "validation"}
        >>> find = lambda split, names: next((name for name in names if name in there), None)
        >>> find_places(find, train=None, val=None, test=None)
        {'train': 'train', 'test': 'validation'}
    """
    given = {"train": train, "val": val, "test": test}
    places = {}
    for split, name in given.items():
        # What the user gives one split is not another one as well.
        usual = [each for each in NAMES[split] if each not in given.values()]
        place = find(split, usual if name is None else (name,))
        if place is not None:
            places[split] = place
    if "test" not in places and "val" in places and val is None:
        places["test"] = places.pop("val")
    return places


def stratified_split(
    labels: np.ndarray, *, fraction: float = 0.2, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Splits at random so that each class is shared out in the same proportion.

    The same labels, fraction and seed give the same split on every machine and with every version of NumPy.

    Args:
        labels: integers, (N,).
        fraction: of each class, rounded, that is held out: at least one item of each class.
        seed: of the shuffle.

    Returns:
        The positions of the items that stay and of those held out, both ascending.

    Raises:
        ValueError: if a class has fewer than two items, so that one of the splits would lack it.

    Example:
        >>> stay, held_out = stratified_split(np.array([0, 0, 0, 0, 0, 1, 1]))
        >>> len(stay), len(held_out)
        (5, 2)
    """
    # RandomState is the generator whose streams NumPy has frozen: those of default_rng may change.
    generator = np.random.RandomState(seed)
    held_out = np.zeros(len(labels), dtype=bool)
    for label, count in zip(*np.unique(labels, return_counts=True), strict=True):
        if count < 2:
            raise ValueError(f"labels has one item of class {label}; a split needs two or more of each class")
        chosen = generator.permutation(count)[: min(max(1, round(count * fraction)), count - 1)]
        held_out[np.flatnonzero(labels == label)[chosen]] = True
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def carve(
    train: Dataset, *, fraction: float, seed: int, labels: Sequence[int] | np.ndarray | None = None
) -> tuple[Dataset, Dataset | None]:
    """Takes a validation set out of a training set.

    Args:
        train: map-style.
        fraction: of the samples to take; 0 for none.
        seed: of the choice.
        labels: of each sample; its classes are shared out in proportion. By default samples are alike.

    Returns:
        What is left to train on, and the validation set.

    Raises:
        DataError: if there are too few samples to take any.

    Example:
        >>> train, val = carve(range(100), fraction=0.1, seed=0)
        >>> len(train), len(val), set(train) & set(val)
        (90, 10, set())
    """
    if fraction == 0:
        return train, None
    size = len(train)  # pyright: ignore[reportArgumentType] (map-style sets have a length)
    try:
        stay, held_out = stratified_split(
            np.zeros(size, int) if labels is None else np.asarray(labels), fraction=fraction, seed=seed
        )
    except ValueError:
        raise DataError(
            f"{size} training samples are too few to hold {fraction:.0%} of each class back for validation; "
            "add samples, or give --val 0"
        ) from None
    parts: Any = (Subset(train, stay.tolist()), Subset(train, held_out.tolist()))
    return parts


def shared_files(splits: dict[str, Sequence[Path]]) -> Iterator[str]:
    """Files that are in two splits, by their content.

    Args:
        splits: files of each split; all can be read.

    Yields:
        A line for each file that an earlier split has too.

    Example:
        >>> from tempfile import mkdtemp
        >>> root = Path(mkdtemp())
        >>> for name in "a", "b":
        ...     _ = (root / name).write_text("the same")
        >>> len(list(shared_files({"train": [root / "a"], "test": [root / "b"]})))
        1
    """
    seen: dict[bytes, tuple[str, Path]] = {}
    for split, paths in splits.items():
        for path in paths:
            earlier, first = seen.setdefault(
                hashlib.blake2b(path.read_bytes(), digest_size=16).digest(), (split, path)
            )
            if earlier == split:
                continue
            if first == path:
                yield f"{path}: in both the {earlier} and the {split} split; take it out of one"
            else:
                yield (
                    f"{path}: byte for byte the same as {first} of the {earlier} split; leave one of them out"
                )
