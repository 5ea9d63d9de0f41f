import numpy as np
import pytest

from crosshead.tasks.detect.annotated import AnnotatedImages, decode_mask
from crosshead.tasks.detect.coco.layout import find_coco
from crosshead.tasks.detect.coco.read import read_coco
from crosshead.tasks.detect.faults import segmentation_fault
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


@pytest.mark.parametrize("counts", ["", "~~~~", "2", "é", "oooooooooooooooooooooooo", COMPRESSED * 3])
def test_damaged_compressed_runs_are_refused(counts):
    with pytest.raises(DataError, match="mask cannot be decoded"):
        decode_mask({"size": [4, 6], "counts": counts}, size=(6, 4))


@pytest.mark.parametrize("segmentation", [{"size": [4, 6], "counts": [24]}, [[1, 1, 1, 1, 1, 1]]])
def test_a_mask_without_a_pixel_is_refused(segmentation):
    assert segmentation_fault(segmentation, size=(6, 4)) is None
    with pytest.raises(DataError, match="empty mask; draw it or leave the annotation out"):
        decode_mask(segmentation, size=(6, 4))


LEFT = [[0, 0, 2, 0, 2, 4, 0, 4]]
COLUMN = {"size": [4, 6], "counts": [20, 4]}
LETTERS = {"size": [4, 6], "counts": "238O0O"}


@pytest.fixture
def images(write_coco, coco_document):
    document = coco_document(
        {"segmentation": LEFT, "area": 7},
        {"segmentation": COLUMN, "iscrowd": 1},
        {"segmentation": LETTERS, "category_id": 7},
    )
    file = read_coco(find_coco(write_coco(document))["train"], masks=True)
    return AnnotatedImages(file, masks=True, in_chans=3)


def test_masks_of_every_kind_lie_in_the_order_of_the_boxes(images):
    _, objects = images[0]
    expected = np.zeros((3, 4, 6), np.uint8)
    expected[0, :, :2] = 1
    expected[1, :, 5] = 1
    expected[2][[2, 3, 0, 1, 2, 3], [0, 0, 1, 3, 3, 5]] = 1
    assert np.array_equal(objects.masks, expected)
    assert (objects.masks.dtype, objects.masks.flags.c_contiguous) == (np.uint8, True)
    assert objects.crowd.tolist() == [False, True, False]


def test_an_area_that_is_not_given_is_the_masks(images):
    assert images[0][1].area.tolist() == [7, 4, 6]


def test_image_and_objects_can_be_had_alone(images):
    image, objects = images[0]
    assert images.image(0) == image
    assert np.array_equal(images.objects(0).masks, objects.masks)


def test_nothing_is_found_in_sound_images(images):
    assert list(images.findings(0)) == []


def test_an_index_beyond_the_end_is_an_index_error(images):
    with pytest.raises(IndexError):
        images[1]
