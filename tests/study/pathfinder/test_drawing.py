from dataclasses import replace

import numpy as np
import pytest

from crosshead.study.pathfinder.drawing import draw_scene
from crosshead.study.pathfinder.parameters import PARAMETERS
from crosshead.study.pathfinder.scene import Scene, make_scene
from crosshead.study.pathfinder.snakes import Snake


def scene(pivots, directions, *, discs=(-50 + 0j, -50 + 0j)):
    """Paddles of length 2 and margin 1 in one snake, and nothing else; by default the discs lie outside."""
    snake = Snake(np.array(pivots, complex), np.array(directions, complex), 2.0, 1.0)
    none = Snake(np.zeros(0, complex), np.zeros(0, complex), 2.0, 1.0)
    return Scene((snake, none), (), discs, 0)


def test_a_stroke_covers_its_pixels_at_the_contrast_of_paddles():
    image = draw_scene(scene([9 + 5.5j], [1]), PARAMETERS[32])
    # From (10, 5.25) to (12, 5.75): half of each of the two pixels, raised by the snake contrast of two.
    assert image[5, 10:12].tolist() == [191, 191]
    image[5, 9:13] = 0
    assert image.max() == 0


@pytest.mark.parametrize("length", [2.0, 9.0])
def test_strokes_are_as_dark_as_they_are_thin(length):
    parameters = replace(PARAMETERS[32], paddle_length=length, snake_contrast=1.0, paddle_contrast=1.0)
    for direction in np.exp(1j * np.linspace(0, 3, 7)):
        for thickness in (0.5, 1.0, 1.5):
            thin = replace(parameters, paddle_thickness=thickness)
            image = draw_scene(scene([16.3 + 15.8j], [direction]), thin)
            # Rectangle and two round ends, up to what sampling at two points a pixel leaves out.
            area = length * thickness + np.pi * thickness**2 / 4
            assert image.sum() / 255 == pytest.approx(area, rel=0.15)


def test_discs_have_their_area_and_full_brightness():
    image = draw_scene(scene([], [], discs=(8 + 8j, 20.4 + 25.7j)), PARAMETERS[32])
    assert image[7:9, 7:9].min() == 255
    assert image[25, 20] == 255
    assert image.sum() / 255 == pytest.approx(2 * np.pi * 1.5**2, rel=0.03)


def test_a_disc_covers_the_stroke_below_it_and_strokes_do_not_add_up():
    both = draw_scene(scene([9 + 5.5j] * 2, [1] * 2, discs=(11 + 5.5j, -50 + 0j)), PARAMETERS[32])
    one = draw_scene(scene([9 + 5.5j], [1]), PARAMETERS[32])
    disc = draw_scene(scene([], [], discs=(11 + 5.5j, -50 + 0j)), PARAMETERS[32])
    assert np.array_equal(both, np.maximum(one, disc))


def test_what_lies_outside_is_left_out():
    image = draw_scene(scene([], [], discs=(0j, 32 + 32j)), PARAMETERS[32])
    assert (image[0, 0], image[-1, -1], image[0, -1]) == (255, 255, 0)


@pytest.mark.parametrize("size", PARAMETERS)
def test_a_scene_is_lit_where_its_paddles_and_discs_lie_and_dark_elsewhere(size):
    parameters = PARAMETERS[size]
    drawn = make_scene(np.random.default_rng(4), parameters)
    image = draw_scene(drawn, parameters)
    assert (image.dtype, image.shape) == (np.uint8, (size, size))
    snakes = (*drawn.targets, *drawn.distractors)
    centres = np.concatenate([snake.centres for snake in snakes])
    assert image[np.imag(centres).astype(int), np.real(centres).astype(int)].min() > 60
    discs = np.array(drawn.discs)
    rows, columns = (np.clip(part.astype(int), 0, size - 1) for part in (np.imag(discs), np.real(discs)))
    assert image[rows, columns].min() == 255
    # Beyond the reach of every centre there is nothing.
    pixels = np.arange(size) + 0.5 + 1j * (np.arange(size)[:, None] + 0.5)
    to_paddles = np.abs(pixels[..., None] - centres).min(-1)
    to_discs = np.abs(pixels[..., None] - discs).min(-1)
    far = (to_paddles > parameters.paddle_length / 2 + parameters.paddle_thickness / 2 + 1.5) & (
        to_discs > parameters.marker_radius + 1.5
    )
    assert far.sum() > size**2 / 8
    assert image[far].max() == 0
