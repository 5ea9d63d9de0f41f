"""Where the files of a data set in COCO format lie."""

import glob
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from crosshead.tasks.splits import NAMES, existing_folder, find_places
from crosshead.tasks.task import DataError


@dataclass(frozen=True, kw_only=True)
class CocoPlace:
    """Where the annotations of one split lie, and where its images may lie.

    Attributes:
        path: the json file.
        folders: the folders to look for images in, the likeliest first.
    """

    path: Path
    folders: tuple[Path, ...]


def find_coco(
    data_dir: str | Path | None, *, train: str | None = None, val: str | None = None, test: str | None = None
) -> dict[str, CocoPlace]:
    """Finds the annotations of the splits of a folder in COCO format.

    A split is `<split>.json` or `instances_<split>*.json`, directly in the folder or in annotations/, or
    `<split>/_annotations.coco.json`. Its images lie in images/, `<split>/`, `<split>2017/` (any digits),
    those within images/, beside the json file or in the folder itself.

    Args:
        data_dir: the folder.
        train: the name of the split to learn from, or the path of its json file within `data_dir`; by
            default train or training.
        val: the same for the split to validate on; by default val, valid or validation, where there is a test
            split as well.
        test: the same for the split to test on; by default test or testing, or the lone held-out split
            whatever its name.

    Returns:
        The places by split: train, test and, where the folder has one, val.

    Raises:
        DataError: if `data_dir` is not a folder, a split is missing, or several files could be it.

    Example:
        >>> import tempfile
        >>> root = Path(tempfile.mkdtemp())
        >>> (root / "annotations").mkdir()
        >>> for name in "instances_train2017.json", "instances_val2017.json":
        ...     (root / "annotations" / name).touch()
        >>> {split: place.path.name for split, place in find_coco(root).items()}
        {'train': 'instances_train2017.json', 'test': 'instances_val2017.json'}
    """
    root = existing_folder(data_dir)
    # A file that is given for one split is not found for another by its usual name.
    given = {path for name in (train, val, test) if name for path in _files(root, name)}

    def find(split: str, names: Sequence[str]) -> CocoPlace | None:
        asked = len(names) == 1
        for name in names:
            if files := [path for path in _files(root, name) if asked or path not in given]:
                break
        else:
            if asked:
                raise _missing(root, split, names[0])
            return None
        if len(files) > 1:
            listed = ", ".join(str(path.relative_to(root)) for path in files)
            raise DataError(
                f"{root}: several files for the {split} split ({listed}); give {split}_split one of them"
            )
        return _place(root, files[0], name)

    places = find_places(find, train=train, val=val, test=test)
    for split in ("train", "test"):
        if split not in places:
            raise _missing(root, split, None)
    seen: dict[Path, str] = {}
    for split, place in places.items():
        if (other := seen.setdefault(place.path, split)) != split:
            raise DataError(
                f"{place.path}: both the {other} and the {split} split; give another {split}_split"
            )
    return places


def choose_folder(place: CocoPlace, names: Sequence[str]) -> Path:
    """The first folder of a split that has one of its images.

    Args:
        place: the split.
        names: file names of some of its images.

    Raises:
        DataError: if none has.

    Example:
        >>> choose_folder(CocoPlace(path=Path("train.json"), folders=(Path("images"),)), ["1.jpg"])
        Traceback (most recent call last):
            ...
        crosshead.tasks.task.DataError: train.json: its image 1.jpg is not in images; put the images there
    """
    for folder in place.folders:
        if any((folder / name).is_file() for name in names):
            return folder
    folders = ", ".join(map(str, place.folders))
    raise DataError(f"{place.path}: its image {names[0]} is not in {folders}; put the images there")


def _files(root: Path, name: str) -> list[Path]:
    """The json files that the name of a split, or of its file, stands for."""
    if name.endswith(".json"):
        return [path for path in (root / name,) if path.is_file()]
    found = [root / name / "_annotations.coco.json"]
    for folder in (root, root / "annotations"):
        found += [folder / f"{name}.json", *folder.glob(f"instances_{glob.escape(name)}*.json")]
    return sorted(path for path in found if path.is_file())


def _missing(root: Path, split: str, given: str | None) -> DataError:
    if given is not None and given.endswith(".json"):
        fault = "not a regular file" if (root / given).exists() else "no such file"
        return DataError(f"{root / given}: {fault}; give {split}_split the json file of the {split} split")
    usual = {"train": NAMES["train"], "val": NAMES["val"], "test": ("test", "val")}[split]
    packed = sorted(path.name for path in root.iterdir() if ".tar" in path.suffixes or path.suffix == ".zip")
    name = given or usual[0]
    return DataError(
        f"{root}: no annotations of the {split} split ({given or ' or '.join(usual[:2])}); put them there as "
        f"{name}.json or annotations/instances_{name}.json, or give {split}_split"
        + (f"; if they are in {packed[0]}, unpack it" if packed else "")
    )


def _place(root: Path, path: Path, name: str) -> CocoPlace:
    tags = {re.escape(path.stem.removeprefix("instances_")), re.escape(name.removesuffix(".json"))}
    own = re.compile(rf"({'|'.join(sorted(tags))})\d*")
    folders = [
        folder
        for parent in (root / "images", root)
        if parent.is_dir()
        for folder in sorted(parent.iterdir())
        if own.fullmatch(folder.name) and folder.is_dir()
    ]
    return CocoPlace(path=path, folders=tuple(dict.fromkeys([*folders, root / "images", path.parent, root])))
