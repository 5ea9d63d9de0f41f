"""Images with labelled objects in COCO format: what the files say, and the data set of them.

Source: the format is that of T.-Y. Lin et al., "Microsoft COCO: common objects in context", arXiv 1405.0312.
"""

import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from reprlib import repr as brief
from typing import Any

import numpy as np
from faster_coco_eval.core import mask as codec
from PIL import Image
from torch.utils.data import Dataset

from crosshead.tasks.detect.coco.check import (
    category_fault,
    corners,
    image_fault,
    object_faults,
    unique_entries,
)
from crosshead.tasks.detect.coco.layout import CocoPlace, choose_folder
from crosshead.tasks.detect.objects import Objects, no_objects
from crosshead.tasks.images import channel_mode, read_image
from crosshead.tasks.task import DataError

# The masks of one image are an array of a byte for each object and pixel.
MOST_MASK_BYTES = 2 * 2**30


@dataclass(frozen=True, kw_only=True, eq=False)
class CocoImage:
    """One image of a file of annotations, with its objects; masks are still as the file has them.

    Attributes:
        path: the image file.
        size: width and height in pixels, as the file says.
        objects: without masks; an area that the file does not give is that of the box.
        annotation_ids: the number of each object in the file.
        segmentations: the mask of each object as the file has it, or None.
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
        path: the json file.
        categories: the name of each category by its number, in the order of the numbers.
        images: those whose entries are sound, in the order of the file, with their sound objects.
        findings: what is wrong with the file, a line each.
        faulty: what is wrong with single annotations: boxes, masks, areas; a line each.
    """

    path: Path
    categories: dict[int, str]
    images: list[CocoImage]
    findings: list[str] = field(default_factory=list)
    faulty: list[str] = field(default_factory=list)


def read_coco(place: CocoPlace, *, masks: bool) -> CocoFile:
    """Reads a file of annotations, and checks all that shows without opening an image or decoding a mask.

    Args:
        place: the file, and where its images may lie.
        masks: whether objects need masks; without, masks are not looked at.

    Returns:
        What is sound, and what is wrong with the rest.

    Raises:
        DataError: if the file cannot be read or is not json in COCO format, or none of its images is found.

    Example:
        >>> read_coco(CocoPlace(path=Path("none.json"), folders=()), masks=False)
        Traceback (most recent call last):
            ...
        crosshead.tasks.task.DataError: none.json: cannot be read (No such file or directory); check the file
    """
    document, findings, faulty = _read_json(place.path), [], []
    categories = unique_entries(document["categories"], "category", place.path, category_fault, findings)
    images = unique_entries(document["images"], "image", place.path, image_fault, findings)
    annotations = unique_entries(document["annotations"], "annotation", place.path, lambda _: None, findings)
    labels = {number: label for label, number in enumerate(sorted(categories), start=1)}
    folder = choose_folder(place, [entry["file_name"] for entry in images.values()][:20]) if images else None

    of_image: dict[int, list[dict]] = defaultdict(list)
    for number, entry in annotations.items():
        for kind, known in (("image", images), ("category", categories)):
            target = entry.get(f"{kind}_id")
            if type(target) is not int or target not in known:
                findings.append(
                    f"{place.path}: annotation {number}: no {kind} has its {kind}_id {brief(target)}; "
                    "correct or delete the annotation"
                )
                break
        else:
            image = images[entry["image_id"]]
            faults = list(object_faults(entry, (image["width"], image["height"]), masks=masks))
            named = f"annotation {number} of image {image['id']} ({image['file_name']})"
            faulty += [f"{place.path}: {named}: {fault}" for fault in faults]
            if not faults:
                of_image[image["id"]].append(entry)

    sound = []
    for number, entry in images.items():
        path, count = Path(folder or "", entry["file_name"]), len(of_image[number])
        if not path.is_file():
            findings.append(
                f"{path}: no such image file, though {place.path} lists it as image {number}; "
                "put it there or delete its entry"
            )
        elif masks and count * entry["width"] * entry["height"] > MOST_MASK_BYTES:
            findings.append(
                f"{path}: masks of {count} objects in {entry['width']} x {entry['height']} pixels need more "
                "than 2 GiB; cut the image up, or load boxes alone"
            )
        else:
            sound.append(_image(path, entry, of_image[number], labels, masks=masks))
    names = {number: categories[number]["name"] for number in sorted(categories)}
    return CocoFile(path=place.path, categories=names, images=sound, findings=findings, faulty=faulty)


class CocoImages(Dataset[tuple[Image.Image, Objects]]):
    """Images with their objects, decoded when asked for.

    Args:
        file: the file of annotations.
        masks: whether to decode masks.
        in_chans: 1 or 3, to which images are brought.
        skip_faulty: whether objects whose mask turns out to be empty or damaged are left out.
    """

    def __init__(self, file: CocoFile, *, masks: bool, in_chans: int, skip_faulty: bool = False) -> None:
        self.images, self.file = file.images, file.path
        self.masks, self.in_chans, self.skip_faulty = masks, in_chans, skip_faulty

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Image.Image, Objects]:
        """Decodes an image and its masks.

        Raises:
            DataError: if the image is unreadable or not of the size that the file says, or a mask is damaged
                or empty.
        """
        return self.image(index), self.objects(index)

    def image(self, index: int) -> Image.Image:
        """Decodes an image alone."""
        entry = self.images[index]
        image = read_image(entry.path, mode=channel_mode(self.in_chans))
        if image.size != entry.size:
            raise DataError(
                f"{entry.path}: {image.width} x {image.height} pixels, and {self.file} says "
                f"{entry.size[0]} x {entry.size[1]}; correct the one that is wrong"
            )
        return image

    def objects(self, index: int) -> Objects:
        """Decodes the objects of an image alone."""
        entry, found = self.images[index], self.images[index].objects
        if not self.masks:
            return found
        masks = np.zeros((len(found), *entry.size[::-1]), np.uint8)
        kept = np.ones(len(found), bool)
        for position in range(len(found)):
            try:
                masks[position] = self._mask(entry, position)
            except DataError:
                if not self.skip_faulty:
                    raise
                kept[position] = False
        if not kept.all():
            masks = masks[kept]
        area = np.where(entry.unmeasured[kept], masks.sum(axis=(1, 2)), found.area[kept])
        return replace(
            found,
            boxes=found.boxes[kept],
            labels=found.labels[kept],
            masks=masks,
            crowd=found.crowd[kept],
            area=area.astype(np.float32),
        )

    def findings(self, index: int) -> Iterator[str]:
        """Decodes an image and each of its masks, and lists what is wrong with them, a line each."""
        entry = self.images[index]
        try:
            self.image(index)
        except DataError as error:
            yield str(error)
        for position in range(len(entry.objects) if self.masks else 0):
            try:
                self._mask(entry, position)
            except DataError as error:
                yield str(error)

    def _mask(self, entry: CocoImage, position: int) -> np.ndarray:
        assert entry.segmentations is not None
        try:
            return decode_mask(entry.segmentations[position], size=entry.size)
        except DataError as error:
            raise DataError(
                f"{self.file}: annotation {entry.annotation_ids[position]} of image "
                f"{entry.objects.image_id} ({entry.path.name}): {error}"
            ) from error


def decode_mask(segmentation: Any, *, size: tuple[int, int]) -> np.ndarray:
    """Paints the mask of an object, as the evaluation reads it: by faster-coco-eval.

    Args:
        segmentation: polygons or run lengths in which `segmentation_fault` has found nothing.
        size: width and height of the image in pixels.

    Returns:
        uint8, (height, width), 1 inside.

    Raises:
        DataError: if the run lengths are damaged or do not fill the image, or no pixel is inside.

    Example:
        >>> decode_mask({"size": [2, 3], "counts": [1, 3, 2]}, size=(3, 2))
        array([[0, 1, 0],
               [1, 1, 0]], dtype=uint8)
    """
    width, height = size
    try:
        if isinstance(segmentation, list):
            parts: Any = codec.frPyObjects(segmentation, height, width)
            runs: Any = codec.merge(parts)
        elif isinstance(segmentation["counts"], list):
            runs = codec.frPyObjects(segmentation, height, width)
        else:
            runs = segmentation
        mask = codec.decode(runs)
    # The codec refuses damaged run lengths with either.
    except (ValueError, RuntimeError) as error:
        raise DataError(f"mask cannot be decoded ({error}); correct or delete the annotation") from error
    if not mask.any():
        raise DataError("empty mask; draw it or delete the annotation")
    return np.ascontiguousarray(mask)


def _read_json(path: Path) -> dict[str, list]:
    try:
        document = json.loads(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check the file") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not json ({error}); get the file again") from error
    for name in ("images", "annotations", "categories"):
        if not isinstance(document, dict) or not isinstance(document.get(name), list):
            raise DataError(
                f"{path}: not a COCO file, it has no list {name!r}; give a json file with images, "
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
    unmeasured = np.array([each.get("area") is None for each in annotations], bool)
    if annotations:
        boxes = np.array([corners(each["bbox"], size) for each in annotations], np.float32)
        areas = np.array([each.get("area") or 0 for each in annotations], np.float32)
        objects = Objects(
            boxes=boxes,
            labels=np.array([labels[each["category_id"]] for each in annotations], np.int64),
            masks=None,
            crowd=np.array([bool(each.get("iscrowd", 0)) for each in annotations]),
            area=np.where(unmeasured, np.prod(boxes[:, 2:] - boxes[:, :2], axis=1), areas),
            image_id=entry["id"],
        )
    return CocoImage(
        path=path,
        size=size,
        objects=objects,
        annotation_ids=tuple(each["id"] for each in annotations),
        segmentations=tuple(each["segmentation"] for each in annotations) if masks else None,
        unmeasured=unmeasured,
    )
