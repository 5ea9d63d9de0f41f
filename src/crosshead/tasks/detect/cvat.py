"""Annotations in the XML of CVAT, "CVAT for images 1.1".

Source: https://docs.cvat.ai/docs/manual/advanced/xml_format. Run lengths of masks go row by row through the
    box of the
mask, and begin with the pixels outside.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

import numpy as np
from faster_coco_eval.core import mask as codec

from crosshead.tasks.detect.annotated import Annotations, Listed, annotate
from crosshead.tasks.detect.markup import number_of, read_xml
from crosshead.tasks.splits import existing_folder, find_file, find_places
from crosshead.tasks.task import DataError

FILE = "annotations.xml"
READ = ("box", "polygon", "mask")
# Marks of a whole image, and attributes: no objects.
PASSED_OVER = ("tag", "attribute")


@dataclass(frozen=True, kw_only=True)
class CvatPlace:
    """The images of one split of a file.

    Attributes:
        path: the file.
        classes: the names of the labels, in their order.
        images: the elements of the images.
        others: of subsets that no split is called, how many images each has.
    """

    path: Path
    classes: tuple[str, ...]
    images: list[Element]
    others: dict[str, int]


def find_cvat(
    data_dir: str | Path | None, *, train: str | None = None, val: str | None = None, test: str | None = None
) -> dict[str, CvatPlace]:
    """Finds the splits of a folder with annotations.xml; they are the subsets of its images, if these have
    any.

    Args:
        data_dir: the folder; images lie in images/, `images/<subset>/` or beside the file.
        train: the subset to learn from; by default train or training.
        val: the same to validate on.
        test: the same to test on.

    Returns:
        The places by split: train, and where there are such subsets test and val.

    Raises:
        DataError: if the file is missing, is not CVAT's for images, names no label, or a subset that is
            named is missing.
    """
    path = existing_folder(data_dir) / FILE
    document = read_xml(path, root="annotations")
    if document.find("track") is not None:
        raise DataError(f"{path}: tracks of a video; export it as 'CVAT for images 1.1'")
    # Parts of a skeleton are labels with a parent.
    labels = [label for label in document.iterfind("meta//labels/label") if not label.findtext("parent")]
    classes = tuple(dict.fromkeys(name for label in labels if (name := label.findtext("name"))))
    images = document.findall("image")
    if not classes or not images:
        lacking = "label" if not classes else "image"
        raise DataError(f"{path}: lists no {lacking}; export a task with labels and images")
    subsets = [(image.get("subset") or "").lower() for image in images]

    def find(_: str, names: Sequence[str]) -> list[Element] | None:
        wanted = {name.lower() for name in names}
        found = [image for image, subset in zip(images, subsets, strict=True) if subset in wanted]
        if not found and len(names) == 1:
            raise DataError(f"{path}: no image of subset {names[0]!r}; name one of {_listed(subsets)}")
        return found or None

    places = find_places(find, train=train, val=val, test=test)
    if not places:
        places["train"] = images
    if "train" not in places:
        raise DataError(f"{path}: no image of subset train; name the one to learn from with --train-split")
    dealt = {id(image) for found in places.values() for image in found}
    left = [subset for image, subset in zip(images, subsets, strict=True) if id(image) not in dealt]
    others = {} if train or val or test else {subset: left.count(subset) for subset in sorted(set(left))}
    return {
        split: CvatPlace(path=path, classes=classes, images=found, others=others if split == "train" else {})
        for split, found in places.items()
    }


def read_cvat(place: CvatPlace, *, masks: bool) -> Annotations:
    """Reads the images of a split.

    Boxes that are turned become the upright boxes around them. Tags are passed over; lines, points,
    ellipses, cuboids and skeletons are faults, since they are neither boxes nor masks.

    Args:
        place: the images.
        masks: whether objects need masks: polygons or masks.

    Returns:
        What is sound, and what is wrong with the rest, by image and shape.
    """
    findings = [
        f"{place.path}: {count} images of subset {subset!r} are in no split; name splits with --train-split, "
        "--val-split and --test-split"
        for subset, count in place.others.items()
    ]
    faulty, listed = [], []
    for position, image in enumerate(place.images):
        name = image.get("name") or ""
        named = f"{place.path}: image {image.get('id', position)} ({name})"
        try:
            size = (round(number_of(image, "width")), round(number_of(image, "height")))
        except ValueError as error:
            findings.append(f"{named}: {error}")
            continue
        path = _find_image(place.path.parent, name, image.get("subset") or "")
        if path is None:
            findings.append(f"{named}: no such image file in images/; put it there, or export with images")
            continue
        entries = []
        for number, shape in enumerate((each for each in image if each.tag not in PASSED_OVER), start=1):
            try:
                entries.append((number, _entry(shape, size=size, classes=place.classes)))
            except ValueError as error:
                faulty.append(f"{named}: shape {number}: {error}")
        around = f"{named}: shape ", ""
        listed.append(Listed(path=path, size=size, image_id=position, place=around, annotations=entries))
    categories = dict(enumerate(place.classes))
    return annotate(place.path, categories, listed, masks=masks, findings=findings, faulty=faulty)


def _entry(shape: Element, *, size: tuple[int, int], classes: tuple[str, ...]) -> dict[str, Any]:
    if shape.tag not in READ:
        raise ValueError(f"a {shape.tag[:40]}, which has no box and no mask; draw a box, a polygon or a mask")
    label = shape.get("label")
    if label not in classes:
        raise ValueError(f"label {label!r} is not one of the file; known are {', '.join(classes)}")
    entry: dict[str, Any] = {"category_id": classes.index(label)}
    if shape.tag == "mask":
        return {**entry, **_mask(shape, size=size)}
    points = _corners(shape) if shape.tag == "box" else _points(shape)
    left, top = points.min(axis=0).tolist()
    right, bottom = points.max(axis=0).tolist()
    entry["bbox"] = [left, top, right - left, bottom - top]
    if shape.tag == "polygon":
        entry["segmentation"] = [points.flatten().tolist()]
    return entry


def _corners(box: Element) -> np.ndarray:
    left, top, right, bottom = (number_of(box, name) for name in ("xtl", "ytl", "xbr", "ybr"))
    if right < left or bottom < top:
        raise ValueError(f"box from ({left}, {top}) to ({right}, {bottom}); give the upper left corner first")
    corners = np.array([(left, top), (right, top), (right, bottom), (left, bottom)])
    angle = math.radians(number_of(box, "rotation") if box.get("rotation") else 0.0)
    if not angle:
        return corners
    # Clockwise as it is seen, for y grows downwards.
    turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    centre = corners.mean(axis=0)
    return (corners - centre) @ turn + centre


def _points(polygon: Element) -> np.ndarray:
    text = polygon.get("points") or ""
    try:
        points = np.array([[float(value) for value in pair.split(",")] for pair in text.split(";")])
    except ValueError:
        points = np.zeros(0)
    if points.ndim != 2 or points.shape[-1] != 2:
        raise ValueError(f"points are {text[:40]!r}; give x,y;x,y;...")
    return points


def _mask(shape: Element, *, size: tuple[int, int]) -> dict[str, Any]:
    left, top, width, height = (round(number_of(shape, name)) for name in ("left", "top", "width", "height"))
    try:
        runs = [int(run) for run in (shape.get("rle") or "").split(",")]
    except ValueError:
        runs = []
    if min(runs, default=-1) < 0 or sum(runs) != width * height:
        raise ValueError(f"run lengths of {sum(runs)} pixels for a mask of {width} x {height}; correct them")
    if min(left, top) < 0 or left + width > size[0] or top + height > size[1]:
        raise ValueError(f"mask reaches outside the image of {size[0]} x {size[1]} pixels; correct it")
    whole = np.zeros(size[::-1], np.uint8)
    inside = np.repeat(np.arange(len(runs)) % 2, runs).reshape(height, width)
    whole[top : top + height, left : left + width] = inside
    encoded: Any = codec.encode(np.asfortranarray(whole))
    counts = {"size": [size[1], size[0]], "counts": encoded["counts"].decode()}
    return {"bbox": [left, top, width, height], "segmentation": counts, "area": int(whole.sum())}


def _find_image(root: Path, name: str, subset: str) -> Path | None:
    folders = [root / "images" / subset, root / "images", root / subset, root]
    exact = (folder / name for folder in folders if (folder / name).is_file())
    return next(exact, None) or next(filter(None, (find_file(name, folder) for folder in folders)), None)


def _listed(subsets: Sequence[str]) -> str:
    return ", ".join(sorted({subset or "(none)" for subset in subsets}))
