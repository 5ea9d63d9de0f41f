from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from crosshead.study.pathfinder.parameters import PARAMETERS
from crosshead.study.pathfinder.snakes import Layout
from crosshead.study.pathfinder.strokes import distance_of_strokes


def lay(parameters, seed):
    rng = np.random.default_rng(seed)
    while (snakes := Layout(rng, parameters).fill()) is None:
        pass
    return snakes


@pytest.fixture(scope="module", params=PARAMETERS)
def layouts(request):
    parameters = PARAMETERS[request.param]
    return parameters, [lay(parameters, seed) for seed in range(8)]


def turns(snake):
    return np.angle(snake.directions[1:] / snake.directions[:-1])


def test_there_are_two_long_snakes_and_the_distractors(layouts):
    parameters, images = layouts
    for snakes in images:
        lengths = [len(snake.pivots) for snake in snakes]
        assert lengths == [14, 14, *[4] * parameters.distractors]


def test_each_paddle_begins_where_the_space_of_the_one_before_ends(layouts):
    parameters, images = layouts
    for snake in (snake for snakes in images for snake in snakes):
        assert snake.margin in parameters.paddle_margins
        np.testing.assert_allclose(np.abs(snake.directions), 1, rtol=1e-12)
        step = parameters.paddle_length + 2 * snake.margin
        np.testing.assert_allclose(np.diff(snake.pivots), step * snake.directions[:-1], rtol=1e-9)
        np.testing.assert_allclose(np.abs(snake.heads - snake.tails), parameters.paddle_length, rtol=1e-9)
        np.testing.assert_allclose(np.abs(snake.tails - snake.pivots), snake.margin, rtol=1e-9)
        np.testing.assert_allclose(
            np.abs(snake.centres - snake.tails), parameters.paddle_length / 2, rtol=1e-9
        )


def test_snakes_of_an_image_have_the_same_margin_and_all_margins_occur():
    margins = [{snake.margin for snake in lay(PARAMETERS[128], seed)} for seed in range(8)]
    assert all(len(seen) == 1 for seen in margins)
    assert set.union(*margins) == {2, 3}


def test_no_turn_has_the_weight_zero(layouts):
    parameters, images = layouts
    angles = np.concatenate([turns(snake) for snakes in images for snake in snakes])
    weights = np.cos(np.minimum(parameters.continuity * np.abs(angles), np.pi / 2))
    assert weights.min() > 1e-3


def test_where_nothing_is_in_the_way_turns_follow_their_weights():
    # The turns of 64 pixels are too small for a snake to meet itself within a few paddles.
    roomy = replace(PARAMETERS[64], size=3000, seed_distance=500, distractor_paddles=32)
    angles = np.concatenate([turns(snake) for seed in range(40) for snake in lay(roomy, seed)])
    scaled = roomy.continuity * angles
    # Of the density (2 / pi) cos(t)^2 on (-pi/2, pi/2), the shares of eight equal parts.
    borders = np.linspace(-np.pi / 2, np.pi / 2, 9)
    shares = np.diff(0.5 + (borders + np.sin(2 * borders) / 2) / np.pi)
    counts, _ = np.histogram(scaled, borders)
    assert counts.sum() == len(angles)
    errors = np.sqrt(len(angles) * shares * (1 - shares))
    assert np.all(np.abs(counts - len(angles) * shares) < 4 * errors)


def test_the_seeds_lie_inside_and_apart(layouts):
    parameters, images = layouts
    for snakes in images:
        first, second = (snake.pivots[0] for snake in snakes[:2])
        nearest = min(first.real, first.imag, parameters.size - first.real, parameters.size - first.imag)
        assert nearest >= 2 * parameters.seed_distance
        assert abs(second - first) == pytest.approx(parameters.seed_distance)


def test_seeds_point_anywhere():
    directions = np.array(
        [snake.directions[0] for seed in range(150) for snake in lay(PARAMETERS[256], seed)]
    )
    # The mean of N random directions is shorter than 3 / sqrt(N) but for once in ten thousand.
    assert abs(directions.mean()) < 3 / np.sqrt(len(directions))


def test_strokes_stay_out_of_each_others_margin(layouts):
    parameters, images = layouts
    for snakes in images:
        clearance = snakes[0].margin + parameters.paddle_thickness
        strokes = [
            (number, place, (complex(tail), complex(direction)))
            for number, snake in enumerate(snakes)
            for place, (tail, direction) in enumerate(zip(snake.tails, snake.directions, strict=True))
        ]
        for (snake, place, stroke), (other_snake, other_place, other) in combinations(strokes, 2):
            if snake == other_snake and other_place == place + 1:
                continue
            assert distance_of_strokes(stroke, other, length=parameters.paddle_length) >= clearance - 1e-9


def test_no_stroke_enters_the_padding(layouts):
    parameters, images = layouts
    border = parameters.padding + parameters.paddle_thickness / 2
    for snake in (snake for snakes in images for snake in snakes):
        ends = np.concatenate([snake.tails, snake.heads])
        for values in np.real(ends), np.imag(ends):
            assert values.min() >= border
            assert values.max() <= parameters.size - border
