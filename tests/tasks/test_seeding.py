import random

import numpy as np
import pytest
import torch

from crosshead.tasks.seeding import seed_everything, seed_from, seeded_on_host


def draw() -> tuple[float, float, float]:
    return random.random(), float(np.random.rand()), float(torch.rand(()))


def test_seeds_of_neighbouring_epochs_and_images_all_differ():
    seeds = {seed_from(seed, epoch, image) for seed in range(5) for epoch in range(20) for image in range(20)}
    assert len(seeds) == 5 * 20 * 20


def test_every_generator_follows_the_numbers():
    seed_everything(1, 2)
    first = draw()
    seed_everything(1, 2)
    assert draw() == first
    seed_everything(1, 3)
    assert all(one != other for one, other in zip(draw(), first, strict=True))


def test_a_seeded_block_leaves_every_generator_as_it_was():
    seed_everything(7)
    expected = draw()
    seed_everything(7)
    with seeded_on_host(1, 2, 3):
        inside = draw()
    assert draw() == expected
    with seeded_on_host(1, 2, 3):
        assert draw() == inside


def test_the_generators_come_back_after_an_error():
    seed_everything(7)
    expected = draw()
    seed_everything(7)

    def fail():
        with seeded_on_host(1):
            draw()
            raise ConnectionError

    with pytest.raises(ConnectionError):
        fail()
    assert draw() == expected
