from pathlib import Path

import pytest

from crosshead.tasks.detect.faults import (
    category_fault,
    corners,
    image_fault,
    is_number,
    object_faults,
    segmentation_fault,
    unique_entries,
)

RUNS = [2, 3, 8, 2, 8, 1]


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
        ({"bbox": [1, 1, 0, 2]}, "has no area; draw it or leave the annotation out"),
        ({"bbox": [1, 1, 2, -2]}, "has no area"),
        ({"bbox": [-1.5, 1, 3, 2]}, "reaches outside the image of 6 x 4 pixels"),
        ({"bbox": [1, -1.5, 2, 3]}, "reaches outside"),
        ({"bbox": [1, 1, 6.5, 2]}, "reaches outside"),
        ({"bbox": [1, 1, 2, 4.5]}, "reaches outside"),
        ({"bbox": [-1, 1, 0.75, 2]}, "has no area within the image of 6 x 4 pixels"),
        ({"bbox": [1, 4, 2, 0.5]}, "has no area within"),
        ({"bbox": [1, 1, 2, 1e-9]}, "has no area within"),
        ({"area": float("inf")}, "area is inf"),
        ({"area": -1}, "area is -1"),
        ({"area": "9"}, "area is '9'"),
        ({"area": 1e300}, "area is 1e+300"),
        ({"area": 10**400}, "area is 1000000000"),
        ({"bbox": [1, 1, 10**400, 2]}, "box is [1, 1, 1000"),
        ({"bbox": [1, 1, 10**300, 2]}, "reaches outside the image of 6 x 4 pixels"),
        ({"bbox": [1e308, 1, 1e308, 2]}, "reaches outside the image of 6 x 4 pixels"),
        ({"iscrowd": 2}, "iscrowd is 2; give 0 or 1"),
        ({"iscrowd": "no"}, "iscrowd is 'no'"),
    ],
)
def test_each_fault_of_an_object_is_said(changes, words):
    (fault,) = object_faults({"bbox": [1, 1, 2, 2], **changes}, (6, 4), masks=False)
    assert words in fault
    assert len(fault) < 200


def test_masks_are_looked_at_only_where_they_are_needed():
    entry = {"bbox": [1, 1, 2, 2], "segmentation": [[1, 1]]}
    assert list(object_faults(entry, (6, 4), masks=False)) == []
    assert list(object_faults(entry, (6, 4), masks=True)) == ["polygon of 1 points; give three or more"]


@pytest.mark.parametrize("name", [None, "", 4])
def test_names_are_texts(name):
    assert "name is" in str(category_fault({"name": name}))
    assert "file_name is" in str(image_fault({"file_name": name, "width": 6, "height": 4}))


def test_a_name_longer_than_a_file_may_have_is_refused():
    fault = str(image_fault({"file_name": f"folder/{'x' * 300}.png", "width": 6, "height": 4}))
    assert "give the name of an image file" in fault
    assert len(fault) < 200


@pytest.mark.parametrize("value", [None, 0, -4, "6", 6.5, True])
def test_sides_are_whole_pixels(value):
    assert "1.png: width is" in str(image_fault({"file_name": "1.png", "width": value, "height": 4}))
    assert "1.png: height is" in str(image_fault({"file_name": "1.png", "width": 6, "height": value}))
    assert image_fault({"file_name": "1.png", "width": 6, "height": 4}) is None


def test_sides_of_hundreds_of_digits_are_refused_in_a_short_line():
    fault = str(image_fault({"file_name": "1.png", "width": 10**4000, "height": 10**400}))
    assert "pixels, more than can be opened" in fault
    assert len(fault) < 200


def test_ids_are_integers_and_unique():
    findings = []
    entries = [
        {"id": 4},
        {"id": "5"},
        {"id": 4},
        "text",
        {"id": True},
        {"id": 6, "bad": 1},
        {"id": 7},
        {"id": 10**400},
    ]
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
        "a.json: category at position 7: id is 100000000000000000...0000000000000000000; give an integer",
    ]


def test_images_too_large_to_open_are_refused():
    entry = {"file_name": "1.png", "width": 30_000, "height": 30_000}
    assert "1.png: 30000 x 30000 pixels, more than can be opened" in str(image_fault(entry))


@pytest.mark.parametrize(
    ("segmentation", "words"),
    [
        (None, "no mask; draw one, or train boxes alone (crosshead train detect)"),
        ([], "empty mask"),
        ("text", "segmentation is 'text'; give polygons or run lengths"),
        ([[1, 1, 2, 2]], "polygon of 2 points; give three or more"),
        ([[1, 1, 4, 1, 4, 3], [1, 1]], "polygon of 1 points"),
        ([[1, 1, 4, 1, 4, 3, 1]], "polygon of 7 coordinates; give an x and a y"),
        ([1, 1, 4, 1, 4, 3], "polygon is 1; give a list"),
        ([[1, 1, 4, float("nan"), 4, 3]], "not a finite number"),
        ([[1, 1, 4, "1", 4, 3]], "not a finite number"),
        ([[1, 1, 7.5, 1, 4, 3]], "polygon reaches outside the image of 6 x 4 pixels"),
        ([[1, 1, 5, 1, 5, 1e12]], "polygon reaches outside"),
        ({"size": [6, 4], "counts": RUNS}, "mask of 4 x 6 pixels in an image of 6 x 4; correct its size"),
        ({"counts": RUNS}, "mask of size None; give [height, width]"),
        ({"size": [4, 6]}, "mask with counts None"),
        ({"size": [4, 6], "counts": [2, -3, 25]}, "a run length that is not a whole number from 0 to 24"),
        ({"size": [4, 6], "counts": [2, 3.5, 18.5]}, "a run length that is not a whole number"),
        ({"size": [4, 6], "counts": [9 * 10**4299] * 2}, "a run length that is not a whole number"),
        ({"size": [10**400, 6], "counts": RUNS}, "mask of size [1000"),
        ({"size": [10**300, 6], "counts": RUNS}, "mask of 6 x 1000"),
        ([[1, 1, 4, 10**400, 4, 3]], "not a finite number"),
        ([[1, 1, 4, 10**300, 4, 3]], "polygon reaches outside"),
        ({"size": [4, 6], "counts": [2, 3]}, "mask with run lengths of 5 pixels, not 24"),
    ],
)
def test_what_is_wrong_is_said_with_the_remedy(segmentation, words):
    fault = str(segmentation_fault(segmentation, size=(6, 4)))
    assert words in fault
    assert len(fault) < 200


@pytest.mark.parametrize("value", [True, None, "1", float("inf"), [1], 10**400, -(10**400)])
def test_what_is_not_a_finite_number(value):
    assert not is_number(value)
