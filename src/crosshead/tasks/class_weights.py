"""Weights of classes in a loss, so that the rare count as much as the frequent."""

from collections.abc import Sequence

import numpy as np


def balanced_weights(counts: Sequence[int] | np.ndarray) -> tuple[float, ...]:
    """The weight of each class that gives all of them the same weight in all, as scikit-learn's "balanced".

    It is the mean count of a class over its own, so that the weights of all samples have a mean of 1.

    Args:
        counts: samples of each class; one without any gets the weight 1, and is not counted.

    Raises:
        ValueError: if there is no sample.

    Example:
        >>> balanced_weights([6, 2, 1])
        (0.5, 1.5, 3.0)
    """
    found = np.asarray(counts, dtype=np.float64)
    present = found > 0
    if not present.any():
        raise ValueError("counts must have a sample of some class; got none")
    weights = np.ones(len(found))
    weights[present] = found.sum() / (present.sum() * found[present])
    return tuple(weights.tolist())
