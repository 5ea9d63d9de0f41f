"""Coloured label images: maps from colours to classes, as tools export them, and what they make of an image.

Sources: labelmap.txt is written by CVAT (https://docs.cvat.ai/docs/manual/advanced/formats/format-smask),
    class_dict.csv and
label_colors.txt lie beside CamVid.
"""

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from crosshead.tasks.segment.labels import ignored_label, opened
from crosshead.tasks.task import DataError

Colour = tuple[int, int, int]

# Pascal VOC paints borders in it; no class has it.
VOID: Colour = (224, 224, 192)
# In a table of 2 ** 24 colours: no class has this one.
_UNKNOWN = -1


@dataclass(frozen=True, kw_only=True, eq=False)
class ColourLegend:
    """What the colours of label images stand for.

    Attributes:
        path: the file that says so.
        classes: the names of the classes; label `k` is `classes[k]`.
        colours: the colour of each.
    """

    path: Path
    classes: tuple[str, ...]
    colours: tuple[Colour, ...]

    def read(self, path: Path) -> np.ndarray:
        """Reads a label image as labels; of a palette image the colours count, and transparency never does.

        Args:
            path: a grey, palette or colour image of 8 bits.

        Returns:
            uint8, or uint16 beside more than 255 classes, (height, width).

        Raises:
            DataError: if the file is unreadable, or has a colour that the map lacks.
        """
        with opened(path, labels=True) as image:
            pixels = np.asarray(image.convert("RGB")).astype(np.int32)
        packed = pixels @ (1 << 16, 1 << 8, 1)
        # Few colours, and 2 ** 24 that there might be: the classes are looked up among those that occur.
        found, places = np.unique(packed, return_inverse=True)
        table = {_packed(colour): label for label, colour in enumerate(self.colours)}
        if self.path.name == LABELMAP:
            table.setdefault(_packed(VOID), ignored_label(len(self.classes)))
        labels = np.array([table.get(int(value), _UNKNOWN) for value in found])
        labels = labels[places].reshape(packed.shape)
        if labels.min() == _UNKNOWN:
            row, column = np.argwhere(labels == _UNKNOWN)[0]
            colour = ", ".join(map(str, pixels[row, column]))
            raise DataError(
                f"{path}: colour ({colour}) at column {column}, row {row} is not in {self.path}; add it "
                "there, or correct the image"
            )
        return labels.astype(np.uint8 if ignored_label(len(self.classes)) == 255 else np.uint16)


def find_colours(root: Path) -> ColourLegend | None:
    """The colour map of a folder of label images, or None if there is none.

    Raises:
        DataError: if the map cannot be read, names fewer than two classes, or gives two the same name or
            colour.

    Example:
        >>> from tempfile import mkdtemp
        >>> root = Path(mkdtemp())
        >>> _ = (root / "class_dict.csv").write_text("name,r,g,b\\nsky,0,0,255\\nsea,0,128,0\\n")
        >>> legend = find_colours(root)
        >>> legend.classes, legend.colours
        (('sky', 'sea'), ((0, 0, 255), (0, 128, 0)))
    """
    for name, parse in _PARSERS.items():
        if (root / name).is_file():
            return _legend(root / name, parse)
    return None


def _legend(path: Path, parse: Callable[[str], tuple[str, Sequence[str]] | None]) -> ColourLegend:
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not readable as text ({error}); save it as UTF-8") from error
    classes: dict[str, Colour] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip() or (found := parse(line.strip())) is None:
            continue
        name, values = found
        try:
            red, green, blue = map(int, values)
        except ValueError:
            red = green = blue = -1
        if not name or min(red, green, blue) < 0 or max(red, green, blue) > 255:
            raise DataError(f"{path}: line {number}: no class with three numbers of 0..255; correct it")
        if name in classes or (red, green, blue) in classes.values():
            raise DataError(f"{path}: line {number}: its class or colour is there twice; give each its own")
        classes[name] = (red, green, blue)
    if len(classes) < 2:
        raise DataError(f"{path}: {len(classes)} classes with a colour; write two or more, one a line")
    return ColourLegend(path=path, classes=tuple(classes), colours=tuple(classes.values()))


def _packed(colour: Colour) -> int:
    return colour[0] << 16 | colour[1] << 8 | colour[2]


def _of_labelmap(line: str) -> tuple[str, Sequence[str]] | None:
    """`name:r,g,b:parts:actions`; the name may hold colons."""
    if line.startswith("#"):
        return None
    name, colour, *_ = (*line.rsplit(":", 3), "", "")
    return name, colour.split(",")


def _of_class_dict(line: str) -> tuple[str, Sequence[str]] | None:
    """`name,r,g,b`, below a line that says so."""
    fields = [field.strip() for field in next(csv.reader([line]))]
    return None if fields[1:] == ["r", "g", "b"] else (fields[0], fields[1:])


def _of_label_colors(line: str) -> tuple[str, Sequence[str]] | None:
    """`r g b name`."""
    *colour, name = (*line.split(None, 3), "", "", "")[:4]
    return name, colour


LABELMAP = "labelmap.txt"
_PARSERS = {LABELMAP: _of_labelmap, "class_dict.csv": _of_class_dict, "label_colors.txt": _of_label_colors}
