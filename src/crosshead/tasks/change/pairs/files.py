from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from crosshead.tasks.change.pairs.bands import SUFFIXES, read_bands, read_label
from crosshead.tasks.layout import existing_folder
from crosshead.tasks.task import DataError


@dataclass(frozen=True, kw_only=True)
class PairFiles:
    """Where the parts of one image pair lie.

    Attributes:
        name: The name of the pair.
        before: The files of the earlier date by the band that they hold, "" for the unnamed ones.
        after: The same for the later date.
        label: The label map.
    """

    name: str
    before: dict[str, Path]
    after: dict[str, Path]
    label: Path


@dataclass(frozen=True, kw_only=True, eq=False)
class PairArrays:
    """What the files of a pair hold: bands (bands, height, width), the label (height, width)."""

    before: np.ndarray
    after: np.ndarray
    label: np.ndarray
    bands: tuple[str, ...]


def find_pair_files(data_dir: str | Path | None) -> tuple[list[PairFiles], list[str]]:
    """Find the pairs of a folder `{before,after,label}/`; nothing is opened.

    Args:
        data_dir: The folder.

    Returns:
        The complete pairs in alphabetical order, and what is wrong with the rest, a line each.

    Raises:
        DataError: When a folder is missing or label/ is empty.

    Example:
        >>> from tempfile import mkdtemp
        >>> root = Path(mkdtemp())
        >>> for name in "before/a_red.png", "before/a_nir.png", "after/a.npy", "label/a.png":
        ...     (root / name).parent.mkdir(exist_ok=True)
        ...     (root / name).touch()
        >>> pairs, faults = find_pair_files(root)
        >>> [(pair.name, list(pair.before), list(pair.after)) for pair in pairs], faults
        ([('a', ['nir', 'red'], [''])], [])
    """
    root = existing_folder(data_dir)
    for part in ("before", "after", "label"):
        if not (root / part).is_dir():
            raise DataError(f"{root / part}: no such folder; give before/, after/ and label/ the images")
    faults: list[str] = []
    labels: dict[str, Path] = {}
    for path in _images(root / "label"):
        if path.stem in labels:
            faults.append(f"{path}: a second label map beside {labels[path.stem]}; leave one of them out")
        labels.setdefault(path.stem, path)
    if not labels:
        raise DataError(f"{root / 'label'}: no label map; add one for each pair, named as the pair")
    before, after = (_sorted_in(root / part, labels, faults) for part in ("before", "after"))
    pairs = []
    for name, label in labels.items():
        lacking = [part for part, found in (("before", before), ("after", after)) if not found[name]]
        for part in lacking:
            faults.append(f"{root / part}: no file of the pair {name}; add {name}.* or leave {label} out")
        if not lacking:
            pairs.append(PairFiles(name=name, before=before[name], after=after[name], label=label))
    return pairs, faults


def read_pair(files: PairFiles, *, num_classes: int) -> tuple[PairArrays | None, list[str]]:
    """Read the files of one pair.

    Args:
        files: Where they lie.
        num_classes: Values of the label map lie in 0..num_classes.

    Returns:
        What they hold, or None where that is no sound pair, and what is wrong, a line each.
    """
    faults: list[str] = []
    before, before_bands = _read_date(files.before, faults)
    after, after_bands = _read_date(files.after, faults)
    label = None
    try:
        label = read_label(files.label, num_classes=num_classes)
    except DataError as error:
        faults.append(str(error))
    if before is not None and after is not None:
        earlier, later = next(iter(files.before.values())), next(iter(files.after.values()))
        if before_bands != after_bands:
            faults.append(
                f"{later}: bands {', '.join(after_bands)} where {earlier} has {', '.join(before_bands)}; "
                "both dates need the same bands"
            )
        if before.shape[1:] != after.shape[1:]:
            faults.append(
                f"{later}: {_size(after)} pixels where {earlier} has {_size(before)}; align the dates"
            )
    image = after if before is None else before
    if label is not None and image is not None and label.shape != image.shape[1:]:
        faults.append(
            f"{files.label}: {_size(label)} pixels where the images have {_size(image)}; give it their size"
        )
    if faults or before is None or after is None or label is None:
        return None, faults
    return PairArrays(before=before, after=after, label=label, bands=before_bands), []


def _images(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in SUFFIXES and not path.name.startswith("."):
            yield path


def _sorted_in(folder: Path, labels: dict[str, Path], faults: list[str]) -> dict[str, dict[str, Path]]:
    """The files of one date by pair and by band; what belongs to no pair is a fault."""
    found: dict[str, dict[str, Path]] = {name: {} for name in labels}
    for path in _images(folder):
        owners = [name for name in labels if path.stem == name or path.stem.startswith(f"{name}_")]
        if not owners:
            faults.append(f"{path}: no label map of this name; add one to label/, or leave the file out")
            continue
        owner = max(owners, key=len)
        band = path.stem[len(owner) + 1 :]
        if band in found[owner]:
            faults.append(f"{path}: the same band as {found[owner][band]}; leave one of them out")
        found[owner].setdefault(band, path)
    return {name: dict(sorted(bands.items())) for name, bands in found.items()}


def _read_date(paths: dict[str, Path], faults: list[str]) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """The bands of all files of one date, and their names."""
    parts: dict[str, np.ndarray] = {}
    for band, path in paths.items():
        try:
            parts[band] = read_bands(path)
        except DataError as error:
            faults.append(str(error))
    if len(parts) < len(paths):
        return None, ()
    band, path = next(iter(paths.items()))
    for other, part in parts.items():
        if part.shape[1:] != parts[band].shape[1:]:
            faults.append(
                f"{paths[other]}: {_size(part)} pixels where {path} has {_size(parts[band])}; "
                "all bands need one size"
            )
            return None, ()
    names = tuple(name for band, part in parts.items() for name in _names(band, len(part)))
    return np.concatenate(list(parts.values())), names


def _names(band: str, count: int) -> list[str]:
    if band and count == 1:
        return [band]
    return [f"{band}.{number}" if band else str(number) for number in range(1, count + 1)]


def _size(array: np.ndarray) -> str:
    return f"{array.shape[-1]} x {array.shape[-2]}"
