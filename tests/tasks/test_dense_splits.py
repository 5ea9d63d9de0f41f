import numpy as np
import pytest

from crosshead.tasks.dense_splits import DetectionSplits, Objects, SegmentationSplits, ignored_label
from crosshead.tasks.detect.coco.file import no_objects

SHARED = {"min_size": 4, "max_size": 6, "in_chans": 1, "mean": (0.5,), "std": (0.5,)}


def detection(**changes):
    fields = {"classes": ("a", "b"), "category_ids": (3, 7), "masks": False, "max_objects": 1, **SHARED}
    return DetectionSplits(train=[], test=[], **{**fields, **changes})  # pyright: ignore[reportArgumentType]


def segmentation(**changes):
    fields = {"classes": ("a", "b"), "ignore_index": 255, **SHARED}
    return SegmentationSplits(train=[], test=[], **{**fields, **changes})  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("name", ["labels", "masks", "crowd", "area"])
def test_objects_have_one_entry_of_everything_each(name):
    fields = vars(no_objects(image_id=1, size=(6, 4), masks=True))
    with pytest.raises(ValueError, match=f"{name} has 2 entries and boxes 0; give one for each object"):
        Objects(**{**fields, name: np.zeros(2)})


def test_no_objects_have_every_array_all_the_same():
    objects = no_objects(image_id=5, size=(6, 4), masks=True)
    assert objects.masks is not None
    assert (len(objects), objects.boxes.shape, objects.masks.shape) == (0, (0, 4), (0, 4, 6))
    assert (objects.labels.dtype, objects.crowd.dtype) == (np.int64, bool)
    assert no_objects(image_id=5, size=(6, 4), masks=False).masks is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classes": (), "category_ids": ()}, "classes is empty; detection needs one or more"),
        ({"category_ids": (3,)}, "category_ids has 1 values and classes 2"),
        ({"in_chans": 2}, "in_chans is 2; images have 1"),
        ({"mean": (0.5, 0.5)}, "mean has 2 values and std 1"),
    ],
)
def test_detection_splits_that_contradict_themselves_are_refused(changes, message):
    assert detection().classes == ("a", "b")
    with pytest.raises(ValueError, match=message):
        detection(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classes": ("a",)}, r"classes is \('a',\); segmentation needs two or more"),
        ({"ignore_index": 1}, "ignore_index is 1, the label of 'b'; give 2 or more"),
        ({"in_chans": 3}, "mean has 1 values and std 1; give one for each of the 3 bands"),
    ],
)
def test_segmentation_splits_that_contradict_themselves_are_refused(changes, message):
    assert segmentation(ignore_index=2).ignore_index == 2
    with pytest.raises(ValueError, match=message):
        segmentation(**changes)


def test_the_ignored_label_is_no_label_of_a_class():
    assert [ignored_label(number) for number in (2, 255, 256, 60_000)] == [255, 255, 65_535, 65_535]
