import numpy as np
import pytest
from PIL import Image

from crosshead.tasks.pictures.colors import class_colors
from crosshead.tasks.pictures.labels import draw_labels

CLASSES = ("background", "cell", "debris")
GREY = Image.new("L", (400, 400), 40)


def quarters() -> np.ndarray:
    """Background, cell, debris and ignored."""
    return np.array([[0, 1], [2, 255]], np.uint8).repeat(200, 0).repeat(200, 1)


def test_each_class_has_its_colour_and_background_and_ignored_pixels_stay():
    picture = draw_labels(GREY, quarters(), classes=CLASSES, ignore_index=255, opacity=0.5)
    pixels, colors = np.asarray(picture), class_colors(CLASSES)
    for name, (row, column) in {"cell": (100, 300), "debris": (300, 100)}.items():
        assert pixels[row, column].tolist() == pytest.approx(
            [(40 + part) / 2 for part in colors[name]], abs=1
        )
    assert (pixels[:200, :200] == 40).all()
    assert (pixels[200:, 200:] == 40).all()


def test_regions_have_an_opaque_border_on_their_own_side():
    pixels = np.asarray(draw_labels(GREY, quarters(), classes=CLASSES, ignore_index=255, opacity=0))
    cell = (pixels == class_colors(CLASSES)["cell"]).all(-1)
    rows, columns = cell.nonzero()
    assert set(zip(rows, columns, strict=True)) == {
        (row, column) for row in range(200) for column in range(200, 400) if row >= 198 or column < 202
    }


def test_labels_follow_an_image_that_is_enlarged():
    small = draw_labels(
        Image.new("RGB", (2, 2), (40, 40, 40)), quarters()[::200, ::200], classes=CLASSES, ignore_index=255
    )
    large = draw_labels(GREY, quarters(), classes=CLASSES, ignore_index=255)
    assert np.array_equal(np.asarray(small), np.asarray(large))


def test_zero_may_be_what_is_ignored():
    picture = draw_labels(
        GREY, quarters() // 255, classes=("unlabelled", "changed"), ignore_index=0, opacity=1
    )
    pixels = np.asarray(picture)
    assert (pixels[:200] == 40).all()
    assert tuple(pixels[300, 300]) == class_colors(("unlabelled", "changed"))["changed"]


def test_more_classes_than_a_byte_holds():
    labels = np.full((400, 400), 299, np.uint16)
    labels[0] = 65535
    classes = [f"class {number}" for number in range(300)]
    pixels = np.asarray(draw_labels(GREY, labels, classes=classes, ignore_index=65535, opacity=1))
    assert tuple(pixels[200, 200]) == class_colors(classes)["class 299"]


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="labels has the shape"):
        draw_labels(GREY, np.zeros((400, 40), np.uint8), classes=CLASSES)
    with pytest.raises(ValueError, match=r"labels are 0\.\.255; give 0\.\.2"):
        draw_labels(GREY, quarters(), classes=CLASSES)
