from itertools import combinations, pairwise

import pytest

from crosshead.tasks.pictures.colors import class_colors, palette


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
