"""The classes of label images: their names, and which values or colours stand for them."""

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from crosshead.tasks.segment.colours import ColourLegend, find_colours
from crosshead.tasks.segment.labels import (
    VALUES,
    label_table,
    opened,
    read_label_image,
    read_labels,
    require_regular,
)
from crosshead.tasks.segment.recipe import SegmentRecipe
from crosshead.tasks.splits import existing_folder
from crosshead.tasks.spread import spread
from crosshead.tasks.task import DataError

CLASSES_FILE = "classes.txt"
# Roboflow's, beside the images of each split: a value and a name a line.
VALUES_FILE = "_classes.csv"
BINARY = ("background", "foreground")
WHITE = 255
# Characters of a file of names: enough for 65,535 long ones.
LONGEST_TEXT = 1 << 24


@dataclass(frozen=True, kw_only=True, eq=False)
class ValueLegend:
    """What the values of label images stand for.

    Attributes:
        classes: the names of the classes; label `k` is `classes[k]`.
        table: the label of each value, as `label_table` gives it.
    """

    classes: tuple[str, ...]
    table: np.ndarray

    def read(self, path: Path) -> np.ndarray:
        """Reads a label image as labels, as `read_labels` does."""
        return read_labels(path, table=self.table)


def find_legend(recipe: SegmentRecipe, paths: Sequence[Path]) -> ValueLegend | ColourLegend:
    """Finds what label images show: the classes of a colour map, if there is one in the folder, else values.

    Label images that are grey and hold no more than the positions of the classes of a colour map, 255 apart,
    are read as values all the same.

    Args:
        recipe: names the folder, and may name the classes and the values that stand for none.
        paths: the label images of all splits.

    Raises:
        DataError: as `find_colours` and `find_classes`.
        ValueError: as `find_classes`.
    """
    colours = find_colours(existing_folder(recipe.data_dir))
    if colours is None or recipe.class_names is not None:
        classes, table = find_classes(recipe, paths)
        return ValueLegend(classes=classes, table=table)
    if _are_positions(paths, len(colours.classes)):
        ignored = [] if recipe.ignore_index is None else [recipe.ignore_index]
        return ValueLegend(
            classes=colours.classes, table=label_table(range(len(colours.classes)), ignored=ignored)
        )
    return colours


def find_classes(recipe: SegmentRecipe, paths: Sequence[Path]) -> tuple[tuple[str, ...], np.ndarray]:
    """Finds the names of the classes, and the label of each value.

    Names are those of the recipe, or the lines of `classes.txt` in its folder: then the value of a pixel is
    the position of its class; or the values and names of Roboflow's `_classes.csv`. Without, all label
    images are read, and each value that occurs is a class named after it, in ascending order.

    Binary masks are the exception: where there are two classes or none is named, and 0 and 255 are the only
    values, 0 is the first class and 255 the second, by default background and foreground.

    Args:
        recipe: names the folder, and may name the classes and the values that stand for none.
        paths: the label images of all splits.

    Returns:
        The names, and the table that `label_table` describes.

    Raises:
        DataError: if there are fewer than two classes, or more than 65,535.
        ValueError: if `ignore_index` is the value of a class with a name.
    """
    root, ignored, names = existing_folder(recipe.data_dir), recipe.ignore_index, recipe.class_names
    no_class = ([] if ignored is None else [ignored]) + [0] * recipe.reduce_zero_label
    values: Sequence[int] = ()
    if names is None and (root / CLASSES_FILE).exists():
        names = read_class_names(root / CLASSES_FILE)
    if names is None and (path := _values_file(root)):
        values, names = _read_values(path)
        no_class = [value for value in no_class if value not in values]
        ignored = next(iter(no_class), None)
    values = values or range(recipe.reduce_zero_label, recipe.reduce_zero_label + len(names or ()))
    if ignored in (None, WHITE) and not recipe.reduce_zero_label and len(names or BINARY) == 2:
        tried = paths if names is None else [paths[position] for position in spread(len(paths))]
        found = _values_in(tried)
        if found == [0, WHITE]:
            names = names or BINARY
            return names, label_table(found, ignored=())
    if names is None:
        values = sorted(set(_values_in(paths)) - set(no_class))
        names = tuple(map(str, values))
        if len(names) < 2:
            hint = "" if ignored is None else f" beside {ignored}, which is ignored (ignore_index)"
            raise DataError(
                f"{root}: the label images hold {len(names)} classes ({', '.join(names)}){hint}; two or more "
                f"are needed: write their names into {root / CLASSES_FILE}, one a line, or correct the labels"
            )
    if len(names) >= VALUES:
        raise DataError(
            f"{root}: {len(names)} classes, and label images have 16 bits: name 65535 at most, or correct "
            "the labels"
        )
    if ignored is not None and ignored in values:
        raise ValueError(
            f"ignore_index is {ignored}, that of {names[values.index(ignored)]!r}: give None or the value of "
            "no class; for 0 set reduce_zero_label and leave its name out"
        )
    return names, label_table(values, ignored=no_class)


def read_class_names(path: Path) -> tuple[str, ...]:
    """Reads the names of classes, one a line, the first that of label 0; empty lines at the end do not count.

    Args:
        path: a text file.

    Returns:
        The names as they are, without the spaces around them.

    Raises:
        DataError: if the file is not text, or names fewer than two classes, or a line is empty or repeated.

    Example:
        >>> from tempfile import mkdtemp
        >>> path = Path(mkdtemp(), "classes.txt")
        >>> _ = path.write_text("background\\nnucleus\\n")
        >>> read_class_names(path)
        ('background', 'nucleus')
    """
    require_regular(path)
    try:
        with path.open(encoding="utf-8-sig") as file:
            text = file.read(LONGEST_TEXT)
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not readable as text ({error}); save it as UTF-8") from error
    if "\0" in text or len(text) == LONGEST_TEXT:
        raise DataError(f"{path}: not a list of names; write the names of the classes, one a line, as UTF-8")
    # A name may hold some of what `splitlines` takes for the end of a line.
    names = [name.strip(" \t") for name in text.rstrip(" \t\n").split("\n")] if text else []
    if len(names) < 2:
        raise DataError(f"{path}: names {len(names)} classes; write two or more, one a line")
    seen: set[str] = set()
    for number, name in enumerate(names, start=1):
        if not name or name in seen:
            what = "again names" if name else "names nothing: no class"
            raise DataError(f"{path}: line {number} {what} {name!r}; give each class its own name")
        seen.add(name)
    return tuple(names)


def _values_in(paths: Iterable[Path]) -> list[int]:
    """The values that occur in some label images, in ascending order."""
    found = np.zeros(VALUES, bool)
    for path in paths:
        found[np.unique(read_label_image(path))] = True
    return np.flatnonzero(found).tolist()


def _are_positions(paths: Sequence[Path], count: int) -> bool:
    tried = [paths[position] for position in spread(len(paths))]
    for path in tried:
        with opened(path, labels=True) as image:
            if image.mode != "L":
                return False
    return all(value < count or value == WHITE for value in _values_in(tried))


def _values_file(root: Path) -> Path | None:
    return next((path for pattern in ("", "*/") for path in sorted(root.glob(pattern + VALUES_FILE))), None)


def _read_values(path: Path) -> tuple[list[int], tuple[str, ...]]:
    require_regular(path)
    try:
        rows = list(csv.reader(path.read_text(encoding="utf-8-sig").splitlines(), skipinitialspace=True))
        found = {int(value): name.strip() for value, name in rows[1:]}
    except (OSError, UnicodeDecodeError, ValueError, csv.Error) as error:
        raise DataError(f"{path}: not a table of values and names ({error}); export it again") from error
    if len(set(found.values())) < max(2, len(rows) - 1) or min(found) < 0 or max(found) >= VALUES - 1:
        raise DataError(
            f"{path}: names {len(found)} classes; write two or more values of 0..65534, each once"
        )
    return list(found), tuple(found.values())
