"""Annotations in the XML of Pascal VOC, a file for each image.

Source: M. Everingham et al., "The Pascal visual object classes (VOC) challenge", IJCV 2010, and its
    development kit: pixels
are counted from 1, and a box holds its last row and column.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree.ElementTree import Element

from torchvision.datasets.folder import IMG_EXTENSIONS

from crosshead.tasks.detect.annotated import Annotations, Listed, annotate
from crosshead.tasks.detect.markup import number_of, read_xml
from crosshead.tasks.images import image_size
from crosshead.tasks.splits import NAMES, existing_folder, find_places
from crosshead.tasks.task import DataError

FOLDERS = ("Annotations", "annotations")
IMAGE_FOLDERS = ("JPEGImages", "images")
LISTS = ("ImageSets", "Main")
SIDES = ("xmin", "ymin", "xmax", "ymax")


@dataclass(frozen=True, kw_only=True)
class VocPlace:
    """The files of one split.

    Attributes:
        root: the folder of the data set.
        files: the XML files with what is in them.
        classes: the names of all classes of the data set, in alphabetical order.
        from_one: whether pixels are counted from 1, as VOC itself does.
    """

    root: Path
    files: list[tuple[Path, Element]]
    classes: tuple[str, ...]
    from_one: bool


def find_voc(
    data_dir: str | Path | None, *, train: str | None = None, val: str | None = None, test: str | None = None
) -> dict[str, VocPlace]:
    """Finds the splits of a folder of XML files.

    The files lie in Annotations/ with images in JPEGImages/ or images/, and ImageSets/Main/`<split>`.txt
    lists the names of a split; or files and images of a split lie in `<split>/`; or there are no splits.

    Args:
        data_dir: the folder.
        train: the name of the split to learn from; by default train or training.
        val: the same to validate on.
        test: the same to test on.

    Returns:
        The places by split: train, and where there are such splits test and val.

    Raises:
        DataError: if a file is no XML of this kind, a split that is named is missing, or no object is
            annotated.
    """
    root = existing_folder(data_dir)

    def find(split: str, names: Sequence[str]) -> list[Path] | None:
        for name in names:
            listed = root.joinpath(*LISTS, f"{name}.txt")
            if listed.is_file():
                return list(_listed(listed, root))
            if found := xml_files(root / name):
                return found
        if (train, val, test)[list(NAMES).index(split)]:
            place = "/".join(LISTS)
            raise DataError(f"{root}: no split {names[0]!r}; list it in {place}/{names[0]}.txt")
        return None

    paths = find_places(find, train=train, val=val, test=test)
    if not paths:
        paths["train"] = xml_files(root)
    if not paths.get("train"):
        raise DataError(f"{root}: no XML file of the train split; put them into Annotations/")
    read = {path: read_xml(path, root="annotation") for found in paths.values() for path in found}
    objects = [each for element in read.values() for each in element.iterfind("object")]
    classes = tuple(sorted({name for each in objects if (name := each.findtext("name"))}))
    if not classes:
        raise DataError(f"{root}: none of its {len(read)} XML files has an object with a name; annotate some")
    from_one = all(_counts_from_one(each) for each in objects)
    return {
        split: VocPlace(
            root=root, files=[(path, read[path]) for path in found], classes=classes, from_one=from_one
        )
        for split, found in paths.items()
    }


def xml_files(folder: Path) -> list[Path]:
    """The XML files of a folder, in alphabetical order: those of Annotations/, or those beside images."""
    for place in (*(folder / name for name in FOLDERS), folder):
        # Some tools write what they know of 1.tif into 1.tif.aux.xml.
        found = [path for path in sorted(place.glob("*.xml")) if not path.name.endswith(".aux.xml")]
        if found := [path for path in found if not path.name.startswith(".")]:
            return found
    return []


def read_voc(place: VocPlace, *, masks: bool) -> Annotations:
    """Reads the files of a split.

    Tools that write fractions, or 0 for the first pixel, mean edges: numbers are taken as they are then, for
    the whole data set. What is difficult is a crowd: not learned, and not counted against the detector, as
    VOC does.

    Args:
        place: the files.
        masks: whether objects need masks; the format has none.

    Returns:
        What is sound, and what is wrong with the rest, by file and object.
    """
    findings, faulty, listed = [], [], []
    shift = 1 if place.from_one else 0
    for number, (path, element) in enumerate(place.files, start=1):
        image = _find_image(place.root, path, element.findtext("filename") or "")
        if image is None:
            findings.append(f"{path}: no image {path.stem}.jpg or the like; put it into JPEGImages/")
            continue
        try:
            size = _stated_size(element) or image_size(image)
        except DataError as error:
            findings.append(str(error))
            continue
        entries = []
        for position, each in enumerate(element.iterfind("object"), start=1):
            try:
                entries.append((position, _entry(each, place.classes, shift=shift)))
            except ValueError as error:
                faulty.append(f"{path}: object {position}: {error}")
        around = f"{path}: object ", ""
        listed.append(Listed(path=image, size=size, image_id=number, place=around, annotations=entries))
    path = place.files[0][0].parent
    categories = dict(enumerate(place.classes))
    return annotate(path, categories, listed, masks=masks, findings=findings, faulty=faulty)


def _entry(each: Element, classes: tuple[str, ...], *, shift: int) -> dict:
    name, box = each.findtext("name"), each.find("bndbox")
    if not name:
        raise ValueError("no name; give the object one")
    if box is None:
        raise ValueError("no bndbox; draw its box")
    left, top, right, bottom = (number_of(box, side) for side in SIDES)
    left, top = left - shift, top - shift
    return {
        "category_id": classes.index(name),
        "bbox": [left, top, right - left, bottom - top],
        "iscrowd": int(each.findtext("difficult") == "1"),
    }


def _counts_from_one(each: Element) -> bool:
    try:
        box = each.find("bndbox")
        values = [] if box is None else [number_of(box, side) for side in SIDES]
    except ValueError:
        return True
    return all(value >= 1 and value == int(value) for value in values)


def _stated_size(element: Element) -> tuple[int, int] | None:
    """Width and height that a file states; some tools write 0, or nothing."""
    size = element.find("size")
    try:
        sides = (0, 0) if size is None else (int(number_of(size, "width")), int(number_of(size, "height")))
    except ValueError:
        return None
    return sides if min(sides) > 0 else None


def _listed(path: Path, root: Path) -> Iterator[Path]:
    folder = next((root / name for name in FOLDERS if (root / name).is_dir()), root)
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        # Lists of a single class say behind the name whether the image shows it.
        if fields := line.split():
            file = folder / f"{fields[0]}.xml"
            if not file.is_file():
                raise DataError(f"{path}: line {number}: no {file}; put it there or correct the line")
            yield file


def _find_image(root: Path, path: Path, name: str) -> Path | None:
    folders = [*(root / folder for folder in IMAGE_FOLDERS), path.parent, root]
    stems = [name, *(f"{path.stem}{extension}" for extension in IMG_EXTENSIONS)]
    stems += [f"{path.stem}{extension.upper()}" for extension in IMG_EXTENSIONS]
    places = (folder / stem for stem in stems if stem for folder in folders)
    return next((place for place in places if place.is_file()), None)
