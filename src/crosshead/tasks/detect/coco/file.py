import json
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from crosshead.tasks.dense_splits import Objects
from crosshead.tasks.detect.coco.entries import (
    category_fault,
    corners,
    image_fault,
    object_faults,
    unique_entries,
)
from crosshead.tasks.detect.coco.layout import CocoPlace, choose_folder
from crosshead.tasks.task import DataError


@dataclass(frozen=True, kw_only=True, eq=False)
class CocoImage:
    """One image of a file of annotations, with its objects; masks are still as the file has them.

    Attributes:
        path: The image file.
        size: Width and height in pixels, as the file says.
        objects: Without masks; an area that the file does not give is that of the box.
        annotation_ids: The number of each object in the file.
        segmentations: The mask of each object as the file has it, or None.
        unmeasured: bool, (n,): objects whose area the file does not give.
    """

    path: Path
    size: tuple[int, int]
    objects: Objects
    annotation_ids: tuple[int, ...]
    segmentations: tuple[Any, ...] | None
    unmeasured: np.ndarray


@dataclass(frozen=True, kw_only=True)
class CocoFile:
    """A file of annotations.

    Attributes:
        path: The json file.
        categories: The name of each category by its number, in the order of the numbers.
        images: Those whose entries are sound, in the order of the file, with their sound objects.
        findings: What is wrong with the file, a line each.
        faulty: What is wrong with single annotations: boxes, masks, areas; a line each.
    """

    path: Path
    categories: dict[int, str]
    images: list[CocoImage]
    findings: list[str] = field(default_factory=list)
    faulty: list[str] = field(default_factory=list)


def no_objects(*, image_id: int, size: tuple[int, int], masks: bool) -> Objects:
    """The objects of an image without any.

    Args:
        image_id: The number of the image.
        size: Width and height of the image in pixels.
        masks: Whether there are masks, none of them.

    Example:
        >>> no_objects(image_id=1, size=(6, 4), masks=True).masks.shape
        (0, 4, 6)
    """
    return Objects(
        boxes=np.zeros((0, 4), np.float32),
        labels=np.zeros(0, np.int64),
        masks=np.zeros((0, size[1], size[0]), np.uint8) if masks else None,
        crowd=np.zeros(0, bool),
        area=np.zeros(0, np.float32),
        image_id=image_id,
    )


def read_coco(place: CocoPlace, *, masks: bool) -> CocoFile:
    """Read a file of annotations, and check all that shows without opening an image or decoding a mask.

    Args:
        place: The file, and where its images may lie.
        masks: Whether objects need masks; without, masks are not looked at.

    Returns:
        What is sound, and what is wrong with the rest.

    Raises:
        DataError: When the file cannot be read, is no json or no COCO, or none of its images is found.

    Example:
        >>> read_coco(CocoPlace(path=Path("none.json"), folders=()), masks=False)
        Traceback (most recent call last):
            ...
        crosshead.tasks.task.DataError: none.json: cannot be read (No such file or directory); check the file
    """
    document = _read_json(place.path)
    findings: list[str] = []
    categories = unique_entries(document["categories"], "category", place.path, category_fault, findings)
    images = unique_entries(document["images"], "image", place.path, image_fault, findings)
    annotations = unique_entries(
        document["annotations"], "annotation", place.path, lambda entry: None, findings
    )
    labels = {number: label for label, number in enumerate(sorted(categories), start=1)}
    folder = choose_folder(place, [entry["file_name"] for entry in images.values()][:20]) if images else None

    faulty: list[str] = []
    of_image: dict[int, list[dict]] = defaultdict(list)
    for number, entry in annotations.items():
        image_id, category_id = entry.get("image_id"), entry.get("category_id")
        if type(image_id) is not int or image_id not in images:
            findings.append(
                f"{place.path}: annotation {number}: no image has its image_id {image_id!r:.40}; "
                "correct or delete the annotation"
            )
        elif type(category_id) is not int or category_id not in categories:
            findings.append(
                f"{place.path}: annotation {number}: no category has its category_id {category_id!r:.40}; "
                "correct or delete the annotation"
            )
        else:
            image = images[image_id]
            faults = list(object_faults(entry, (image["width"], image["height"]), masks=masks))
            faulty += [f"{place.path}: {_named(number, image)}: {fault}" for fault in faults]
            if not faults:
                of_image[image_id].append(entry)

    sound = []
    for number, entry in images.items():
        path = Path(folder or "", entry["file_name"])
        if path.is_file():
            sound.append(_image(path, entry, of_image[number], labels, masks=masks))
        else:
            findings.append(
                f"{path}: no such image, though {place.path} lists it as image {number}; "
                "put it there or delete its entry"
            )
    return CocoFile(
        path=place.path,
        categories={number: categories[number]["name"] for number in sorted(categories)},
        images=sound,
        findings=findings,
        faulty=faulty,
    )


def _read_json(path: Path) -> dict[str, list]:
    try:
        document = json.loads(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check the file") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: no json ({error}); get the file again") from error
    for name in ("images", "annotations", "categories"):
        if not isinstance(document, dict) or not isinstance(document.get(name), list):
            raise DataError(
                f"{path}: no COCO file, it has no list {name!r}; give a json file with images, "
                "annotations and categories"
            )
    for name in ("images", "categories"):
        if not document[name]:
            raise DataError(f"{path}: its list of {name} is empty; give a file with {name}")
    return document


def _image(
    path: Path, entry: dict, annotations: list[dict], labels: dict[int, int], *, masks: bool
) -> CocoImage:
    size = (entry["width"], entry["height"])
    objects = no_objects(image_id=entry["id"], size=size, masks=False)
    if annotations:
        areas = [each.get("area") for each in annotations]
        boxes = np.array([corners(each["bbox"], size) for each in annotations], np.float32)
        of_boxes = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1).tolist()
        objects = Objects(
            boxes=boxes,
            labels=np.array([labels[each["category_id"]] for each in annotations], np.int64),
            masks=None,
            crowd=np.array([bool(each.get("iscrowd", 0)) for each in annotations]),
            area=np.array(
                [of_box if area is None else area for area, of_box in zip(areas, of_boxes, strict=True)],
                np.float32,
            ),
            image_id=entry["id"],
        )
    return CocoImage(
        path=path,
        size=size,
        objects=objects,
        annotation_ids=tuple(each["id"] for each in annotations),
        segmentations=tuple(each["segmentation"] for each in annotations) if masks else None,
        unmeasured=np.array([each.get("area") is None for each in annotations], bool),
    )


def _named(number: int, image: dict) -> str:
    return f"annotation {number} of image {image['id']} ({image['file_name']})"
