from typing import Any

import numpy as np
import pytest

from crosshead.tasks.detect.coco.objects import load_coco

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
    splits: Any = load_coco(write_coco(document), masks=True)
    return splits.train


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
