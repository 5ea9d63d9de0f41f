"""Where the files of a data set in COCO format lie."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from crosshead.tasks.splits import NAMES, existing_folder, find_file, find_places
from crosshead.tasks.task import DataError

# What a file in COCO format has.
LISTS = ("images", "annotations", "categories")


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
    those within images/, beside the json file or in the folder itself. Where there is no such file, the only
    json file in COCO format of the folder or of annotations/ holds all images, whatever its name.

    Args:
        data_dir: the folder.
        train: the name of the split to learn from, or the path of its json file within `data_dir`; by
            default train or training.
        val: the same for the split to validate on; by default val, valid or validation, where there is a test
            split as well.
        test: the same for the split to test on; by default test or testing, or the lone held-out split
            whatever its name.

    Returns:
        The places by split: train, and where the folder has them test and val.

    Raises:
        DataError: if `data_dir` is not a folder, the training split or one that is named is missing, or
            several files could be it.

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
                f"{root}: several files for the {split} split ({listed}); name one of them with "
                f"--{split}-split"
            )
        return _place(root, files[0], name)

    places = find_places(find, train=train, val=val, test=test)
    if not places:
        places["train"] = _only_one(root)
    if "train" not in places:
        raise _missing(root, "train", None)
    seen: dict[Path, str] = {}
    for split, place in places.items():
        if (other := seen.setdefault(place.path, split)) != split:
            raise DataError(
                f"{place.path}: both the {other} and the {split} split; name another with --{split}-split"
            )
    return places


def has_coco(root: Path) -> bool:
    """Whether there are annotations in COCO format in a folder, or what is named like them."""
    if any(_files(root, name) for names in NAMES.values() for name in names):
        return True
    return any(is_coco(path) for folder in (root, root / "annotations") for path in folder.glob("*.json"))


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
    for found in (
        lambda folder, name: (folder / name).is_file(),
        lambda folder, name: find_file(name, folder),
    ):
        for folder in place.folders:
            if any(found(folder, name) for name in names):
                return folder
    folders = ", ".join(map(str, place.folders))
    raise DataError(f"{place.path}: its image {names[0]} is not in {folders}; put the images there")


def is_coco(path: Path) -> bool:
    """Whether a file is json with the lists of COCO.

    Example:
        >>> from tempfile import mkdtemp
        >>> path = Path(mkdtemp(), "notes.json")
        >>> _ = path.write_text('{"categories": []}')
        >>> is_coco(path)
        False
    """
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(document, dict) and all(isinstance(document.get(name), list) for name in LISTS)


def _files(root: Path, name: str) -> list[Path]:
    """The json files that the name of a split, or of its file, stands for."""
    if name.endswith(".json"):
        return [path for path in (root / name,) if path.is_file()]
    own = re.compile(rf"{re.escape(name)}|instances_{re.escape(name)}.*", re.IGNORECASE)
    found = [
        path for path in root.glob("*/_annotations.coco.json") if path.parent.name.lower() == name.lower()
    ]
    for folder in (root, root / "annotations"):
        found += [path for path in folder.glob("*.json") if own.fullmatch(path.stem)]
    return sorted(path for path in found if path.is_file())


def _only_one(root: Path) -> CocoPlace:
    """The place of the only file in COCO format."""
    files = [path for folder in (root, root / "annotations") for path in sorted(folder.glob("*.json"))]
    # Notes of a tool may lie beside it; what is damaged is told when it is read.
    if len(files) > 1:
        files = [path for path in files if is_coco(path)] or files
    if len(files) > 1:
        listed = ", ".join(str(path.relative_to(root)) for path in files)
        raise DataError(
            f"{root}: several json files ({listed}), none named after a split; name the one to learn from "
            "with --train-split, and others with --val-split and --test-split"
        )
    if not files:
        raise _missing(root, "train", None)
    return _place(root, files[0], files[0].name)


def _missing(root: Path, split: str, given: str | None) -> DataError:
    if given is not None and given.endswith(".json"):
        fault = "not a regular file" if (root / given).exists() else "no such file"
        return DataError(f"{root / given}: {fault}; give --{split}-split the json file of the {split} split")
    usual = {"train": NAMES["train"], "val": NAMES["val"], "test": ("test", "val")}[split]
    packed = sorted(path.name for path in root.iterdir() if ".tar" in path.suffixes or path.suffix == ".zip")
    name = given or usual[0]
    return DataError(
        f"{root}: no annotations of the {split} split ({given or ' or '.join(usual[:2])}); put them there as "
        f"{name}.json or annotations/instances_{name}.json, or name it with --{split}-split"
        + (f"; if they are in {packed[0]}, unpack it" if packed else "")
    )


def _place(root: Path, path: Path, name: str) -> CocoPlace:
    tags = {re.escape(path.stem.removeprefix("instances_")), re.escape(name.removesuffix(".json"))}
    own = re.compile(rf"({'|'.join(sorted(tags))})\d*", re.IGNORECASE)
    folders = [
        folder
        for parent in (root / "images", root)
        if parent.is_dir()
        for folder in sorted(parent.iterdir())
        if own.fullmatch(folder.name) and folder.is_dir()
    ]
    return CocoPlace(path=path, folders=tuple(dict.fromkeys([*folders, root / "images", path.parent, root])))
