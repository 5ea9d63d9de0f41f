"""Which format annotated objects are in, and the reader of each."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crosshead.tasks.detect.annotated import Annotations
from crosshead.tasks.detect.coco.layout import find_coco, has_coco
from crosshead.tasks.detect.coco.read import read_coco
from crosshead.tasks.detect.cvat import FILE, find_cvat, read_cvat
from crosshead.tasks.detect.voc import find_voc, read_voc, xml_files
from crosshead.tasks.detect.yolo.layout import find_names, find_yolo
from crosshead.tasks.detect.yolo.read import read_yolo
from crosshead.tasks.splits import SPLITS, existing_folder
from crosshead.tasks.task import DataError

if TYPE_CHECKING:
    from crosshead.tasks.detect.recipe import DetectRecipe
    from crosshead.tasks.segment.recipe import SegmentRecipe

Reader = Callable[..., Annotations]

READERS: dict[str, tuple[Callable[..., dict[str, Any]], Reader]] = {
    "coco": (find_coco, read_coco),
    "yolo": (find_yolo, read_yolo),
    "cvat": (find_cvat, read_cvat),
    "voc": (find_voc, read_voc),
}


def find_annotations(recipe: DetectRecipe | SegmentRecipe) -> dict[str, Reader]:
    """Finds the annotations of the splits of a folder, in whichever format they are.

    Args:
        recipe: names the folder, and may name the format and the splits.

    Returns:
        A reader for each split, which takes `masks`: train, and where the folder has them test and val.

    Raises:
        DataError: if there are no annotations, or those of two formats, or as the format's own search raises.
    """
    root = existing_folder(recipe.data_dir)
    name = recipe.format
    if name is None:
        found = formats_in(root)
        if len(found) > 1:
            raise DataError(
                f"{root}: annotations in several formats, {', '.join(found)}; say which with --format"
            )
        if not found:
            raise nothing_found(root)
        (name,) = found
    find, read = READERS[name]
    names = {split: getattr(recipe, f"{split}_split") for split in SPLITS}
    return {split: partial(read, place) for split, place in find(root, **names).items()}


def formats_in(root: Path) -> list[str]:
    """The formats of annotated objects that lie in a folder.

    Example:
        >>> from tempfile import mkdtemp
        >>> root = Path(mkdtemp())
        >>> _ = (root / "data.yaml").write_text("names: [cat]")
        >>> formats_in(root)
        ['yolo']
    """
    found = {
        "coco": has_coco(root),
        "yolo": find_names(root) is not None,
        "cvat": (root / FILE).is_file(),
        "voc": any(xml_files(place) for place in root.iterdir() if place.is_dir())
        or any(path.name != FILE for path in xml_files(root)),
    }
    return [name for name, there in found.items() if there]


def nothing_found(root: Path) -> DataError:
    """The error of a folder without annotations."""
    packed = sorted(path.name for path in root.iterdir() if ".tar" in path.suffixes or path.suffix == ".zip")
    return DataError(
        f"{root}: no annotations; put a COCO json, a YOLO data.yaml with its labels/, CVAT's annotations.xml "
        f"or Pascal VOC's Annotations/ there" + (f", or unpack {packed[0]}" if packed else "")
    )
