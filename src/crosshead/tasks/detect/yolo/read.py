"""Labels in YOLO format: numbers between 0 and 1, made boxes and polygons in pixels."""

from pathlib import Path

from crosshead.tasks.detect.annotated import Annotations, Listed, annotate
from crosshead.tasks.detect.yolo.layout import YoloPlace
from crosshead.tasks.images import image_size
from crosshead.tasks.task import DataError

BOX_FIELDS = 5
# Of a class and three points.
FEWEST_POLYGON_FIELDS = 7


def read_yolo(place: YoloPlace, *, masks: bool) -> Annotations:
    """Reads the label files of a split.

    A line is `class x y width height`, the centre and the sides of a box, or `class x1 y1 x2 y2 x3 y3 ...`,
    a polygon, all as fractions of the sides of the image. An empty label file, or none, is an image without
    objects. Sizes are those of the image files.

    Args:
        place: the files.
        masks: whether objects need masks; without, the box around a polygon counts.

    Returns:
        What is sound, and what is wrong with the rest, by file and line.

    Raises:
        DataError: if a text file is not readable.
    """
    findings, faulty, listed = list(place.findings), [], []
    for number, (image, label) in enumerate(zip(place.images, place.labels, strict=True), start=1):
        try:
            size = image_size(image)
        except DataError as error:
            findings.append(str(error))
            continue
        entries: list[tuple[int, dict]] = []
        for line, fields in _lines(label):
            try:
                entries.append((line, parse_line(fields, size=size, place=place)))
            except ValueError as error:
                faulty.append(f"{label}: line {line}: {error}")
        around = f"{label}: line ", ""
        listed.append(Listed(path=image, size=size, image_id=number, place=around, annotations=entries))
    categories = dict(enumerate(place.classes))
    return annotate(place.path, categories, listed, masks=masks, findings=findings, faulty=faulty)


def parse_line(fields: list[str], *, size: tuple[int, int], place: YoloPlace) -> dict:
    """What a line of a label file says, as COCO writes it.

    Args:
        fields: of the line.
        size: width and height of the image in pixels.
        place: knows the classes.

    Raises:
        ValueError: if there is a wrong number of fields, one that is no number, or a class that has no name.

    Example:
        >>> place = YoloPlace(path=Path("data.yaml"), classes=("cat",), images=[], labels=[])
        >>> parse_line(["0", "0.5", "0.5", "0.5", "0.25"], size=(8, 16), place=place)
        {'category_id': 0, 'bbox': [2.0, 6.0, 4.0, 4.0]}
    """
    count = len(fields)
    if count != BOX_FIELDS and (count < FEWEST_POLYGON_FIELDS or count % 2 == 0):
        raise ValueError(
            f"{count} fields; a box has 5 (class, x, y, width, height), and a polygon the class and an x and "
            "a y for each of three or more points"
        )
    try:
        number, *values = (float(value) for value in fields)
    except ValueError:
        wrong = next(value for value in fields if not _is_number(value))
        raise ValueError(f"{wrong!r} is not a number; correct it") from None
    if number not in range(len(place.classes)):
        known = f"{place.path.name} names the classes 0..{len(place.classes) - 1}"
        raise ValueError(f"class {fields[0]}, and {known}; correct it, or name more classes")
    width, height = size
    if count == BOX_FIELDS:
        x, y, w, h = values
        box = [(x - w / 2) * width, (y - h / 2) * height, w * width, h * height]
        return {"category_id": int(number), "bbox": box}
    polygon = [value * side for value, side in zip(values, size * (len(values) // 2), strict=True)]
    left, top = min(polygon[::2]), min(polygon[1::2])
    box = [left, top, max(polygon[::2]) - left, max(polygon[1::2]) - top]
    return {"category_id": int(number), "bbox": box, "segmentation": [polygon]}


def _lines(path: Path) -> list[tuple[int, list[str]]]:
    if not path.exists():
        return []
    if not path.is_file():
        raise DataError(f"{path}: not a regular file; put a label file in its place, or leave it out")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not readable as text ({error}); save it as UTF-8") from error
    return [(number, line.split()) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
