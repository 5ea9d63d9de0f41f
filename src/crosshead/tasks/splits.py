"""Three splits: what folders call them, and what is carved from the training set where one is missing.

`val` decides which epoch is best, `test` is touched by an evaluation alone. A data set with one held-out
split, whatever it is called, keeps it for the test; its `val` is a fraction of the training set. Without any,
a fraction of all samples is the test, the same one whatever the seed of the training.
"""

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from torch.utils.data import Dataset, Subset

from crosshead.tasks.task import DataError

# What data sets call their splits; the first is the usual name.
NAMES = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
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
        crosshead.tasks.task.DataError: no folder is given; name the one that holds the data with --data-dir
    """
    if data_dir is None:
        raise DataError("no folder is given; name the one that holds the data with --data-dir")
    root = Path(data_dir).expanduser()
    if not root.exists():
        raise DataError(f"{root}: no such folder; give --data-dir a folder that exists")
    if not root.is_dir():
        raise DataError(f"{root}: a file; give --data-dir the folder that holds the data, unpacked")
    try:
        next(root.iterdir(), None)
    except OSError as error:
        raise DataError(f"{root}: cannot be listed ({error.strerror}); check the folder") from error
    return root


def find_file(name: str, folder: Path) -> Path | None:
    """The file that a name stands for, where the folders in front of it may be those of another machine.

    Tools write names such as `images/a.jpg` of a folder that is already images/, `/elsewhere/set/a.jpg`, or
    `C:\\set\\a.jpg`: as few of the leading folders as possible are passed over.

    Args:
        name: as an annotation tool has written it.
        folder: where the files lie.

    Example:
        >>> from tempfile import mkdtemp
        >>> folder = Path(mkdtemp())
        >>> (folder / "a.jpg").touch()
        >>> find_file("/elsewhere/set/a.jpg", folder) == folder / "a.jpg"
        True
    """
    if (path := folder / name).is_file():
        return path
    # An upload's name may stand in a query, as in /data/local-files/?d=set/a.jpg.
    parts = [part for part in re.split(r"[\\/]|\?d=", name) if part]
    for start in range(len(parts)):
        if (path := folder.joinpath(*parts[start:])).is_file():
            return path
    return None


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


def deal(
    labels: Mapping[str, Sequence[int] | np.ndarray], *, val: float, test: float, seed: int
) -> dict[str, tuple[str, list[int]]]:
    """Makes three splits of what a data set has.

    Args:
        labels: of each sample of "train", and of the held-out splits where there are any; their classes are
            shared out in proportion.
        val: fraction of the training samples to validate on, where the data set has no such split; 0 for
            none.
        test: fraction of all samples to test on, where the data set has no held-out split.
        seed: of the choice of what is validated on; what is tested on is always the same.

    Returns:
        For each split that there is in the end, the split that its samples come from, and which of them.

    Raises:
        DataError: if there are too few samples to hold any back.

    Example:
        >>> parts = deal({"train": [0] * 20}, val=0.25, test=0.2, seed=0)
        >>> {split: len(positions) for split, (_, positions) in parts.items()}
        {'train': 12, 'val': 4, 'test': 4}
    """
    rest = np.arange(len(labels["train"]))
    parts = {split: (split, list(range(len(found)))) for split, found in labels.items()}
    for split, fraction, its_seed in (("test", test, 0), ("val", val, seed)):
        if split in labels or not fraction:
            continue
        try:
            stay, held_out = stratified_split(
                np.asarray(labels["train"])[rest], fraction=fraction, seed=its_seed
            )
        except ValueError:
            raise _too_few(len(rest), fraction, split) from None
        parts[split] = ("train", rest[held_out].tolist())
        rest = rest[stay]
    parts["train"] = ("train", rest.tolist())
    return {split: parts[split] for split in SPLITS if split in parts}


def choose(sets: Mapping[str, Dataset], parts: Mapping[str, tuple[str, list[int]]]) -> dict[str, Any]:
    """The data sets that `deal` has made splits of; one that is taken whole stays itself.

    Example:
        >>> choose({"train": range(4)}, {"train": ("train", [0, 1, 2, 3])})
        {'train': range(0, 4)}
    """
    return {
        split: sets[source]
        if len(positions) == len(sets[source])  # pyright: ignore[reportArgumentType] (map-style)
        else Subset(sets[source], positions)
        for split, (source, positions) in parts.items()
    }


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
        raise _too_few(size, fraction, "val") from None
    parts: Any = (Subset(train, stay.tolist()), Subset(train, held_out.tolist()))
    return parts


def _too_few(size: int, fraction: float, split: str) -> DataError:
    purpose, way_out = {
        "val": ("validation", "add samples, or give --val 0"),
        "test": ("the test", "add samples, or a held-out split of your own"),
    }[split]
    return DataError(
        f"{size} training samples are too few to hold {fraction:.0%} of each class back for {purpose}; "
        f"{way_out}"
    )


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
