import numpy as np
import pytest
from PIL import Image

from crosshead.tasks.pictures.canvas import check_size, enlarged, enlargement, font, readable_on, shortened


@pytest.mark.parametrize(
    "size", [(1, 1), (28, 28), (400, 300), (401, 399), (161, 256), (1200, 3), (5000, 4000)]
)
def test_small_images_are_enlarged_but_never_beyond_measure(size):
    factor = enlargement(size)
    assert factor >= 1
    assert factor == 1 or max(size) * factor <= 2400
    assert min(size) * factor >= 400 or max(size) * (factor + 1) > 2400
    assert factor == 1 or min(size) * (factor - 1) < 400


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA"])
def test_any_image_becomes_rgb(mode):
    picture = enlarged(Image.new(mode, (100, 200)))
    assert (picture.mode, picture.size) == ("RGB", (400, 800))


def test_pixels_stay_squares_where_asked():
    image = Image.fromarray(np.array([[0, 255], [255, 0]], np.uint8))
    sharp, smooth = (np.unique(np.asarray(enlarged(image, smooth=each))) for each in (False, True))
    assert sharp.tolist() == [0, 255]
    assert len(smooth) > 100


@pytest.mark.parametrize("text", ["a", "x" * 10, "x" * 11, "name_of_a_file.png", "two\nlines and a\ttab", ""])
def test_a_name_becomes_one_line_of_limited_length(text):
    short = shortened(text, 10)
    assert len(short) == min(len(" ".join(text.split())), 10)
    assert "\n" not in short
    assert short[:1] == text[:1]
    assert short[-1:] == text[-1:]


def test_text_is_larger_on_large_images():
    small, large = (font(Image.new("L", (side, side))).getbbox("name")[3] for side in (400, 2000))
    assert large > 3 * small


def test_text_is_dark_on_light_colours():
    assert readable_on((250, 250, 200)) == (0, 0, 0)
    assert readable_on((120, 30, 90)) == (255, 255, 255)


def test_another_size_is_named():
    with pytest.raises(ValueError, match=r"masks has the shape \(1, 5, 4\) and the image 4 x 5"):
        check_size("masks", (1, 5, 4), Image.new("L", (5, 4)))
