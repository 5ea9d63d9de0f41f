"""What may be wrong with annotations, in words with the remedy.

Readers of every format bring them into COCO's form first, so that all are held to the same rules.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from reprlib import repr as brief
from typing import Any

from crosshead.tasks.task import DataError

# Pixels: float32 tells the corners of a thinner box apart in small images only.
THINNEST = 1e-3
# A box or polygon may reach outside its image by this fraction of the side: annotators draw beyond the
# border, and farther out lies only what has the wrong scale or order of coordinates.
OVERSHOOT = 0.05
EMPTY_MASK = "empty mask; draw it or leave the annotation out"
# Pillow takes a larger image for a decompression bomb.
MOST_PIXELS = 178_956_970


def unique_entries(
    entries: list, kind: str, path: Path, fault_of: Callable[[dict], str | None], findings: list[str]
) -> dict[int, dict]:
    """The sound entries of a list of a COCO file by their ids, in their order.

    Args:
        entries: the list.
        kind: what an entry is called in messages.
        path: the file, for messages.
        fault_of: says what is wrong with an entry, or None.
        findings: receives a line for each entry that is not sound, or whose id occurs before.

    Raises:
        DataError: if all ids are texts: nothing could be read then.

    Example:
        >>> findings = []
        >>> unique_entries([{"id": 1}, {"id": 1}], "image", Path("a.json"), lambda entry: None, findings)
        {1: {'id': 1}}
        >>> findings
        ['a.json: image 1 is there twice; give each its own id']
    """
    ids = [entry.get("id") for entry in entries if isinstance(entry, dict)]
    if ids and all(isinstance(number, str) for number in ids):
        raise DataError(
            f"{path}: ids of {kind} entries are texts, such as {brief(ids[0])}, and COCO has integers; "
            "number them, here and where they are referred to"
        )
    unique: dict[int, dict] = {}
    for position, entry in enumerate(entries):
        number = entry.get("id") if isinstance(entry, dict) else None
        if type(number) is not int or abs(number) > sys.maxsize:
            findings.append(f"{path}: {kind} at position {position}: id is {brief(number)}; give an integer")
        elif number in unique:
            findings.append(f"{path}: {kind} {number} is there twice; give each its own id")
        elif fault := fault_of(entry):
            findings.append(f"{path}: {kind} {number}: {fault}")
        else:
            unique[number] = entry
    return unique


def category_fault(entry: dict) -> str | None:
    """What is wrong with a category, or None.

    Example:
        >>> category_fault({"id": 1, "name": None})
        'name is None; give a text'
    """
    name = entry.get("name")
    return None if isinstance(name, str) and name else f"name is {brief(name)}; give a text"


def image_fault(entry: dict) -> str | None:
    """What is wrong with the entry of an image, or None; its file is not looked for.

    Both sides may be missing: they are those of the file then.

    Example:
        >>> image_fault({"id": 1, "file_name": "1.jpg", "width": 0, "height": 4})
        '1.jpg: width is 0; give it in pixels, or leave both sides out'
    """
    name = entry.get("file_name")
    if not isinstance(name, str) or not name or "\0" in name or max(map(len, name.split("/"))) > 255:
        return f"file_name is {brief(name)}; give the name of an image file"
    width, height = entry.get("width"), entry.get("height")
    if width is None and height is None:
        return None
    for side, value in (("width", width), ("height", height)):
        if type(value) is not int or value < 1:
            return f"{name}: {side} is {brief(value)}; give it in pixels, or leave both sides out"
    assert width is not None
    assert height is not None
    if width * height > MOST_PIXELS:
        return f"{name}: {brief(width)} x {brief(height)} pixels, more than can be opened; cut it up"
    return None


def object_faults(entry: dict, size: tuple[int, int], *, masks: bool) -> Iterator[str]:
    """All that is wrong with an annotation by itself.

    Args:
        entry: the annotation.
        size: width and height of its image in pixels.
        masks: whether it needs a mask.

    Example:
        >>> list(object_faults({"bbox": [0, 0, 9, 4]}, (6, 4), masks=False))
        ['box [0, 0, 9, 4] reaches outside the image of 6 x 4 pixels by more than 5%; correct it']
    """
    box, (width, height) = entry.get("bbox"), size
    if not isinstance(box, list) or len(box) != 4 or not all(map(is_number, box)):
        yield f"box is {brief(box)}; give [left, top, width, height], four finite numbers"
    elif box[2] <= 0 or box[3] <= 0:
        yield f"box {brief(box)} has no area; draw it or leave the annotation out"
    elif overshoot(box, size, most=OVERSHOOT):
        yield (
            f"box {brief(box)} reaches outside the image of {width} x {height} pixels by more than "
            f"{OVERSHOOT:.0%}; correct it"
        )
    else:
        left, top, right, bottom = corners(box, size)
        if right - left < THINNEST or bottom - top < THINNEST:
            yield (
                f"box {box} has no area within the image of {width} x {height} pixels; correct it or leave "
                "the annotation out"
            )
    area = entry.get("area")
    if area is not None and (not is_number(area) or not 0 <= area <= MOST_PIXELS):
        yield f"area is {brief(area)}; give it in pixels, or leave it out"
    if entry.get("iscrowd", 0) not in (0, 1):
        yield f"iscrowd is {brief(entry['iscrowd'])}; give 0 or 1"
    if masks and (fault := segmentation_fault(entry.get("segmentation"), size=size)):
        yield fault


def overshoot(box: list, size: tuple[int, int], *, most: float = 0.0) -> bool:
    """Whether a box (left, top, width, height) reaches outside its image (width, height).

    Args:
        box: the box.
        size: of the image.
        most: by more than this fraction of a side; a pixel is rounding, and allowed always.

    Example:
        >>> overshoot([2, -0.5, 3, 3], (6, 4)), overshoot([2, -1.5, 3, 3], (6, 4))
        (False, True)
    """
    left, top, width, height = box
    return any(
        low < -max(1, most * side) or high > side + max(1, most * side)
        for low, high, side in ((left, left + width, size[0]), (top, top + height, size[1]))
    )


def corners(box: list, size: tuple[int, int]) -> list[float]:
    """Left, top, right and bottom of a box (left, top, width, height), clipped to its image (width, height).

    Example:
        >>> corners([2, -0.5, 3, 3], (6, 4))
        [2, 0, 5, 2.5]
    """
    left, top, width, height = box
    return [
        min(max(value, 0), side)
        for value, side in zip((left, top, left + width, top + height), (*size, *size), strict=True)
    ]


def segmentation_fault(segmentation: Any, *, size: tuple[int, int]) -> str | None:
    """What is wrong with the mask of an object, or None, as far as it shows without decoding it.

    Args:
        segmentation: as COCO writes it: a list of polygons, each `[x, y, x, y, ...]` in pixels; or run
            lengths `{"size": [height, width], "counts": ...}`, column by column, as a list or as COCO's
            compressed string.
        size: width and height of the image in pixels.

    Example:
        >>> segmentation_fault([[0, 0, 4, 0]], size=(8, 8))
        'polygon of 2 points; give three or more'
        >>> segmentation_fault({"size": [4, 8], "counts": [0, 32]}, size=(8, 8))
        'mask of 8 x 4 pixels in an image of 8 x 8; correct its size'
    """
    if isinstance(segmentation, list):
        if not segmentation:
            return EMPTY_MASK
        return next(filter(None, (_polygon_fault(polygon, size) for polygon in segmentation)), None)
    if isinstance(segmentation, dict):
        return _runs_fault(segmentation, size)
    if segmentation is None:
        return "no mask; draw one, or train boxes alone (crosshead train detect)"
    return f"segmentation is {brief(segmentation)}; give polygons or run lengths"


def is_number(value: Any) -> bool:
    """Whether a value of a json file is a finite number that a float can hold; true and false are not.

    Example:
        >>> is_number(3), is_number(True), is_number(float("nan")), is_number(10**400)
        (True, False, False, False)
    """
    return isinstance(value, int | float) and type(value) is not bool and abs(value) <= sys.float_info.max


def _polygon_fault(polygon: Any, size: tuple[int, int]) -> str | None:
    if not isinstance(polygon, Sequence) or isinstance(polygon, str):
        return f"polygon is {brief(polygon)}; give a list [x, y, x, y, ...]"
    if not all(map(is_number, polygon)):
        return "polygon with a coordinate that is not a finite number; correct it"
    if len(polygon) % 2:
        return f"polygon of {len(polygon)} coordinates; give an x and a y for each point"
    if len(polygon) < 6:
        return f"polygon of {len(polygon) // 2} points; give three or more"
    # Far coordinates would take the codec forever: it walks along the edges.
    for values, side in ((polygon[::2], size[0]), (polygon[1::2], size[1])):
        margin = max(1, OVERSHOOT * side)
        if min(values) < -margin or max(values) > side + margin:
            return f"polygon reaches outside the image of {size[0]} x {size[1]} pixels; correct it"
    return None


def _runs_fault(segmentation: dict, size: tuple[int, int]) -> str | None:
    shape, counts, pixels = segmentation.get("size"), segmentation.get("counts"), size[0] * size[1]
    if not isinstance(shape, list) or len(shape) != 2 or not all(map(is_number, shape)):
        return f"mask of size {brief(shape)}; give [height, width]"
    height, width = shape
    if (width, height) != size:
        seen, wanted = f"{brief(width)} x {brief(height)}", f"{size[0]} x {size[1]}"
        return f"mask of {seen} pixels in an image of {wanted}; correct its size"
    if isinstance(counts, str):
        return None
    if not isinstance(counts, list):
        return f"mask with counts {brief(counts)}; give a list of run lengths or COCO's compressed string"
    if not all(type(count) is int and 0 <= count <= pixels for count in counts):
        return f"mask with a run length that is not a whole number from 0 to {pixels} pixels; correct it"
    if sum(counts) != pixels:
        return f"mask with run lengths of {sum(counts)} pixels, not {pixels}; correct them"
    return None
