import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from faster_coco_eval.core import mask as codec

from crosshead.tasks.task import DataError


def segmentation_fault(segmentation: Any, *, size: tuple[int, int]) -> str | None:
    """Say what is wrong with the mask of an object, as far as it shows without decoding it.

    Args:
        segmentation: As COCO writes it: a list of polygons, each `[x, y, x, y, ...]` in pixels; or run
            lengths `{"size": [height, width], "counts": ...}`, column by column, as a list or as COCO's
            compressed string.
        size: Width and height of the image in pixels.

    Returns:
        What is wrong and the remedy, or None.

    Example:
        >>> segmentation_fault([[0, 0, 4, 0]], size=(8, 8))
        'polygon of 2 points; give three or more'
        >>> segmentation_fault({"size": [4, 8], "counts": [0, 32]}, size=(8, 8))
        'mask of 8 x 4 pixels in an image of 8 x 8; correct its size'
    """
    if isinstance(segmentation, list):
        if not segmentation:
            return "empty mask; draw it or delete the annotation"
        return next(filter(None, (_polygon_fault(polygon, size) for polygon in segmentation)), None)
    if isinstance(segmentation, dict):
        return _runs_fault(segmentation, size)
    if segmentation is None:
        return "no segmentation; add one, or load boxes alone (masks=False)"
    return f"segmentation is {segmentation!r:.40}; give polygons or run lengths"


def decode_mask(segmentation: Any, *, size: tuple[int, int]) -> np.ndarray:
    """Paint the mask of an object.

    Polygons and both kinds of run lengths are read by faster-coco-eval, as the evaluation reads them.

    Args:
        segmentation: As in `segmentation_fault`, which must have found nothing.
        size: Width and height of the image in pixels.

    Returns:
        uint8, (height, width), 1 inside.

    Raises:
        DataError: When the run lengths are damaged or do not fill the image, or no pixel is inside.

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


def is_number(value: Any) -> bool:
    """Whether a value of a json file is a finite number; true and false are none.

    Example:
        >>> is_number(3), is_number(True), is_number(float("nan"))
        (True, False, False)
    """
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _polygon_fault(polygon: Any, size: tuple[int, int]) -> str | None:
    if not isinstance(polygon, Sequence) or isinstance(polygon, str):
        return f"polygon is {polygon!r:.40}; give a list [x, y, x, y, ...]"
    if not all(map(is_number, polygon)):
        return "polygon with a coordinate that is no finite number; correct it"
    if len(polygon) % 2:
        return f"polygon of {len(polygon)} coordinates; give an x and a y for each point"
    if len(polygon) < 6:
        return f"polygon of {len(polygon) // 2} points; give three or more"
    # Far coordinates would take the codec forever: it walks along the edges.
    for values, side in ((polygon[::2], size[0]), (polygon[1::2], size[1])):
        if min(values) < -1 or max(values) > side + 1:
            return f"polygon reaches outside the image of {size[0]} x {size[1]} pixels; clip it"
    return None


def _runs_fault(segmentation: dict, size: tuple[int, int]) -> str | None:
    shape, counts = segmentation.get("size"), segmentation.get("counts")
    if not isinstance(shape, list) or len(shape) != 2 or not all(map(is_number, shape)):
        return f"mask of size {shape!r:.40}; give [height, width]"
    if (shape[1], shape[0]) != size:
        return (
            f"mask of {shape[1]} x {shape[0]} pixels in an image of {size[0]} x {size[1]}; correct its size"
        )
    if isinstance(counts, str):
        return None
    if not isinstance(counts, list):
        return f"mask with counts {counts!r:.40}; give a list of run lengths or COCO's compressed string"
    if not all(type(count) is int and count >= 0 for count in counts):
        return "mask with a run length that is no whole number of pixels; correct it"
    if sum(counts) != size[0] * size[1]:
        return f"mask with run lengths of {sum(counts)} pixels, not {size[0] * size[1]}; correct them"
    return None
