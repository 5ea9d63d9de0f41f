import pickle

import numpy as np
import pytest

from crosshead.tasks.dense_splits import Objects
from crosshead.tasks.detect.coco.file import no_objects
from crosshead.tasks.detect.coco.objects import load_coco
from crosshead.tasks.segment.labels.semantic import paint_labels, semantic_from_coco

LEFT = [[0, 0, 3, 0, 3, 4, 0, 4]]
INNER = [[1, 1, 2, 1, 2, 3, 1, 3]]
RIGHT = [[4, 0, 6, 0, 6, 4, 4, 4]]
LOWER = [[0, 2, 6, 2, 6, 4, 0, 4]]


def objects_of(masks, labels, crowd):
    number = len(masks)
    return Objects(
        boxes=np.zeros((number, 4), np.float32),
        labels=np.array(labels),
        masks=np.array(masks, np.uint8),
        crowd=np.array(crowd),
        area=np.ones(number, np.float32),
        image_id=1,
    )


def test_masks_are_painted_with_the_labels_of_the_classes(write_coco, coco_document):
    document = coco_document(
        {"segmentation": INNER, "category_id": 7},
        {"segmentation": LEFT, "category_id": 3},
        {"segmentation": RIGHT, "category_id": 7},
        {"segmentation": LOWER, "category_id": 3, "iscrowd": 1},
    )
    found = load_coco(write_coco(document), masks=True)
    splits = semantic_from_coco(found)
    image, labels = pickle.loads(pickle.dumps(splits.train))[0]
    assert labels.tolist() == [
        [1, 1, 1, 0, 2, 2],
        [1, 2, 1, 0, 2, 2],
        [1, 2, 1, 255, 2, 2],
        [1, 1, 1, 255, 2, 2],
    ]
    assert (labels.dtype, image.size) == (np.uint8, (6, 4))
    assert (splits.classes, splits.ignore_index) == (("background", "cat", "dog"), 255)
    assert (splits.in_chans, splits.mean, splits.std) == (found.in_chans, found.mean, found.std)
    assert (splits.min_size, splits.max_size) == (4, 6)
    assert splits.test[0][1].tolist() == np.zeros((4, 6)).tolist()


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 1, 0], [1, 2, 0]])
def test_the_order_of_the_file_does_not_matter(order):
    masks = np.array([[[1, 1, 1, 1]], [[0, 1, 1, 0]], [[0, 0, 1, 0]]])[order]
    labels, crowd = np.array([1, 2, 3])[order], np.zeros(3, bool)
    assert paint_labels(objects_of(masks, labels, crowd), ignore_index=255).tolist() == [[1, 2, 3, 1]]


def test_a_crowd_hides_no_object_however_small_or_large():
    masks = [[[1, 1, 1, 0]], [[0, 1, 0, 0]], [[1, 1, 1, 1]]]
    painted = paint_labels(objects_of(masks, [4, 5, 6], [True, False, True]), ignore_index=255)
    assert painted.tolist() == [[255, 5, 255, 255]]


def test_many_classes_need_16_bits():
    painted = paint_labels(objects_of([[[1, 0]], [[0, 1]]], [300, 1], [False, True]), ignore_index=65_535)
    assert (painted.dtype, painted.tolist()) == (np.uint16, [[300, 65_535]])


def test_objects_without_masks_are_refused(write_coco, coco_document):
    with pytest.raises(ValueError, match="splits have no masks; load them with masks=True"):
        semantic_from_coco(load_coco(write_coco(coco_document({})), masks=False))
    with pytest.raises(ValueError, match="objects have no masks"):
        paint_labels(no_objects(image_id=1, size=(6, 4), masks=False), ignore_index=255)
