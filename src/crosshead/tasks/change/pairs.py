"""Pairs of images of one place at two dates, with sparse labels: found in folders, compared and read."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from crosshead.tasks.change.read import SUFFIXES, are_binary, read_channels, read_label, read_shape
from crosshead.tasks.splits import existing_folder, find_places
from crosshead.tasks.task import DataError

# What the folders of the two dates and of the label maps are called; the first is the usual name.
FOLDERS = {
    "before": ("before", "A", "t1", "T1", "im1"),
    "after": ("after", "B", "t2", "T2", "im2"),
    "label": ("label", "labels", "mask", "masks"),
}
# The bands of each file of a Landsat scene in the order of its channels, numbered as on the ETM+ sensor.
_LANDSAT = {"b321": ("B3", "B2", "B1"), "b457": ("B4", "B5", "B7")}


@dataclass(frozen=True, kw_only=True, eq=False)
class ImagePair:
    """One place at two dates, co-registered.

    Attributes:
        name: what messages and predictions call it.
        before: (channels, height, width), uint8 or float32.
        after: the same shape.
        label: uint8, (height, width): 0 unlabelled, k the class of number k.
        bands: the names of the channels.
        split: train, val or test, where the pair lies in the folder of a split.

    Raises:
        ValueError: if the shapes do not fit.

    Example:
        >>> image = np.zeros((1, 40, 30), np.uint8)
        >>> ImagePair(name="field", before=image, after=image, label=image[0], bands=("red",)).size
        (40, 30)
    """

    name: str
    before: np.ndarray
    after: np.ndarray
    label: np.ndarray
    bands: tuple[str, ...]
    split: str | None = None

    def __post_init__(self) -> None:
        if self.before.shape != self.after.shape or self.before.shape != (len(self.bands), *self.label.shape):
            raise ValueError(
                "before, after and label must be (channels, height, width) twice and (height, width), with a "
                f"name for each channel; got {self.before.shape}, {self.after.shape}, {self.label.shape} and "
                f"{len(self.bands)} names"
            )

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.before.shape[1], self.before.shape[2]


@dataclass(frozen=True, kw_only=True)
class PairFiles:
    """Where the parts of one image pair lie.

    Attributes:
        name: the name of the pair.
        before: the files of the earlier date by the band that they hold, "" for the unnamed ones.
        after: the same for the later date.
        label: the label map.
    """

    name: str
    before: dict[str, Path]
    after: dict[str, Path]
    label: Path


def scan_pairs(data_dir: str | Path | None, *, num_classes: int = 2) -> Iterator[ImagePair | str]:
    """Walks any folder of image pairs.

    The layout is `<data_dir>/{before,after,label}/`. Each file in label/ names a pair, `NAME.png`; in before/
    and in after/ lies `NAME.ext`, or one file for each band or group of bands, `NAME_<band>.ext`, or both.
    Files of a pair are joined in alphabetical order, `NAME.ext` first. Where the names of two pairs begin
    alike, a file belongs to the longer one. `read_channels` and `read_label` say what the files may be.

    The folders may be called A/, B/ and labels/ and the like (`FOLDERS`), and may lie in train/, val/ and
    test/; then these are the splits. Where there are two classes and the label maps of all pairs hold 0 and
    255 alone, every pixel is labelled: 0 is the first class and 255 the second.

    Args:
        data_dir: the folder.
        num_classes: values of the label maps lie in 0..num_classes.

    Yields:
        The sound pairs in alphabetical order, and a line for each fault, naming the file: files missing or
        left over, unreadable ones, sizes and channels that differ, label values without a class.

    Raises:
        DataError: if a folder is missing, or no pair is labelled.
    """
    root = existing_folder(data_dir)
    sets: list[tuple[str | None, PairFiles]] = []
    for split, place in find_pair_splits(root).items():
        found_files, faults = find_pair_files(place)
        yield from faults
        sets += [(split or None, files) for files in found_files]
    binary = num_classes == 2 and are_binary([files.label for _, files in sets])
    first: tuple[Path, tuple[str, ...]] | None = None
    for split, files in sets:
        place = next(iter(files.before.values()))
        for found in _read_pair(files, num_classes=num_classes, binary=binary):
            if isinstance(found, ImagePair):
                found = replace(found, split=split)
                first = first or (place, found.bands)
                if found.bands != first[1]:
                    found = (
                        f"{place}: bands {listed(found.bands)} where {first[0]} has "
                        f"{listed(first[1])}; all pairs need the same bands"
                    )
            yield found


def scan_landsat(data_dir: str | Path | None) -> Iterator[ImagePair | str]:
    """Walks a folder of the Taizhou scene: Landsat 7 ETM+ at two dates, six bands of 30 m, labelled in part.

    Args:
        data_dir: a folder with `t1_b321.png`, `t1_b457.png`, `t2_b321.png`, `t2_b457.png` (three bands each,
            as the channels of an RGB image) and `label.png` (0 unlabelled, 1 unchanged, 2 changed).

    Yields:
        The pair, uint8, of six bands, or a line for each fault, naming the file.

    Raises:
        DataError: if the folder is missing.
    """
    root = existing_folder(data_dir)
    before, after = ({group: root / f"{date}_{group}.png" for group in _LANDSAT} for date in ("t1", "t2"))
    needed = [*before.values(), *after.values(), root / "label.png"]
    absent = [path for path in needed if not path.exists()]
    if absent:
        names = ", ".join(path.name for path in needed)
        yield from (f"{path}: no such file; the folder needs {names}" for path in absent)
        return
    files = PairFiles(name="landsat", before=before, after=after, label=root / "label.png")
    for found in _read_pair(files, num_classes=2):
        if isinstance(found, ImagePair):
            if found.bands == tuple(f"{group}.{number}" for group in _LANDSAT for number in (1, 2, 3)):
                found = replace(found, bands=tuple(band for group in _LANDSAT.values() for band in group))
            else:
                count = len(found.bands)
                found = f"{before['b321']}: {count} channels in the files of a date, not 6; save RGB images"
        yield found


def gather(found: Iterator[ImagePair | str]) -> tuple[ImagePair, ...]:
    """All pairs of a scan, in memory.

    Raises:
        DataError: with the first fault.

    Example:
        >>> gather(scan_pairs("no/such/folder"))
        Traceback (most recent call last):
            ...
        crosshead.tasks.task.DataError: no/such/folder: no such folder; give --data-dir a folder that exists
    """
    pairs = []
    for each in found:
        if isinstance(each, str):
            raise DataError(each)
        pairs.append(each)
    return tuple(pairs)


def find_pair_splits(root: Path) -> dict[str, Path]:
    """The folders of the splits by their names; of a folder without splits itself, under the name "".

    Raises:
        DataError: if there is a split to test or to validate on, and none to train on.

    Example:
        >>> from tempfile import mkdtemp
        >>> root = Path(mkdtemp())
        >>> for name in "train/A", "val/A":
        ...     (root / name).mkdir(parents=True)
        >>> {split: path.name for split, path in find_pair_splits(root).items()}
        {'train': 'train', 'test': 'val'}
    """

    def find(_: str, names: Sequence[str]) -> Path | None:
        folders = (root / name for name in names)
        return next(
            (place for place in folders if any((place / part).is_dir() for part in FOLDERS["before"])), None
        )

    places = find_places(find, train=None, val=None, test=None)
    if places and "train" not in places:
        raise DataError(
            f"{root / 'train'}: no such folder, though there is {places['test']}; add the pairs to train on"
        )
    if places and "test" not in places:
        return {"": places["train"]}
    return places or {"": root}


def find_pair_files(root: Path) -> tuple[list[PairFiles], list[str]]:
    """Finds the pairs of a folder `{before,after,label}/`, or of other `FOLDERS`; nothing is opened.

    Returns:
        The complete pairs in alphabetical order, and what is wrong with the rest, a line each.

    Raises:
        DataError: if a folder is missing or label/ is empty.

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
    parts: dict[str, Path] = {}
    for part, names in FOLDERS.items():
        found = next((root / name for name in names if (root / name).is_dir()), None)
        if found is None:
            raise DataError(f"{root / part}: no such folder; give before/, after/ and label/ the images")
        parts[part] = found
    faults: list[str] = []
    labels: dict[str, Path] = {}
    for path in _files(parts["label"]):
        if path.stem in labels:
            faults.append(f"{path}: a second label map beside {labels[path.stem]}; leave one of them out")
        labels.setdefault(path.stem, path)
    if not labels:
        raise DataError(f"{parts['label']}: no label map; add one for each pair, named as the pair")
    before, after = (_sorted_in(parts[part], labels, faults) for part in ("before", "after"))
    pairs = []
    for name, label in labels.items():
        lacking = [part for part, found in (("before", before), ("after", after)) if not found[name]]
        for part in lacking:
            faults.append(f"{parts[part]}: no file of the pair {name}; add {name}.* or leave {label} out")
        if not lacking:
            pairs.append(PairFiles(name=name, before=before[name], after=after[name], label=label))
    return pairs, faults


def _files(folder: Path) -> list[Path]:
    return [
        path
        for path in sorted(folder.iterdir())
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
    ]


def _sorted_in(folder: Path, labels: dict[str, Path], faults: list[str]) -> dict[str, dict[str, Path]]:
    """The files of one date by pair and by band; what belongs to no pair is a fault."""
    found: dict[str, dict[str, Path]] = {name: {} for name in labels}
    for path in _files(folder):
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


def _read_pair(files: PairFiles, *, num_classes: int, binary: bool = False) -> Iterator[ImagePair | str]:
    """The pair, or a line for each fault; nothing is decoded unless all headers are sound and fit."""
    faults: list[str] = []

    def tried(read: Callable[..., Any], path: Path, **options: Any) -> Any:
        try:
            return read(path, **options)
        except DataError as error:
            faults.append(str(error))
            return None

    dates = files.before, files.after
    images = [path for date in dates for path in date.values()]
    headers = {path: tried(read_shape, path) for path in images}
    headers[files.label] = tried(read_shape, files.label, palette=True)
    shapes = {path: shape for path, shape in headers.items() if shape is not None}
    first = next(iter(shapes), files.label)
    for path, shape in shapes.items():
        if shape[1:] != shapes[first][1:]:
            faults.append(
                f"{path}: {_size(shape)} pixels where {first} has {_size(shapes[first])}; align them: "
                "all files of a pair need one size"
            )
    earlier = later = ()
    if len(shapes) == len(headers):
        earlier, later = (
            tuple(name for band, path in date.items() for name in _names(band, shapes[path][0]))
            for date in dates
        )
        if earlier != later:
            faults.append(
                f"{next(iter(files.after.values()))}: bands {listed(later)} where {images[0]} has "
                f"{listed(earlier)}; both dates need the same bands"
            )
    if not faults:
        arrays = {path: tried(read_channels, path) for path in images}
        label = tried(read_label, files.label, num_classes=num_classes, binary=binary)
        if not faults:
            before, after = (np.concatenate([arrays[path] for path in date.values()]) for date in dates)
            yield ImagePair(name=files.name, before=before, after=after, label=label, bands=earlier)
    yield from faults


def listed(names: tuple[str, ...]) -> str:
    """Names in a message, the first ones of many.

    Example:
        >>> listed(("red", "nir"))
        'red, nir'
    """
    return ", ".join(names[:8]) + (f", ... ({len(names)} in all)" if len(names) > 8 else "")


def _names(band: str, count: int) -> list[str]:
    if band and count == 1:
        return [band]
    return [f"{band}.{number}" if band else str(number) for number in range(1, count + 1)]


def _size(shape: tuple[int, int, int]) -> str:
    return f"{shape[2]} x {shape[1]}"
