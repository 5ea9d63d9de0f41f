from dataclasses import replace

import numpy as np
import pytest

from crosshead.study.pathfinder.parameters import PARAMETERS
from crosshead.study.pathfinder.scene import make_scene


@pytest.fixture(scope="module")
def scenes():
    short = replace(PARAMETERS[32], contour_length=6)
    return [make_scene(np.random.default_rng(seed), short) for seed in range(200)]


def test_discs_lie_at_the_ends_of_one_snake_exactly_when_the_label_says_so(scenes):
    for scene in scenes:
        starts = [complex(snake.tails[0]) for snake in scene.targets]
        ends = [complex(snake.heads[-1]) for snake in scene.targets]
        start, end = scene.discs
        assert scene.label == (starts.index(start) == ends.index(end))


def test_labels_and_the_snake_that_is_marked_are_each_alike(scenes):
    marked = [scene.discs[0] == scene.targets[1].tails[0] for scene in scenes]
    labels = [scene.label for scene in scenes]
    agree = [label == mark for label, mark in zip(labels, marked, strict=True)]
    for cases in labels, marked, agree:
        assert abs(np.mean(cases) - 0.5) < 4 * 0.5 / np.sqrt(len(scenes))


def test_the_contours_do_not_know_the_label(scenes):
    """The same generator gives the same contours, whichever label it is made to draw."""

    class Labelled:
        def __init__(self, label):
            self.rng, self.first, self.label = np.random.default_rng(1), True, label

        def __getattr__(self, name):
            return getattr(self.rng, name)

        def integers(self, *args, **kwargs):
            drawn = self.rng.integers(*args, **kwargs)
            first, self.first = self.first, False
            return self.label if first else drawn

    separate, connected = (make_scene(Labelled(label), PARAMETERS[32]) for label in (0, 1))  # pyright: ignore
    assert (separate.label, connected.label) == (0, 1)
    for one, other in zip(
        (*separate.targets, *separate.distractors), (*connected.targets, *connected.distractors), strict=True
    ):
        assert np.array_equal(one.pivots, other.pivots)
    assert separate.discs[0] == connected.discs[0]
    assert separate.discs[1] != connected.discs[1]
