from pathlib import Path

import pytest

from crosshead.tasks.detect.coco.entries import (
    category_fault,
    corners,
    image_fault,
    object_faults,
    unique_entries,
)


def test_boxes_become_corners_and_are_clipped():
    assert corners([1, 0.5, 2, 3], (6, 4)) == [1, 0.5, 3, 3.5]
    assert corners([-1, -0.5, 8, 5.5], (6, 4)) == [0, 0, 6, 4]


@pytest.mark.parametrize("box", [[0, 0, 6, 4], [-1, -1, 8, 6], [5.5, 3.5, 0.5, 0.5]])
def test_boxes_within_a_pixel_of_the_image_are_sound(box):
    assert list(object_faults({"bbox": box}, (6, 4), masks=False)) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"bbox": None}, "box is None; give [left, top, width, height]"),
        ({"bbox": [1, 1, 2]}, "four finite numbers"),
        ({"bbox": [1, 1, float("nan"), 2]}, "four finite numbers"),
        ({"bbox": [1, 1, True, 2]}, "four finite numbers"),
        ({"bbox": [1, 1, 0, 2]}, "has no area; draw it or delete the annotation"),
        ({"bbox": [1, 1, 2, -2]}, "has no area"),
        ({"bbox": [-1.5, 1, 3, 2]}, "reaches outside the image of 6 x 4 pixels; clip it"),
        ({"bbox": [1, -1.5, 2, 3]}, "reaches outside"),
        ({"bbox": [1, 1, 6.5, 2]}, "reaches outside"),
        ({"bbox": [1, 1, 2, 4.5]}, "reaches outside"),
        ({"bbox": [-1, 1, 0.75, 2]}, "has no area within the image of 6 x 4 pixels"),
        ({"bbox": [1, 4, 2, 0.5]}, "has no area within"),
        ({"bbox": [1, 1, 2, 1e-9]}, "has no area within"),
        ({"area": float("inf")}, "area is inf"),
        ({"area": -1}, "area is -1"),
        ({"area": "9"}, "area is '9'"),
        ({"iscrowd": 2}, "iscrowd is 2; give 0 or 1"),
        ({"iscrowd": "no"}, "iscrowd is 'no'"),
    ],
)
def test_each_fault_of_an_object_is_said(changes, words):
    (fault,) = object_faults({"bbox": [1, 1, 2, 2], **changes}, (6, 4), masks=False)
    assert words in fault


def test_masks_are_looked_at_only_where_they_are_needed():
    entry = {"bbox": [1, 1, 2, 2], "segmentation": [[1, 1]]}
    assert list(object_faults(entry, (6, 4), masks=False)) == []
    assert list(object_faults(entry, (6, 4), masks=True)) == ["polygon of 1 points; give three or more"]


@pytest.mark.parametrize("name", [None, "", 4])
def test_names_are_texts(name):
    assert "name is" in str(category_fault({"name": name}))
    assert "file_name is" in str(image_fault({"file_name": name, "width": 6, "height": 4}))


@pytest.mark.parametrize("value", [None, 0, -4, "6", 6.5, True])
def test_sides_are_whole_pixels(value):
    assert "1.png: width is" in str(image_fault({"file_name": "1.png", "width": value, "height": 4}))
    assert "1.png: height is" in str(image_fault({"file_name": "1.png", "width": 6, "height": value}))
    assert image_fault({"file_name": "1.png", "width": 6, "height": 4}) is None


def test_ids_are_integers_and_unique():
    findings = []
    entries = [{"id": 4}, {"id": "5"}, {"id": 4}, "text", {"id": True}, {"id": 6, "bad": 1}, {"id": 7}]
    sound = unique_entries(
        entries, "category", Path("a.json"), lambda entry: "is bad" if "bad" in entry else None, findings
    )
    assert list(sound) == [4, 7]
    assert findings == [
        "a.json: category at position 1: id is '5'; give an integer",
        "a.json: category 4 is there twice; give each its own id",
        "a.json: category at position 3: id is None; give an integer",
        "a.json: category at position 4: id is True; give an integer",
        "a.json: category 6: is bad",
    ]


def test_images_too_large_to_open_are_refused():
    entry = {"file_name": "1.png", "width": 30_000, "height": 30_000}
    assert "1.png: 30000 x 30000 pixels, more than can be opened" in str(image_fault(entry))
