"""Where the images and labels of a data set in YOLO format lie, and what its classes are called.

Source: the layout is the one that Ultralytics publishes for its data sets,
    https://docs.ultralytics.com/datasets/detect.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from reprlib import repr as brief
from typing import Any

import yaml
from torchvision.datasets.folder import IMG_EXTENSIONS

from crosshead.tasks.splits import NAMES, existing_folder, find_file, find_places
from crosshead.tasks.task import DataError

# Files that name the classes a line each, as other tools than Ultralytics' write them.
NAME_LISTS = ("classes.txt", "obj.names")


@dataclass(frozen=True, kw_only=True)
class YoloPlace:
    """One split of a data set in YOLO format.

    Attributes:
        path: the file that names the classes.
        classes: their names; a label file has the positions.
        images: the image files, in alphabetical order or in that of their list.
        labels: the label file of each image; there may be none.
        findings: what is wrong with other files, a line each.
    """

    path: Path
    classes: tuple[str, ...]
    images: list[Path]
    labels: list[Path]
    findings: list[str] = field(default_factory=list)


def find_yolo(
    data_dir: str | Path | None, *, train: str | None = None, val: str | None = None, test: str | None = None
) -> dict[str, YoloPlace]:
    """Finds the splits of a folder in YOLO format.

    `data.yaml` names the classes (`names`) and for each split a folder of images, a text file that lists
    them, or a list of these. Without it, classes.txt or obj.names names the classes a line each, and the
    splits are `images/<split>/`, `<split>/images/`, the images that `<split>.txt` lists, or all of images/.
    The labels of an image are a text file of its name in labels/, which takes the place of the last images/
    on its path, or beside it where there is none.

    Args:
        data_dir: the folder.
        train: the name of the split to learn from; by default train or training.
        val: the same for the split to validate on.
        test: the same for the split to test on.

    Returns:
        The places by split: train, and where the folder has them test and val.

    Raises:
        DataError: if `data_dir` is not a folder, the classes are not named, or a split that is named is
            missing or has no image.
    """
    root = existing_folder(data_dir)
    path = find_names(root)
    if path is None:
        raise DataError(
            f"{root}: no data.yaml and no classes.txt; write the names of the classes into data.yaml, as "
            "names:"
        )
    document = _read_yaml(path) if path.suffix in (".yaml", ".yml") else {}
    classes = _classes(document.get("names"), path) if document else _listed_classes(path)

    listed = any(name in document for names in NAMES.values() for name in names)

    def find(split: str, names: Sequence[str]) -> list[Path] | None:
        for name in names:
            entries = _entries(document, name, path)
            # A file that lists splits has left out what it does not list.
            if not entries and (not listed or len(names) == 1):
                entries = _usual_places(root, name)
            if entries:
                return [image for entry in entries for image in _images(entry, base=_base(document, path))]
        if (train, val, test)[list(NAMES).index(split)]:
            raise DataError(
                f"{path}: no split {names[0]!r}; add it there, or as images/{names[0]}/ with "
                f"labels/{names[0]}/"
            )
        return None

    found = find_places(find, train=train, val=val, test=test)
    if not found and (root / "images").is_dir():
        found["train"] = list(_images(root / "images", base=root))
    if "train" not in found:
        raise DataError(f"{path}: no split train; add it there, or as images/train/ with labels/train/")
    if found.get("val") == found.get("test"):
        found.pop("val", None)
    for split, images in found.items():
        if not images:
            raise DataError(
                f"{path}: the {split} split has no image; put images there, or name another folder"
            )
        if split != "train" and images == found["train"]:
            raise DataError(
                f"{path}: the images to train on are held out as well; name others, or leave that split out, "
                "and a fraction of the images is held out"
            )
    return {split: _place(path, classes, images, root=root) for split, images in found.items()}


def find_names(root: Path) -> Path | None:
    """The file that names the classes of a data set in YOLO format, or None if there is none.

    A list of names alone does not make one: there have to be label files, too.

    Example:
        >>> from tempfile import mkdtemp
        >>> root = Path(mkdtemp())
        >>> (root / "data.yaml").touch()
        >>> find_names(root) == root / "data.yaml"
        True
    """
    if (root / "data.yaml").is_file():
        return root / "data.yaml"
    written = [path for path in sorted(root.glob("*.y*ml")) if path.is_file() and _has_names(path)]
    if len(written) == 1:
        return written[0]
    labels = (path for place in ("labels", "obj_*_data") for path in root.glob(f"{place}/**/*.txt"))
    if next(labels, None) is None:
        return None
    return next((root / name for name in NAME_LISTS if (root / name).is_file()), None)


def _has_names(path: Path) -> bool:
    """Whether a YAML file, which may be anything, names classes."""
    try:
        return isinstance(_read_yaml(path).get("names"), dict | list)
    except DataError:
        return False


def label_file(image: Path, *, root: Path) -> Path:
    """Where the labels of an image lie.

    Args:
        image: the image file.
        root: the folder of the data set: what is called images above it does not count.

    Example:
        >>> label_file(Path("images/set/images/train/7.jpg"), root=Path("images/set")).as_posix()
        'images/set/labels/train/7.txt'
    """
    parts = list(image.parts)
    first = len(root.parts) if image.is_relative_to(root) else 0
    for position in range(len(parts) - 2, first - 1, -1):
        if parts[position] == "images":
            parts[position] = "labels"
            break
    return Path(*parts).with_suffix(".txt")


def _place(path: Path, classes: tuple[str, ...], images: list[Path], *, root: Path) -> YoloPlace:
    labels = [label_file(image, root=root) for image in images]
    findings = []
    taken = set(labels)
    for folder in sorted({label.parent for label in labels if label.parent.is_dir()}):
        # Beside images lie lists and names of classes too.
        if any(image.parent == folder for image in images):
            continue
        left = [
            file
            for file in sorted(folder.glob("*.txt"))
            if file not in taken and file.name not in NAME_LISTS and file.name[0] != "."
        ]
        if left and not any(file.is_file() for file in taken if file.parent == folder):
            findings.append(
                f"{folder}: none of its {len(left)} label files has the name of an image, {left[0].name} for "
                f"one; name them as the images, such as {labels[0].name}"
            )
        else:
            findings += [
                f"{file}: no image of that name; add the image or leave the label file out" for file in left
            ]
    if not findings and not any(label.is_file() for label in labels):
        findings.append(
            f"{images[0].parent}: none of its {len(images)} images has a label file, {labels[0]} for one; "
            "put the labels there"
        )
    return YoloPlace(path=path, classes=classes, images=images, labels=labels, findings=findings)


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise DataError(f"{path}: not readable as YAML ({error}); correct the file") from error
    if not isinstance(document, dict):
        raise DataError(f"{path}: no mapping of names and splits; write names:, train: and val: into it")
    return document


def _classes(names: Any, path: Path) -> tuple[str, ...]:
    if isinstance(names, dict) and set(names) == set(range(len(names))):
        names = [names[number] for number in range(len(names))]
    if not isinstance(names, list) or not names:
        seen = "no names of the classes" if names is None else f"names is {brief(names)}"
        raise DataError(f"{path}: {seen}; write names: with a name for each class, numbered from 0 on")
    return _distinct(tuple(str(name) for name in names), path)


def _listed_classes(path: Path) -> tuple[str, ...]:
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not readable as text ({error}); save it as UTF-8") from error
    names = tuple(line.strip() for line in lines if line.strip())
    if not names:
        raise DataError(f"{path}: names no class; write their names, one a line")
    return _distinct(names, path)


def _distinct(names: tuple[str, ...], path: Path) -> tuple[str, ...]:
    for position, name in enumerate(names):
        if name in names[:position]:
            raise DataError(f"{path}: two classes are called {name!r}; give each its own name")
    return names


def _base(document: dict[str, Any], path: Path) -> Path:
    """The folder that the splits of a file are relative to; its own, where that is on another machine."""
    base = path.parent / str(document.get("path") or ".")
    return base if base.is_dir() else path.parent


def _entries(document: dict[str, Any], name: str, path: Path) -> list[Path]:
    """The folders and lists of a split in data.yaml; none where it is not there."""
    value = document.get(name)
    entries = []
    for entry in value if isinstance(value, list) else [value] if value else []:
        base = _base(document, path)
        # Roboflow writes ../train/images for what lies beside the file.
        places = [base / str(entry), base / str(entry).removeprefix("../")]
        place = next((place for place in places if place.exists()), None)
        if place is None:
            raise DataError(f"{path}: {name} is {brief(entry)}, and there is no {places[-1]}; correct it")
        entries.append(place)
    return entries


def _usual_places(root: Path, name: str) -> list[Path]:
    places = [root / "images" / name, root / name / "images", root / f"{name}.txt"]
    return [place for place in places if place.exists()][:1]


def _images(place: Path, *, base: Path) -> Iterator[Path]:
    """The images of a folder, to any depth, or those that a text file lists."""
    if place.is_dir():
        yield from (
            path
            for path in sorted(place.rglob("*"))
            if path.suffix.lower() in IMG_EXTENSIONS and not path.name.startswith(".")
        )
        return
    try:
        lines = place.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{place}: not readable as a list of images ({error}); save it as UTF-8") from error
    for number, line in enumerate(lines, start=1):
        if name := line.strip():
            found = find_file(name, base) or find_file(name, place.parent)
            if found is None:
                raise DataError(
                    f"{place}: line {number}: no such image file, {name}; put it there or correct it"
                )
            yield found
