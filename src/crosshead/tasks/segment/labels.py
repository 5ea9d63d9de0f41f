"""Label images: the values in the files, and the class that each value stands for."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from crosshead.tasks.segment.recipe import SegmentRecipe
from crosshead.tasks.splits import existing_folder
from crosshead.tasks.task import DataError

CLASSES_FILE = "classes.txt"
# Of 16 bits. The last one is kept for pixels without a class.
VALUES = 1 << 16
# In a table: no class has this value.
UNKNOWN = -1

_FORMATS = ("PNG", "TIFF", "BMP", "GIF", "JPEG")
_MODES = ("P", "L", "1", "I;16", "I;16B", "I;16L", "I")
# Characters of a file of names: enough for 65,535 long ones.
_LONGEST_TEXT = 1 << 24


def find_classes(recipe: SegmentRecipe, paths: Sequence[Path]) -> tuple[tuple[str, ...], np.ndarray]:
    """Finds the names of the classes, and the label of each value.

    Names are those of the recipe, or the lines of `classes.txt` in its folder: then the value of a pixel is
    the position of its class. Without either, all label images are read, and each value that occurs is
    a class named after it, in ascending order: a mask of 0 and 255 has the classes "0" and "255" (with
    `ignore_index=None`).

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
    if names is None and (root / CLASSES_FILE).exists():
        names = read_class_names(root / CLASSES_FILE)
    values: Sequence[int] = range(recipe.reduce_zero_label, recipe.reduce_zero_label + len(names or ()))
    if names is None:
        found = np.zeros(VALUES, bool)
        for path in paths:
            found[np.unique(read_label_image(path))] = True
        found[no_class] = False
        values = np.flatnonzero(found).tolist()
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
            text = file.read(_LONGEST_TEXT)
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not readable as text ({error}); save it as UTF-8") from error
    if "\0" in text or len(text) == _LONGEST_TEXT:
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


def ignored_label(num_classes: int) -> int:
    """The label that stands for pixels without one, beside a number of classes.

    Example:
        >>> ignored_label(150), ignored_label(300)
        (255, 65535)
    """
    return 255 if num_classes <= 255 else VALUES - 1


def label_table(values: Sequence[int], *, ignored: Sequence[int]) -> np.ndarray:
    """The label of each value that a file may hold.

    Args:
        values: the value of each class, in the order of the labels.
        ignored: values that stand for no class.

    Returns:
        int32, (65536,): a label, the ignored label, or -1 where no class has the value.

    Example:
        >>> label_table([0, 7], ignored=[255])[[0, 7, 255, 1]].tolist()
        [0, 1, 255, -1]
    """
    table = np.full(VALUES, UNKNOWN, np.int32)
    table[list(values)] = np.arange(len(values))
    table[list(ignored)] = ignored_label(len(values))
    return table


def read_labels(path: Path, *, table: np.ndarray) -> np.ndarray:
    """Reads a label image as labels.

    Args:
        path: the file.
        table: as `label_table` gives it.

    Returns:
        uint8, or uint16 for a table with larger labels, (height, width).

    Raises:
        DataError: as `read_label_image`, and if a value belongs to no class.

    Example:
        >>> from tempfile import mkdtemp
        >>> path = Path(mkdtemp(), "labels.png")
        >>> Image.fromarray(np.array([[0, 7, 255]], np.uint8)).save(path)
        >>> read_labels(path, table=label_table([0, 7], ignored=[255]))
        array([[  0,   1, 255]], dtype=uint8)
    """
    values = read_label_image(path)
    labels = table[values]
    if labels.min() == UNKNOWN:
        row, column = np.argwhere(labels == UNKNOWN)[0]
        known = np.flatnonzero(table != UNKNOWN)
        runs = np.split(known, np.flatnonzero(np.diff(known) > 1) + 1)
        ranges = (f"{run[0]}..{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)
        raise DataError(
            f"{path}: value {values[row, column]} at column {column}, row {row} is not a class; known are "
            f"{', '.join(ranges)}; correct it, or name more classes"
        )
    return labels.astype(np.uint8 if table.max() <= 255 else np.uint16)


def read_label_image(path: Path) -> np.ndarray:
    """Reads the values of a label image as they are: palette indices stay indices.

    Args:
        path: a grey or palette image of 8 or 16 bits: PNG, TIFF, BMP or GIF.

    Returns:
        uint8 or uint16, (height, width).

    Raises:
        DataError: if the file is unreadable, has colours instead of indices, or is a JPEG, which does not
            keep values.
    """
    with opened(path, labels=True) as image:
        values = np.asarray(image)
    if values.dtype == bool:
        return values.astype(np.uint8)
    if values.min() < 0 or values.max() >= VALUES:
        raise DataError(f"{path}: label values up to {values.max()}; labels have 16 bits at most")
    return values if values.dtype == np.uint8 else values.astype(np.uint16)


@contextmanager
def opened(path: Path, *, labels: bool = False) -> Iterator[Image.Image]:
    """Opens an image file, which is not decoded yet, and says in a line what is wrong with it.

    Args:
        path: the file.
        labels: whether it has to be a label image.

    Raises:
        DataError: if it cannot be read, also within the block, or is not a label image where it has to be.
    """
    try:
        with Image.open(path, formats=_FORMATS if labels else None) as image:
            if labels and image.format == "JPEG":
                raise DataError(f"{path}: a JPEG, which does not keep label values; save the labels as PNG")
            if labels and image.mode not in _MODES:
                raise DataError(
                    f"{path}: mode {image.mode}, not labels; save class indices as a grey or palette PNG"
                )
            yield image
    except DataError:
        raise
    # Pillow's decoders meet damaged files with almost any exception there is.
    except Exception as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise DataError(
            f"{path}: not readable as {'a label' if labels else 'an'} image ({reason}); repair or replace "
            "the file, or leave it out"
        ) from error


def require_regular(path: Path) -> None:
    """Refuses what is not a regular file: to open a named pipe would wait for ever.

    Raises:
        DataError: if it is a pipe, a device, a folder or a broken link.
    """
    if not path.is_file():
        raise DataError(f"{path}: not a regular file; put a file in its place, or leave it out")
