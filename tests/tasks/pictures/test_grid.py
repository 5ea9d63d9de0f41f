import io
import warnings

import numpy as np
import pytest
from PIL import Image

from crosshead.tasks.pictures.colors import class_colors
from crosshead.tasks.pictures.grid import draw_grid

RED, GREEN = Image.new("RGB", (400, 300), (250, 0, 0)), Image.new("RGB", (300, 400), (0, 250, 0))


def opened(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


def share(picture: np.ndarray, color: tuple[int, int, int]) -> float:
    return float((np.abs(picture - color).max(-1) < 20).mean())


def test_every_cell_is_shown_in_its_shape_and_fills_its_place():
    picture = opened(draw_grid([[("a", RED), ("b", GREEN)], [("c", GREEN)]], title="run"))
    reds = (np.abs(picture - (250, 0, 0)).max(-1) < 20).nonzero()
    height, width = np.ptp(reds[0]) + 1, np.ptp(reds[1]) + 1
    assert width / height == pytest.approx(4 / 3, rel=0.02)
    assert 390 <= width <= 410
    assert share(picture, (0, 250, 0)) == pytest.approx(2 * 16 / 9 * share(picture, (250, 0, 0)), rel=0.1)


def test_grey_images_stay_grey():
    picture = opened(draw_grid([[("grey", Image.new("L", (400, 300), 90))]], title=""))
    assert share(picture, (90, 90, 90)) > 0.7


def test_titles_are_drawn():
    plain, named, headed = (
        opened(draw_grid([[(name, RED)]], title=title))
        for name, title in (("", ""), ("cell", ""), ("", "run"))
    )
    assert plain.shape == named.shape == headed.shape
    assert (plain != named).any()
    assert (plain != headed).any()


def test_the_legend_shows_each_class_below_the_pictures():
    legend = class_colors(["background", "cell", "_debris", "$x"])
    plain, picture = (opened(draw_grid([[("", RED)]], title="", legend=each)) for each in (None, legend))
    bottom = picture[340:]
    assert len(legend) == 3
    for color in legend.values():
        assert share(bottom, color) > 0.003
        assert share(plain, color) == 0
    assert share(picture, (250, 0, 0)) > 0.7


def test_a_long_legend_is_cut_and_leaves_room_for_the_pictures():
    names = [f"{number} has a name that is far too long to be written out" for number in range(150)]
    legend = {name: (0, 200, 0) if number < 40 else (0, 0, 200) for number, name in enumerate(names)}
    picture = opened(draw_grid([[("", RED)] * 3], title="", legend=legend))
    one_of_forty = share(
        opened(draw_grid([[("", RED)] * 3], title="", legend={"": (0, 200, 0)})), (0, 200, 0)
    )
    assert share(picture, (0, 200, 0)) > 25 * one_of_forty
    assert share(picture, (0, 0, 200)) == 0
    reds = (np.abs(picture - (250, 0, 0)).max(-1) < 5).any(0)
    assert reds.sum() > 3 * 370


def test_odd_names_and_shapes_are_no_obstacle():
    odd = "$\\frac{_$ " + "w" * 400
    rows = [[(odd, Image.new("L", (1, 900))), ("", Image.new("RGBA", (900, 1)))], [], [(odd, RED)] * 3]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        picture = opened(draw_grid(rows, title=odd, legend={odd: (1, 2, 3), odd + "!": (3, 2, 1)}))
    assert picture.shape[0] < 2000
    assert picture.shape[1] < 1600


def test_a_grid_without_a_cell_is_refused():
    with pytest.raises(ValueError, match="give one cell or more"):
        draw_grid([[]], title="run")
