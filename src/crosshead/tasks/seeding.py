"""Randomness that depends on nothing but named numbers: the seed, the epoch, the image.

Lightning's checkpoints hold no generator state. Whatever is drawn between two checkpoints therefore has to be
a function of numbers that a resumed run knows as well.
"""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def seed_from(*numbers: int) -> int:
    """One well mixed 32-bit seed from several small numbers; their order counts.

    Example:
        >>> seed_from(0, 1, 2) == seed_from(0, 1, 2), seed_from(0, 1, 2) == seed_from(0, 2, 1)
        (True, False)
    """
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


def seed_everything(*numbers: int) -> None:
    """Seeds Python's, NumPy's and PyTorch's generators, those of every device included."""
    seed = seed_from(*numbers)
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


@contextmanager
def seeded_on_host(*numbers: int) -> Iterator[None]:
    """Seeds the generators that augmentation draws from, on the host alone, and puts them back afterwards.

    Without the way back, images loaded in the main process would advance the generators that dropout draws
    from, and the number of loader workers would change the result of a training.
    """
    torch_generator = torch.default_generator
    before = random.getstate(), np.random.get_state(), torch_generator.get_state()
    seed = seed_from(*numbers)
    random.seed(seed)
    np.random.seed(seed)
    torch_generator.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        torch_generator.set_state(before[2])
