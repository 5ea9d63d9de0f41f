"""The image files below class folders, and what makes them unusable."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torchvision.datasets.folder import IMG_EXTENSIONS

from crosshead.tasks.task import DataError


@dataclass(frozen=True, kw_only=True)
class ClassTree:
    """The image files of one split, by class folder.

    Attributes:
        root: the folder that holds the class folders.
        files: the image files of each class; classes and files in alphabetical order.
        ignored: files that are not images by their extension, or lie outside the class folders. Hidden files
            are not even counted.
    """

    root: Path
    files: dict[str, list[str]]
    ignored: list[str]

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the class folders; a label is an index into them."""
        return tuple(self.files)

    def samples(self) -> tuple[list[str], np.ndarray]:
        """The paths, class by class, and their labels, (N,)."""
        paths = [path for files in self.files.values() for path in files]
        return paths, np.repeat(np.arange(len(self.files)), [len(files) for files in self.files.values()])


def read_class_tree(root: Path) -> ClassTree:
    """Lists the image files below the class folders of one split.

    Class folders are searched to any depth and through links. Nothing is opened.

    Args:
        root: the folder that holds the class folders.

    Returns:
        The files, by class.

    Raises:
        DataError: if a folder cannot be listed, or a link leads back to one of its class.

    Example:
        >>> import tempfile
        >>> root = Path(tempfile.mkdtemp())
        >>> for name in "dog/2.jpg", "dog/1.png", "cat/notes.txt":
        ...     (root / name).parent.mkdir(exist_ok=True)
        ...     (root / name).touch()
        >>> tree = read_class_tree(root)
        >>> {name: len(paths) for name, paths in tree.files.items()}, len(tree.ignored)
        ({'cat': 0, 'dog': 2}, 1)
    """
    files: dict[str, list[str]] = {}
    ignored: list[str] = []
    try:
        for entry in sorted(root.iterdir()):
            if hidden(entry.name):
                continue
            if entry.is_dir():
                files[entry.name] = list(_images(entry, ignored))
            else:
                ignored.append(str(entry))
    except OSError as error:
        raise DataError(f"{error.filename}: cannot be listed ({error.strerror}); check the folder") from error
    return ClassTree(root=root, files=files, ignored=ignored)


def findings(trees: dict[str, ClassTree]) -> Iterator[str]:
    """Lists what makes splits unusable, without opening a file.

    Args:
        trees: the splits, "train" first; if there is no other, each class needs an image to hold out.

    Yields:
        A line for each fault: what is wrong, where, and the remedy.

    Example:
        >>> train = ClassTree(root=Path("train"), files={"cat": ["1.jpg"], "dog": ["2.jpg"]}, ignored=[])
        >>> test = ClassTree(root=Path("val"), files={"cat": ["3.jpg"], "dog": []}, ignored=[])
        >>> list(findings({"train": train, "test": test}))
        ['val/dog: no image in this class folder; add images or leave it out']
    """
    train, *others = trees.values()
    yield from _findings_within(train, minimum=1 if others else 2)
    for other in others:
        for have, lack in ((train, other), (other, train)):
            for name in have.files:
                if name not in lack.files:
                    yield (
                        f"{lack.root / name}: no such class folder, though {have.root / name} exists; "
                        "both splits need the same classes"
                    )
        yield from _findings_within(other, minimum=1)


def _findings_within(tree: ClassTree, *, minimum: int) -> Iterator[str]:
    remedy = "put the images of each class into a folder named after the class"
    if not tree.files:
        yield f"{tree.root}: no class folders; {remedy}"
    elif len(tree.files) == 1:
        yield f"{tree.root}: only one class folder, {tree.classes[0]}; {remedy}"
    for name, paths in tree.files.items():
        if not paths:
            yield f"{tree.root / name}: no image in this class folder; add images or leave it out"
        elif len(paths) < minimum:
            yield (
                f"{tree.root / name}: {len(paths)} image in this class folder, and {minimum} are needed "
                "to hold one out; add images or leave it out"
            )


def _images(folder: Path, ignored: list[str]) -> Iterator[str]:
    seen: set[Path] = set()
    for parent, subfolders, names in os.walk(folder, onerror=_raise, followlinks=True):
        place = Path(parent).resolve()
        if place in seen:
            raise DataError(f"{parent}: links back to {place}, which is listed already; leave the link out")
        seen.add(place)
        subfolders[:] = sorted(name for name in subfolders if not hidden(name))
        for name in sorted(names):
            if name.lower().endswith(IMG_EXTENSIONS) and not hidden(name):
                yield os.path.join(parent, name)  # noqa: PTH118 (a Path for each of a million files is slow)
            elif not hidden(name):
                ignored.append(str(Path(parent, name)))


def hidden(name: str) -> bool:
    """Whether a file or folder is none of the user's own.

    Example:
        >>> hidden(".DS_Store"), hidden("cat")
        (True, False)
    """
    return name.startswith(".") or name == "__MACOSX"


def _raise(error: OSError) -> None:
    raise error
