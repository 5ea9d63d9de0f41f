import io
import warnings
from itertools import combinations, pairwise

import numpy as np
import pytest
from PIL import Image

from crosshead.tasks.pictures import (
    SHOWN,
    chosen,
    class_colors,
    draw_grid,
    draw_labels,
    enlarged,
    enlargement,
    palette,
    palette_image,
    shortened,
    with_legend,
)


@pytest.mark.parametrize("count", [1, 2, 4, 5, 6, 7, 11, 100, 4952])
def test_as_many_as_there_is_room_for_are_chosen_spread_and_in_order(count):
    positions = chosen(count)
    assert len(set(positions)) == min(count, SHOWN)
    assert positions == sorted(positions)
    assert positions[0] >= 0
    assert positions[-1] < count
    # Neither end is preferred.
    assert abs(positions[0] - (count - 1 - positions[-1])) <= 1


def test_of_nothing_nothing_is_chosen():
    assert chosen(0) == []


@pytest.mark.parametrize("count", [0, 1, 7, 8, 21, 150])
def test_there_are_as_many_colours_as_asked_for_and_all_differ(count):
    colors = palette(count)
    assert len(set(colors)) == len(colors) == count
    assert all(0 <= part <= 255 for color in colors for part in color)


def test_the_first_colours_are_the_same_however_many_there_are():
    assert palette(30)[:7] == palette(7)
    assert palette(7)[:3] == palette(3)


def test_a_dozen_colours_are_far_apart():
    assert min(max(map(abs, map(int.__sub__, *pair))) for pair in combinations(palette(12), 2)) >= 40


def test_neighbouring_hues_differ_in_lightness():
    lightness = [max(color) + min(color) for color in palette(37)[7:]]
    assert all(abs(one - other) > 60 for one, other in pairwise(lightness))


def test_background_has_no_colour_and_takes_none_from_the_others():
    assert list(class_colors(["cat", "Background", "dog"]).items()) == [
        ("cat", palette(2)[0]),
        ("dog", palette(2)[1]),
    ]


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


GREY = Image.new("L", (400, 400), 40)
CLASSES = ("background", "cell", "debris")


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


def test_labels_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"labels must be 400 x 400 pixels like the image; got \(400, 40\)"):
        draw_labels(GREY, np.zeros((400, 40), np.uint8), classes=CLASSES)
    with pytest.raises(ValueError, match=r"labels must be 0\.\.2 or ignore_index; got 0\.\.255"):
        draw_labels(GREY, quarters(), classes=CLASSES)


def test_a_legend_names_colours_in_rows_below_the_picture():
    picture = Image.new("RGB", (300, 200), "gray")
    colors = class_colors([f"class {number}" for number in range(12)])
    whole = with_legend(picture, colors)
    assert np.array_equal(np.asarray(whole)[:200], np.asarray(picture))
    below = np.asarray(whole)[200:]
    assert all((below == color).all(2).any() for color in colors.values())
    assert with_legend(picture, {}) is picture
    assert with_legend(picture, {"cat": (250, 0, 0)}).height < whole.height
    many = class_colors([f"class {number}" for number in range(60)])
    assert with_legend(picture, many).height < with_legend(picture, dict(list(many.items())[:45])).height + 30


def test_labels_are_seen_in_colours_and_stay_labels(tmp_path):
    labels = np.array([[0, 1, 2]], np.uint8)
    colors = class_colors(["background", "cell", "spot"])
    palette_image(labels, colors, ["background", "cell", "spot"]).save(tmp_path / "labels.png")
    opened = Image.open(tmp_path / "labels.png")
    assert np.array_equal(np.asarray(opened), labels)
    shown = np.asarray(opened.convert("RGB"))[0]
    assert [tuple(color) for color in shown.tolist()] == [(0, 0, 0), *colors.values()]
    wide = labels.astype(np.uint16) + 300
    palette_image(wide, {}, []).save(tmp_path / "wide.png")
    assert np.array_equal(np.asarray(Image.open(tmp_path / "wide.png")), wide)


RED_IMAGE, GREEN_IMAGE = Image.new("RGB", (400, 300), (250, 0, 0)), Image.new("RGB", (300, 400), (0, 250, 0))


def opened(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


def fraction(picture: np.ndarray, color: tuple[int, int, int]) -> float:
    return float((np.abs(picture - color).max(-1) < 20).mean())


def test_every_cell_is_shown_in_its_shape_and_fills_its_place():
    picture = opened(draw_grid([[("a", RED_IMAGE), ("b", GREEN_IMAGE)], [("c", GREEN_IMAGE)]], title="run"))
    reds = (np.abs(picture - (250, 0, 0)).max(-1) < 20).nonzero()
    height, width = np.ptp(reds[0]) + 1, np.ptp(reds[1]) + 1
    assert width / height == pytest.approx(4 / 3, rel=0.02)
    assert 390 <= width <= 410
    assert fraction(picture, (0, 250, 0)) == pytest.approx(
        2 * 16 / 9 * fraction(picture, (250, 0, 0)), rel=0.1
    )


def test_grey_images_stay_grey():
    picture = opened(draw_grid([[("grey", Image.new("L", (400, 300), 90))]], title=""))
    assert fraction(picture, (90, 90, 90)) > 0.7


def test_titles_are_drawn():
    plain, named, headed = (
        opened(draw_grid([[(name, RED_IMAGE)]], title=title))
        for name, title in (("", ""), ("cell", ""), ("", "run"))
    )
    assert plain.shape == named.shape == headed.shape
    assert (plain != named).any()
    assert (plain != headed).any()


def test_the_legend_shows_each_class_below_the_pictures():
    legend = class_colors(["background", "cell", "_debris", "$x"])
    plain, picture = (
        opened(draw_grid([[("", RED_IMAGE)]], title="", legend=each)) for each in (None, legend)
    )
    bottom = picture[340:]
    assert len(legend) == 3
    for color in legend.values():
        assert fraction(bottom, color) > 0.003
        assert fraction(plain, color) == 0
    assert fraction(picture, (250, 0, 0)) > 0.7


def test_a_long_legend_is_cut_and_leaves_room_for_the_pictures():
    names = [f"{number} has a name that is far too long to be written out" for number in range(150)]
    legend = {name: (0, 200, 0) if number < 40 else (0, 0, 200) for number, name in enumerate(names)}
    picture = opened(draw_grid([[("", RED_IMAGE)] * 3], title="", legend=legend))
    one_of_forty = fraction(
        opened(draw_grid([[("", RED_IMAGE)] * 3], title="", legend={"": (0, 200, 0)})), (0, 200, 0)
    )
    assert fraction(picture, (0, 200, 0)) > 25 * one_of_forty
    assert fraction(picture, (0, 0, 200)) == 0
    reds = (np.abs(picture - (250, 0, 0)).max(-1) < 5).any(0)
    assert reds.sum() > 3 * 370


def test_odd_names_and_shapes_are_no_obstacle():
    odd = "$\\frac{_$ " + "w" * 400
    rows = [[(odd, Image.new("L", (1, 900))), ("", Image.new("RGBA", (900, 1)))], [], [(odd, RED_IMAGE)] * 3]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        picture = opened(draw_grid(rows, title=odd, legend={odd: (1, 2, 3), odd + "!": (3, 2, 1)}))
    assert picture.shape[0] < 2000
    assert picture.shape[1] < 1600


def test_a_grid_without_a_cell_is_refused():
    with pytest.raises(ValueError, match="rows must hold one cell or more"):
        draw_grid([[]], title="run")
