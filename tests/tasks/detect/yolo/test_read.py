import numpy as np
import pytest
from PIL import Image

from crosshead.tasks.detect.annotated import AnnotatedImages, decode_mask
from crosshead.tasks.detect.yolo.layout import find_yolo
from crosshead.tasks.detect.yolo.read import read_yolo

YAML = "train: images\nnames: [cat, dog, fox]\n"


@pytest.fixture
def read(write_yolo):
    """Reads a training set of one image of 8 x 16 pixels with these lines."""

    def call(*lines, masks=False):
        root = write_yolo(**{"data.yaml": YAML, "images/1.png": None, "labels/1.txt": "\n".join(lines)})
        return root, read_yolo(find_yolo(root)["train"], masks=masks)

    return call


def test_centres_and_sides_become_corners_in_pixels(read):
    _, found = read("1 0.5 0.5 0.25 0.5", "0 0.0625 0.9375 .125 .125")
    assert found.categories == {0: "cat", 1: "dog", 2: "fox"}
    (image,) = found.images
    assert image.size == (8, 16)
    assert image.objects.boxes.tolist() == [[3, 4, 5, 12], [0, 14, 1, 16]]
    assert image.objects.labels.tolist() == [2, 1]
    assert image.objects.area.tolist() == [16, 2]
    assert image.annotation_ids == (1, 2)


def test_polygons_are_painted_as_cocos_in_the_box_around_them(read):
    line = "2 0.25 0.25 0.75 0.25 0.75 0.5 0.25 0.5"
    _, found = read(line, masks=True)
    _, objects = AnnotatedImages(found, masks=True, in_chans=1)[0]
    assert objects.masks is not None
    assert objects.boxes.tolist() == [[2, 4, 6, 8]]
    expected = np.zeros((16, 8), np.uint8)
    expected[4:8, 2:6] = 1
    assert np.array_equal(objects.masks, [expected])
    assert objects.area.tolist() == [16]
    triangle = "0 0.1 0.1 0.9 0.3 0.4 0.8"
    polygon = [0.8, 1.6, 7.2, 4.8, 3.2, 12.8]
    _, objects = AnnotatedImages(read(triangle, masks=True)[1], masks=True, in_chans=1)[0]
    assert objects.masks is not None
    assert np.array_equal(objects.masks[0], decode_mask([polygon], size=(8, 16)))
    # Without masks the same lines are boxes.
    assert read(line)[1].images[0].objects.boxes.tolist() == [[2, 4, 6, 8]]


def test_an_empty_label_file_or_none_is_an_image_without_objects(write_yolo):
    files = {"data.yaml": YAML, "labels/1.txt": "\n \n", "labels/3.txt": "0 .5 .5 1 1"}
    root = write_yolo(**files, **{f"images/{number}.png": None for number in (1, 2, 3)})
    found = read_yolo(find_yolo(root)["train"], masks=False)
    assert (found.findings, found.faulty) == ([], [])
    assert [len(image.objects) for image in found.images] == [0, 0, 1]


def test_fractions_are_of_the_image_as_it_is_seen(write_yolo):
    root = write_yolo(**{"data.yaml": YAML, "images/1.jpg": None, "labels/1.txt": "0 .5 .5 1 .5"})
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("L", (8, 16)).save(root / "images" / "1.jpg", exif=exif)
    images = AnnotatedImages(read_yolo(find_yolo(root)["train"], masks=False), masks=False, in_chans=1)
    image, objects = images[0]
    assert image.size == (16, 8)
    assert objects.boxes.tolist() == [[0, 2, 16, 6]]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("0 0.5 0.5 0.5", "4 fields; a box has 5 (class, x, y, width, height)"),
        ("0 0.5 0.5 0.5 0.5 0.9", "6 fields"),
        ("0 0.1 0.1 0.5 0.5 0.9 0.9 0.1", "8 fields"),
        ("0 0.5 0,5 0.5 0.5", "'0,5' is not a number"),
        ("3 0.5 0.5 0.5 0.5", "class 3, and data.yaml names the classes 0..2; correct it"),
        ("-1 0.5 0.5 0.5 0.5", "class -1, and"),
        ("0.5 0.5 0.5 0.5 0.5", "class 0.5, and"),
        ("0 0.5 0.5 0.5 0", "has no area; draw it"),
        ("0 0.5 nan 0.5 0.5", "four finite numbers"),
        ("0 4 8 2 4", "reaches outside the image of 8 x 16 pixels by more than 5%"),
    ],
)
def test_a_faulty_line_is_named(read, line, words):
    root, found = read("1 0.5 0.5 0.5 0.5", "", line)
    (fault,) = found.faulty
    assert fault.startswith(f"{root}/labels/1.txt: line 3: ")
    assert words in fault
    assert found.images[0].objects.labels.tolist() == [2]


def test_boxes_without_masks_are_one_finding_where_masks_are_needed(read):
    root, found = read("0 0.5 0.5 0.5 0.5", "0 0.5 0.5 0.5 0.5", masks=True)
    assert found.findings == [
        f"{root}/data.yaml: none of its 2 annotations has a mask; draw masks, or train boxes alone "
        "(crosshead train detect)"
    ]
    (fault,) = read("0 0.5 0.5 0.5 0.5", "0 .1 .1 .9 .1 .9 .9", masks=True)[1].faulty
    assert "line 1: no mask; draw one" in fault
