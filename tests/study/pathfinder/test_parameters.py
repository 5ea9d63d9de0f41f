from dataclasses import replace

import pytest

from crosshead.study.pathfinder.parameters import PARAMETERS


@pytest.mark.parametrize(("contour", "length", "count"), [(6, 2, 10), (9, 3, 6), (14, 4, 5)])
def test_distractors_are_a_third_as_long_and_as_many_as_the_paddles_allow(contour, length, count):
    parameters = replace(PARAMETERS[32], contour_length=contour)
    assert (parameters.distractor_length, parameters.distractors) == (length, count)


def test_the_published_numbers():
    names = ("seed_distance", "marker_radius", "paddle_thickness", "paddle_contrast", "distractors")
    assert {size: tuple(getattr(p, name) for name in names) for size, p in PARAMETERS.items()} == {
        32: (7, 1.5, 0.5, 0.75, 5),
        64: (12, 2.5, 1, 0.8, 5),
        128: (20, 3, 1.5, 0.9, 8),
        256: (30, 5, 2, 1, 7),
    }
    assert [p.paddle_margins for p in PARAMETERS.values()] == [(1,), (1,), (2, 3), (3,)]
    assert all(p.size == size and p.contour_length == 14 for size, p in PARAMETERS.items())
