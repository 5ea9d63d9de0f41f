import cmath

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from crosshead.study.pathfinder.strokes import distance_of_strokes, distance_to_stroke

LENGTH = 2.0
# Points of each stroke among which the nearest pair is sought.
SAMPLES = np.linspace(0, LENGTH, 201)
places = st.tuples(st.floats(-4, 4), st.floats(-4, 4), st.floats(-4, 4)).map(
    lambda numbers: (complex(numbers[0], numbers[1]), cmath.rect(1, numbers[2]))
)


@settings(max_examples=60, deadline=None)
@given(stroke=places, other=places)
def test_the_distance_is_that_of_the_nearest_points(stroke, other):
    points = stroke[0] + SAMPLES * stroke[1]
    others = other[0] + SAMPLES * other[1]
    sampled = np.abs(points[:, None] - others).min()
    distance = distance_of_strokes(stroke, other, length=LENGTH)
    # The nearest sample of either stroke is at most half a step from the nearest point.
    assert distance - 1e-12 <= sampled <= distance + LENGTH / 200
    assert distance_of_strokes(other, stroke, length=LENGTH) == distance

    to_points = distance_to_stroke(others, *stroke, length=LENGTH)
    assert np.all(to_points <= np.abs(points[:, None] - others).min(0) + 1e-12)
    assert np.all(to_points >= np.abs(points[:, None] - others).min(0) - LENGTH / 400 - 1e-12)


def test_parallel_strokes():
    assert distance_of_strokes((0j, 1 + 0j), (3j + 1, 1 + 0j), length=2) == 3
    assert distance_of_strokes((0j, 1 + 0j), (6 + 0j, 1 + 0j), length=2) == 4
    assert distance_of_strokes((0j, 1 + 0j), (1 + 0j, 1 + 0j), length=2) == 0
