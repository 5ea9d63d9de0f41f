import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torchvision.datasets.folder import IMG_EXTENSIONS

from crosshead.tasks.task import DataError

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ClassTree:
    """The image files of one split, by class folder.

    Attributes:
        root: The folder that holds the class folders.
        files: The image files of each class; classes and files in alphabetical order.
        ignored: Files that are no images by their extension, or lie outside the class folders. Hidden files
            are not even counted.

    Example:
        >>> tree = ClassTree(root=Path("train"), files={"cat": ["train/cat/1.jpg"], "dog": []}, ignored=[])
        >>> tree.classes
        ('cat', 'dog')
        >>> list(tree.findings())
        ['train/dog: no image in this class folder; add images or leave it out']
    """

    root: Path
    files: dict[str, list[str]]
    ignored: list[str]

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the class folders; a label is an index into them."""
        return tuple(self.files)

    def findings(self, *, minimum: int = 1) -> Iterator[str]:
        """List what makes the tree unusable, a line each.

        Args:
            minimum: How many images each class needs.

        Yields:
            What is wrong, where, and the remedy.
        """
        remedy = "put the images of each class into a folder named after the class"
        if not self.files:
            yield f"{self.root}: no class folders; {remedy}"
        elif len(self.files) == 1:
            yield f"{self.root}: only one class folder, {self.classes[0]}; {remedy}"
        for name, paths in self.files.items():
            if not paths:
                yield f"{self.root / name}: no image in this class folder; add images or leave it out"
            elif len(paths) < minimum:
                yield (
                    f"{self.root / name}: {len(paths)} image in this class folder, and {minimum} are needed "
                    "to hold one out; add images or leave it out"
                )

    def samples(self) -> tuple[list[str], np.ndarray]:
        """List the files with their labels.

        Returns:
            The paths, class by class, and their labels, (N,).
        """
        counts = [len(paths) for paths in self.files.values()]
        return [path for paths in self.files.values() for path in paths], np.repeat(
            np.arange(len(counts)), counts
        )

    def check(self, *, minimum: int = 1) -> None:
        """Refuse an unusable tree, and warn of the files that are ignored.

        Args:
            minimum: How many images each class needs.

        Raises:
            DataError: With the first of the `findings`.
        """
        for finding in self.findings(minimum=minimum):
            raise DataError(finding)
        if self.ignored:
            logger.warning(
                "%s: %d files ignored (no image by extension, or outside the class folders), such as %s",
                self.root,
                len(self.ignored),
                self.ignored[0],
            )


def read_class_tree(root: Path) -> ClassTree:
    """List the image files below the class folders of one split.

    Class folders are searched to any depth and through links. Nothing is opened.

    Args:
        root: The folder that holds the class folders.

    Returns:
        The files, by class.

    Raises:
        DataError: When a folder cannot be listed, or a link leads back to one of its class.

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
            if _hidden(entry.name):
                continue
            if entry.is_dir():
                files[entry.name] = list(_images(entry, ignored))
            else:
                ignored.append(str(entry))
    except OSError as error:
        raise DataError(f"{error.filename}: cannot be listed ({error.strerror}); check the folder") from error
    return ClassTree(root=root, files=files, ignored=ignored)


def differences(train: ClassTree, held_out: ClassTree) -> Iterator[str]:
    """List the classes that only one of two splits has, a line each.

    Args:
        train: The training split.
        held_out: The other split.

    Yields:
        The folder that is missing, and the remedy.

    Example:
        >>> train = ClassTree(root=Path("train"), files={"cat": ["1.jpg"], "dog": ["2.jpg"]}, ignored=[])
        >>> val = ClassTree(root=Path("val"), files={"cat": ["3.jpg"]}, ignored=[])
        >>> list(differences(train, val))
        ['val/dog: no such class folder, though train/dog exists; both splits need the same classes']
    """
    for have, lack in ((train, held_out), (held_out, train)):
        for name in have.classes:
            if name not in lack.files:
                yield (
                    f"{lack.root / name}: no such class folder, though {have.root / name} exists; "
                    "both splits need the same classes"
                )


def _images(folder: Path, ignored: list[str]) -> Iterator[str]:
    seen: set[Path] = set()
    for parent, subfolders, names in os.walk(folder, onerror=_raise, followlinks=True):
        place = Path(parent).resolve()
        if place in seen:
            raise DataError(f"{parent}: links back to {place}, which is listed already; leave the link out")
        seen.add(place)
        subfolders[:] = sorted(name for name in subfolders if not _hidden(name))
        for name in sorted(names):
            if name.lower().endswith(IMG_EXTENSIONS) and not _hidden(name):
                yield os.path.join(parent, name)  # noqa: PTH118 (a Path for each of a million files is slow)
            elif not _hidden(name):
                ignored.append(str(Path(parent, name)))


def _hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def _raise(error: OSError) -> None:
    raise error
