from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from crosshead.tasks.layout import existing_folder
from crosshead.tasks.segment.labels.layout import LabelledPairs
from crosshead.tasks.segment.labels.values import VALUES, label_table, read_label_image
from crosshead.tasks.task import DataError

CLASSES_FILE = "classes.txt"


def find_classes(
    data_dir: str | Path | None,
    pairs: Sequence[LabelledPairs],
    *,
    classes: Sequence[str] | None,
    ignore_index: int | None,
    reduce_zero_label: bool = False,
) -> tuple[tuple[str, ...], np.ndarray]:
    """Find the names of the classes and the label of each value, as `load_label_images` describes.

    Args:
        data_dir: The folder.
        pairs: The files of its splits.
        classes: Names that are given.
        ignore_index: A value that stands for no class.
        reduce_zero_label: Whether 0 does too.

    Returns:
        The names, and the table that `label_table` describes.

    Raises:
        DataError: When there are fewer than two classes.
        ValueError: When `ignore_index` is no value of 16 bits, or that of a class with a name.

    Example:
        >>> import tempfile
        >>> find_classes(tempfile.mkdtemp(), [], classes=("sky", "sea"), ignore_index=255)[0]
        ('sky', 'sea')
    """
    if ignore_index is not None and not 0 <= ignore_index < VALUES:
        raise ValueError(f"ignore_index is {ignore_index}; give a value of 0..65535, or None")
    ignored = [*([] if ignore_index is None else [ignore_index]), *([0] if reduce_zero_label else [])]
    root = existing_folder(data_dir)
    if classes is None and (root / CLASSES_FILE).is_file():
        classes = read_class_names(root / CLASSES_FILE)
    if classes is not None:
        first = int(reduce_zero_label)
        values = range(first, first + len(classes))
        if ignore_index is not None and ignore_index in values:
            raise ValueError(
                f"ignore_index is {ignore_index}, that of {classes[ignore_index - first]!r}; give None or "
                "the value of no class; for 0 set reduce_zero_label and leave its name out"
            )
        return tuple(classes), label_table(values, ignored=ignored)
    values = find_values((path for part in pairs for path in part.labels), ignored=ignored)
    if len(values) < 2:
        hint = "" if ignore_index is None else f" beside {ignore_index}, which is ignored (ignore_index)"
        raise DataError(
            f"{root}: the label images hold {len(values)} classes {values}{hint}; two or more are needed: "
            f"write their names into {root / CLASSES_FILE}, one a line, or correct the labels"
        )
    return tuple(map(str, values)), label_table(values, ignored=ignored)


def read_class_names(path: Path) -> tuple[str, ...]:
    """Read the names of classes, one a line, the first that of label 0; empty lines at the end are left out.

    Args:
        path: A text file.

    Returns:
        The names, stripped.

    Raises:
        DataError: When the file is no text, or names fewer than two classes or one of them not or twice.

    Example:
        >>> from tempfile import mkdtemp
        >>> path = Path(mkdtemp(), "classes.txt")
        >>> _ = path.write_text("background\\nnucleus\\n")
        >>> read_class_names(path)
        ('background', 'nucleus')
    """
    try:
        names = [line.strip() for line in path.read_text(encoding="utf-8").rstrip().splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not readable as text ({error}); save it as UTF-8") from error
    if len(names) < 2:
        raise DataError(f"{path}: names {len(names)} classes; write two or more, one a line")
    for number, name in enumerate(names):
        if not name or name in names[:number]:
            what = "again names" if name else "names nothing: no class"
            raise DataError(f"{path}: line {number + 1} {what} {name!r}; give each class its own name")
    return tuple(names)


def find_values(paths: Iterable[Path], *, ignored: Sequence[int]) -> tuple[int, ...]:
    """Find the label values that occur; every file is read.

    Args:
        paths: Label images.
        ignored: Values that stand for no class.

    Returns:
        The other values, ascending.

    Raises:
        DataError: As `read_label_image`.

    Example:
        >>> find_values([], ignored=[255])
        ()
    """
    found = np.zeros(VALUES, bool)
    for path in paths:
        found[np.unique(read_label_image(path))] = True
    found[list(ignored)] = False
    return tuple(np.flatnonzero(found).tolist())
