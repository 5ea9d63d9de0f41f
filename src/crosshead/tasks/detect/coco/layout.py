import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from crosshead.tasks.layout import HELD_OUT_NAMES, TRAIN_NAMES, existing_folder
from crosshead.tasks.task import DataError


@dataclass(frozen=True, kw_only=True)
class CocoPlace:
    """Where the annotations of one split lie, and where its images may lie.

    Attributes:
        path: The json file.
        folders: The folders to look for images in, the likeliest first.
    """

    path: Path
    folders: tuple[Path, ...]


def find_coco(
    data_dir: str | Path | None, *, train: str | None = None, test: str | None = None
) -> tuple[CocoPlace, CocoPlace]:
    """Find the annotations of two splits in COCO format.

    A split is `<split>.json` or `instances_<split>*.json`, directly in the folder or in annotations/, or
    `<split>/_annotations.coco.json`. Its images lie in images/, `<split>/`, `<split>2017/` (any digits),
    those within images/, beside the json file or in the folder itself.

    Args:
        data_dir: The folder.
        train: The name of the split to learn from, or the path of its json file within `data_dir`; by
            default the one called train or training.
        test: The same for the split to measure on; by default the first there is of val, test, valid,
            validation and testing.

    Returns:
        The places of the training split and of the held-out split.

    Raises:
        DataError: When `data_dir` is no folder, a split is missing, or several files could be it.

    Example:
        >>> import tempfile
        >>> root = Path(tempfile.mkdtemp())
        >>> (root / "annotations").mkdir()
        >>> for name in "instances_train2017.json", "instances_val2017.json":
        ...     (root / "annotations" / name).touch()
        >>> [place.path.name for place in find_coco(root)]
        ['instances_train2017.json', 'instances_val2017.json']
    """
    root = existing_folder(data_dir)
    places = (
        _find_split(root, train, TRAIN_NAMES, "train"),
        _find_split(root, test, HELD_OUT_NAMES, "test"),
    )
    if places[0].path == places[1].path:
        raise DataError(f"{places[0].path}: both the training and the test split; give another test split")
    return places


def choose_folder(place: CocoPlace, names: Sequence[str]) -> Path:
    """Choose the folder that holds the images of a split.

    Args:
        place: The split.
        names: File names of some of its images.

    Returns:
        The first of its folders that has one of them.

    Raises:
        DataError: When none has.

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


def _find_split(root: Path, given: str | None, names: tuple[str, ...], role: str) -> CocoPlace:
    if given is not None and given.endswith(".json"):
        path = root / given
        if not path.is_file():
            raise DataError(f"{path}: no such file; give {role} the json file of the {role} split")
        return _place(root, path, path.stem)
    for name in names if given is None else (given,):
        found = [
            *(folder / f"{name}.json" for folder in (root, root / "annotations")),
            *(
                path
                for folder in (root, root / "annotations")
                for path in folder.glob(f"instances_{name}*.json")
            ),
            root / name / "_annotations.coco.json",
        ]
        files = sorted(path for path in found if path.is_file())
        if len(files) > 1:
            listed = ", ".join(str(path.relative_to(root)) for path in files)
            raise DataError(f"{root}: several files for the {role} split ({listed}); give {role} one of them")
        if files:
            return _place(root, files[0], name)
    packed = sorted(path.name for path in root.iterdir() if ".tar" in path.suffixes or path.suffix == ".zip")
    wanted = given or f"{names[0]} or {names[1]}"
    raise DataError(
        f"{root}: no annotations of the {role} split ({wanted}); put them there as "
        f"{given or names[0]}.json or annotations/instances_{given or names[0]}.json, or give {role}"
        + (f"; if they are in {packed[0]}, unpack it" if packed else "")
    )


def _place(root: Path, path: Path, name: str) -> CocoPlace:
    tag = path.stem.removeprefix("instances_")
    own = re.compile(rf"({re.escape(tag)}|{re.escape(name)})\d*")
    folders = [
        folder
        for parent in (root / "images", root)
        if parent.is_dir()
        for folder in sorted(parent.iterdir())
        if own.fullmatch(folder.name) and folder.is_dir()
    ]
    return CocoPlace(path=path, folders=tuple(dict.fromkeys([*folders, root / "images", path.parent, root])))
