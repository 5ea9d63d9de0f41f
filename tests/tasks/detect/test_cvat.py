"""CVAT's XML: boxes, polygons and masks as the format has them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from crosshead.tasks.detect.annotated import AnnotatedImages, Annotations, decode_mask
from crosshead.tasks.detect.cvat import find_cvat, read_cvat

HEAD = "<annotations><version>1.1</version><meta><task><labels>{}</labels></task></meta>{}</annotations>"
LABELS = "".join(f"<label><name>{name}</name></label>" for name in ("dog", "cat"))
BOX = (
    '<box label="cat" xtl="1.5" ytl="2" xbr="5.5" ybr="4" z_order="0"><attribute name="a">1</attribute></box>'
)


@pytest.fixture
def write(tmp_path) -> Callable[..., Path]:
    """Writes the XML of images of 8 x 6 pixels with these shapes, and the image files."""

    def call(*shapes: str, labels: str = LABELS, subset: str = "", place: str = "images") -> Path:
        images = ""
        for number, shape in enumerate(shapes):
            attribute = f' subset="{subset.split()[number]}"' if subset else ""
            images += (
                f'<image id="{number}" name="a/{number}.png" width="8" height="6"{attribute}>{shape}</image>'
            )
            path = tmp_path / place / "a" / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (8, 6), number).save(path)
        (tmp_path / "annotations.xml").write_text(HEAD.format(labels, images))
        return tmp_path

    return call


def read(root: Path, *, masks: bool = False) -> Annotations:
    return read_cvat(find_cvat(root)["train"], masks=masks)


def test_corners_are_those_of_the_file_and_classes_in_its_order(write):
    found = read(write(BOX + '<tag label="dog"/>', ""))
    assert found.categories == {0: "dog", 1: "cat"}
    assert (found.findings, found.faulty) == ([], [])
    assert [image.objects.boxes.tolist() for image in found.images] == [[[1.5, 2, 5.5, 4]], []]
    assert found.images[0].objects.labels.tolist() == [2]
    assert found.images[0].size == (8, 6)


def test_a_turned_box_is_the_upright_one_around_it(write):
    turned = '<box label="dog" xtl="2" ytl="2" xbr="6" ybr="4" rotation="90"/>'
    boxes = read(write(turned)).images[0].objects.boxes
    assert boxes == pytest.approx(np.array([[3, 1, 5, 5]]), abs=1e-6)


def test_polygons_and_masks_are_painted(write):
    polygon = '<polygon label="dog" points="1,1;5,1;5,4;1,4"/>'
    # Row by row through a box of 3 x 2 pixels, the pixels outside first: .## / #..
    mask = '<mask label="cat" rle="1, 3, 2" left="4" top="3" width="3" height="2"/>'
    images = AnnotatedImages(read(write(polygon + mask), masks=True), masks=True, in_chans=1)
    _, objects = images[0]
    expected = np.zeros((2, 6, 8), np.uint8)
    expected[1, 3, 5:7] = expected[1, 4, 4] = 1
    expected[0] = decode_mask([[1, 1, 5, 1, 5, 4, 1, 4]], size=(8, 6))
    assert objects.masks is not None
    assert np.array_equal(objects.masks, expected)
    assert objects.boxes.tolist() == [[1, 1, 5, 4], [4, 3, 7, 5]]
    assert objects.area.tolist() == [12, 3]


def test_subsets_are_splits_whatever_their_case(write):
    root = write(BOX, BOX, BOX, subset="Train Validation Test", place="images/Train")
    (root / "images" / "Validation").symlink_to(root / "images" / "Train")
    (root / "images" / "Test").symlink_to(root / "images" / "Train")
    places = find_cvat(root)
    assert {split: [image.get("name") for image in place.images] for split, place in places.items()} == {
        "train": ["a/0.png"],
        "val": ["a/1.png"],
        "test": ["a/2.png"],
    }
    assert read_cvat(places["val"], masks=False).images[0].path == root / "images/Validation/a/1.png"


def test_images_of_a_subset_that_is_no_split_are_a_finding(write):
    (finding,) = read(write(BOX, BOX, subset="train spare")).findings
    assert "1 images of subset 'spare' are in no split; name splits with --train-split" in finding
    places = find_cvat(write(BOX, BOX, subset="train spare"), test="spare")
    assert len(places["test"].images) == 1
    assert read_cvat(places["train"], masks=False).findings == []


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ('<polyline label="dog" points="1,1;2,2"/>', "a polyline, which has no box and no mask"),
        (
            '<box label="fox" xtl="1" ytl="1" xbr="2" ybr="2"/>',
            "label 'fox' is not one of the file; known are",
        ),
        ('<box label="dog" xtl="1" ytl="1" xbr="2"/>', "ybr is None; give a number"),
        ('<box label="dog" xtl="4" ytl="1" xbr="2" ybr="2"/>', "give the upper left corner first"),
        ('<box label="dog" xtl="4" ytl="1" xbr="24" ybr="2"/>', "reaches outside the image of 8 x 6 pixels"),
        ('<polygon label="dog" points="1,1;2"/>', "points are '1,1;2'; give x,y;x,y;..."),
        ('<mask label="dog" rle="1,2" left="0" top="0" width="2" height="2"/>', "run lengths of 3 pixels"),
        ('<mask label="dog" rle="1,3" left="7" top="0" width="2" height="2"/>', "mask reaches outside"),
    ],
)
def test_a_faulty_shape_is_named_by_image_and_number(write, shape, words):
    root = write(BOX + shape)
    found = read(root)
    (fault,) = found.faulty
    assert fault.startswith(f"{root}/annotations.xml: image 0 (a/0.png): shape 2: ")
    assert words in fault
    assert len(found.images[0].objects) == 1


def test_a_missing_image_is_a_finding(write):
    root = write(BOX, BOX)
    (root / "images/a/1.png").unlink()
    (finding,) = read(root).findings
    assert finding.startswith(f"{root}/annotations.xml: image 1 (a/1.png): no such image file in images/")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("<annotations>", "not XML"),
        ("<annotation></annotation>", "its outermost element is 'annotation', not 'annotations'"),
        ("<!DOCTYPE x [<!ENTITY a 'b'>]><annotations/>", "declares a document type"),
        ("<annotations><track/></annotations>", "tracks of a video; export it as 'CVAT for images 1.1'"),
        ("<annotations><image/></annotations>", "lists no label"),
        (HEAD.format(LABELS, ""), "lists no image"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused(tmp_path, refused, text, words):
    (tmp_path / "annotations.xml").write_text(text)
    refused(lambda: find_cvat(tmp_path), tmp_path / "annotations.xml", words)


def test_parts_of_a_skeleton_are_no_classes(write):
    labels = LABELS + "<label><name>knee</name><parent>dog</parent></label>"
    assert find_cvat(write(BOX, labels=labels))["train"].classes == ("dog", "cat")
