"""Annotations in COCO format: what a json file says.

Source: the format is that of T.-Y. Lin et al., "Microsoft COCO: common objects in context", arXiv 1405.0312.
"""

import json
from collections import defaultdict
from pathlib import Path
from reprlib import repr as brief

from crosshead.tasks.detect.annotated import Annotations, Listed, annotate
from crosshead.tasks.detect.coco.layout import LISTS, CocoPlace, choose_folder
from crosshead.tasks.detect.faults import category_fault, image_fault, unique_entries
from crosshead.tasks.images import image_size
from crosshead.tasks.splits import find_file
from crosshead.tasks.task import DataError


def read_coco(place: CocoPlace, *, masks: bool) -> Annotations:
    """Reads a file of annotations, and checks all that shows without decoding an image or a mask.

    The placeholder that Roboflow writes as the parent of all categories is left out where nothing is of it.
    The size of an image that the file does not give is that of the image file.

    Args:
        place: the file, and where its images may lie.
        masks: whether objects need masks; without, masks are not looked at.

    Returns:
        What is sound, and what is wrong with the rest.

    Raises:
        DataError: if the file cannot be read or is not json in COCO format, its ids are texts, or none of
            its images is found.

    Example:
        >>> read_coco(CocoPlace(path=Path("none.json"), folders=()), masks=False)
        Traceback (most recent call last):
            ...
        crosshead.tasks.task.DataError: none.json: cannot be read (No such file or directory); check the file
    """
    document, findings = _read_json(place.path), []
    categories = unique_entries(document["categories"], "category", place.path, category_fault, findings)
    images = unique_entries(document["images"], "image", place.path, image_fault, findings)
    annotations = unique_entries(document["annotations"], "annotation", place.path, lambda _: None, findings)

    of_image: dict[int, list[tuple[int, dict]]] = defaultdict(list)
    for number, entry in annotations.items():
        for kind, known in (("image", images), ("category", categories)):
            target = entry.get(f"{kind}_id")
            if type(target) is not int or target not in known:
                findings.append(
                    f"{place.path}: annotation {number}: no {kind} has its {kind}_id {brief(target)}; "
                    "correct it or leave the annotation out"
                )
                break
        else:
            of_image[entry["image_id"]].append((number, entry))
    names = {number: entry["name"] for number, entry in categories.items()}
    used = {entry["category_id"] for entries in of_image.values() for _, entry in entries}
    for number in _placeholders(categories) - used:
        del names[number]
    listed = _find_images(place, images, of_image, findings)
    return annotate(place.path, names, listed, masks=masks, findings=findings)


def _find_images(
    place: CocoPlace,
    images: dict[int, dict],
    of_image: dict[int, list[tuple[int, dict]]],
    findings: list[str],
) -> list[Listed]:
    folder = (
        choose_folder(place, [entry["file_name"] for entry in images.values()][:20]) if images else Path()
    )
    listed, owners = [], {}
    for number, entry in images.items():
        name = entry["file_name"]
        path = find_file(name, folder)
        if path is None:
            findings.append(
                f"{folder / name}: no such image file, though {place.path} lists it as image {number}; "
                "put it there or take its entry out"
            )
        elif owners.setdefault(path, number) != number:
            findings.append(
                f"{place.path}: image {number} ({name}) is the file of image {owners[path]} as well; give "
                "each image one entry"
            )
        else:
            try:
                size = (entry["width"], entry["height"]) if entry.get("width") else image_size(path)
            except DataError as error:
                findings.append(str(error))
                continue
            around = f"{place.path}: annotation ", f" of image {number} ({name})"
            listed.append(
                Listed(path=path, size=size, image_id=number, place=around, annotations=of_image[number])
            )
    return listed


def _placeholders(categories: dict[int, dict]) -> set[int]:
    """The categories without a supercategory that are the one of all others, as Roboflow writes one."""
    return {
        number
        for number, entry in categories.items()
        if entry.get("supercategory") == "none"
        and len(categories) > 1
        and all(
            other.get("supercategory") == entry["name"]
            for place, other in categories.items()
            if place != number
        )
    }


def _read_json(path: Path) -> dict[str, list]:
    try:
        document = json.loads(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check the file") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not json ({error}); get the file again") from error
    for name in LISTS:
        if not isinstance(document, dict) or not isinstance(document.get(name), list):
            raise DataError(
                f"{path}: not a COCO file, it has no list {name!r}; give a json file with images, "
                "annotations and categories"
            )
    for name in ("images", "categories"):
        if not document[name]:
            raise DataError(f"{path}: its list of {name} is empty; give a file with {name}")
    return document
