import numpy as np
import pytest

from crosshead.tasks.detect.coco.masks import decode_mask, is_number, segmentation_fault
from crosshead.tasks.task import DataError

# Column by column: two pixels out, three in, and so on.
MASK = np.array([[0, 1, 0, 0, 0, 0], [0, 0, 0, 1, 0, 0], [1, 0, 0, 1, 0, 0], [1, 0, 0, 0, 0, 1]], np.uint8)
RUNS = [2, 3, 8, 2, 8, 1]
# Each run in COCO's alphabet; from the fourth on, its difference to the run before the last.
COMPRESSED = "238O0O"


def drawn(*rows):
    return np.array([[int(letter == "#") for letter in row] for row in rows], np.uint8)


def test_uncompressed_runs_go_column_by_column():
    assert np.array_equal(decode_mask({"size": [4, 6], "counts": RUNS}, size=(6, 4)), MASK)


def test_compressed_runs_give_the_same_mask():
    mask = decode_mask({"size": [4, 6], "counts": COMPRESSED}, size=(6, 4))
    assert np.array_equal(mask, MASK)
    assert (mask.dtype, mask.flags.c_contiguous) == (np.uint8, True)


def test_a_mask_may_begin_inside_and_fill_its_image():
    assert decode_mask({"size": [4, 6], "counts": [0, 24]}, size=(6, 4)).all()


@pytest.mark.parametrize(
    ("polygons", "expected"),
    [
        ([[1, 1, 4, 1, 4, 3, 1, 3]], ("......", ".###..", ".###..", "......")),
        ([[0, 0, 2, 0, 2, 2, 0, 2], [4, 2, 6, 2, 6, 4, 4, 4]], ("##....", "##....", "....##", "....##")),
        ([[-1, -1, 7, -1, 7, 5, -1, 5]], ("######",) * 4),
    ],
)
def test_polygons_are_filled_and_parts_belong_to_one_object(polygons, expected):
    assert segmentation_fault(polygons, size=(6, 4)) is None
    assert np.array_equal(decode_mask(polygons, size=(6, 4)), drawn(*expected))


@pytest.mark.parametrize(
    ("segmentation", "words"),
    [
        (None, "no segmentation; add one, or load boxes alone (masks=False)"),
        ([], "empty mask"),
        ("text", "segmentation is 'text'; give polygons or run lengths"),
        ([[1, 1, 2, 2]], "polygon of 2 points; give three or more"),
        ([[1, 1, 4, 1, 4, 3], [1, 1]], "polygon of 1 points"),
        ([[1, 1, 4, 1, 4, 3, 1]], "polygon of 7 coordinates; give an x and a y"),
        ([1, 1, 4, 1, 4, 3], "polygon is 1; give a list"),
        ([[1, 1, 4, float("nan"), 4, 3]], "no finite number"),
        ([[1, 1, 4, "1", 4, 3]], "no finite number"),
        ([[1, 1, 7.5, 1, 4, 3]], "polygon reaches outside the image of 6 x 4 pixels; clip it"),
        ([[1, 1, 5, 1, 5, 1e12]], "polygon reaches outside"),
        ({"size": [6, 4], "counts": RUNS}, "mask of 4 x 6 pixels in an image of 6 x 4; correct its size"),
        ({"counts": RUNS}, "mask of size None; give [height, width]"),
        ({"size": [4, 6]}, "mask with counts None"),
        ({"size": [4, 6], "counts": [2, -3, 25]}, "a run length that is no whole number"),
        ({"size": [4, 6], "counts": [2, 3.5, 18.5]}, "a run length that is no whole number"),
        ({"size": [4, 6], "counts": [2, 3]}, "mask with run lengths of 5 pixels, not 24"),
    ],
)
def test_what_is_wrong_is_said_with_the_remedy(segmentation, words):
    assert words in str(segmentation_fault(segmentation, size=(6, 4)))


@pytest.mark.parametrize("counts", ["", "~~~~", "2", "é", "oooooooooooooooooooooooo", COMPRESSED * 3])
def test_damaged_compressed_runs_are_refused(counts):
    with pytest.raises(DataError, match="mask cannot be decoded"):
        decode_mask({"size": [4, 6], "counts": counts}, size=(6, 4))


@pytest.mark.parametrize("segmentation", [{"size": [4, 6], "counts": [24]}, [[1, 1, 1, 1, 1, 1]]])
def test_a_mask_without_a_pixel_is_refused(segmentation):
    assert segmentation_fault(segmentation, size=(6, 4)) is None
    with pytest.raises(DataError, match="empty mask; draw it or delete the annotation"):
        decode_mask(segmentation, size=(6, 4))


@pytest.mark.parametrize("value", [True, None, "1", float("inf"), [1]])
def test_what_is_no_finite_number(value):
    assert not is_number(value)
