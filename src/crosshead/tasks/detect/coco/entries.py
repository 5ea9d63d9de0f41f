from collections.abc import Callable, Iterator
from pathlib import Path

from crosshead.tasks.detect.coco.masks import is_number, segmentation_fault

# Pixels: float32 tells the corners of a thinner box apart in small images only.
THINNEST = 1e-3
# Pillow takes a larger image for a decompression bomb.
MOST_PIXELS = 178_956_970


def unique_entries(
    entries: list, kind: str, path: Path, fault_of: Callable[[dict], str | None], findings: list[str]
) -> dict[int, dict]:
    """Keep the sound entries of a list of a COCO file.

    Args:
        entries: The list.
        kind: What an entry is called in messages.
        path: The file, for messages.
        fault_of: Says what is wrong with an entry, or None.
        findings: Receives a line for each entry that is not sound, or whose id is there before.

    Returns:
        The entries by their ids, in their order.

    Example:
        >>> findings = []
        >>> unique_entries([{"id": 1}, {"id": 1}], "image", Path("a.json"), lambda entry: None, findings)
        {1: {'id': 1}}
        >>> findings
        ['a.json: image 1 is there twice; give each its own id']
    """
    unique: dict[int, dict] = {}
    for position, entry in enumerate(entries):
        number = entry.get("id") if isinstance(entry, dict) else None
        if type(number) is not int:
            findings.append(f"{path}: {kind} at position {position}: id is {number!r:.40}; give an integer")
        elif number in unique:
            findings.append(f"{path}: {kind} {number} is there twice; give each its own id")
        elif fault := fault_of(entry):
            findings.append(f"{path}: {kind} {number}: {fault}")
        else:
            unique[number] = entry
    return unique


def category_fault(entry: dict) -> str | None:
    """Say what is wrong with a category, or None.

    Example:
        >>> category_fault({"id": 1, "name": None})
        'name is None; give a text'
    """
    name = entry.get("name")
    return None if isinstance(name, str) and name else f"name is {name!r:.40}; give a text"


def image_fault(entry: dict) -> str | None:
    """Say what is wrong with the entry of an image, or None; its file is not looked for.

    Example:
        >>> image_fault({"id": 1, "file_name": "1.jpg", "width": 0, "height": 4})
        '1.jpg: width is 0; give it in pixels'
    """
    name = entry.get("file_name")
    if not isinstance(name, str) or not name or "\0" in name:
        return f"file_name is {name!r:.40}; give the name of an image file"
    for side in ("width", "height"):
        if type(entry.get(side)) is not int or entry[side] < 1:
            return f"{name}: {side} is {entry.get(side)!r:.40}; give it in pixels"
    if entry["width"] * entry["height"] > MOST_PIXELS:
        return f"{name}: {entry['width']} x {entry['height']} pixels, more than can be opened; cut it up"
    return None


def object_faults(entry: dict, size: tuple[int, int], *, masks: bool) -> Iterator[str]:
    """Say all that is wrong with an annotation by itself.

    Args:
        entry: The annotation.
        size: Width and height of its image in pixels.
        masks: Whether it needs a mask.

    Yields:
        What is wrong and the remedy.

    Example:
        >>> list(object_faults({"bbox": [0, 0, 9, 4]}, (6, 4), masks=False))
        ['box [0, 0, 9, 4] reaches outside the image of 6 x 4 pixels; clip it']
    """
    box, (width, height) = entry.get("bbox"), size
    if not isinstance(box, list) or len(box) != 4 or not all(map(is_number, box)):
        yield f"box is {box!r:.80}; give [left, top, width, height], four finite numbers"
    elif box[2] <= 0 or box[3] <= 0:
        yield f"box {box} has no area; draw it or delete the annotation"
    elif box[0] < -1 or box[1] < -1 or box[0] + box[2] > width + 1 or box[1] + box[3] > height + 1:
        yield f"box {box} reaches outside the image of {width} x {height} pixels; clip it"
    elif not _has_area(corners(box, size)):
        yield f"box {box} has no area within the image of {width} x {height} pixels; delete the annotation"
    area = entry.get("area")
    if area is not None and (not is_number(area) or area < 0):
        yield f"area is {area!r:.40}; give it in pixels, or leave it out"
    if entry.get("iscrowd", 0) not in (0, 1):
        yield f"iscrowd is {entry['iscrowd']!r:.40}; give 0 or 1"
    if masks and (fault := segmentation_fault(entry.get("segmentation"), size=size)):
        yield fault


def corners(box: list, size: tuple[int, int]) -> list[float]:
    """The corners of a box, clipped to its image.

    Args:
        box: Left, top, width and height in pixels.
        size: Width and height of the image in pixels.

    Returns:
        Left, top, right and bottom.

    Example:
        >>> corners([2, -0.5, 3, 3], (6, 4))
        [2, 0, 5, 2.5]
    """
    left, top, width, height = box
    return [
        min(max(value, 0), side)
        for value, side in zip((left, top, left + width, top + height), (*size, *size), strict=True)
    ]


def _has_area(box: list[float]) -> bool:
    left, top, right, bottom = box
    return right - left >= THINNEST and bottom - top >= THINNEST
