"""A few items that stand for a whole set."""

import numpy as np

# Images whose brightness stands for that of all.
MEASURED = 64


def spread(count: int, *, most: int = MEASURED) -> list[int]:
    """Positions spread evenly over a set, the first and the last among them; always the same ones.

    Args:
        count: how many there are to choose from.
        most: how many to choose at most.

    Example:
        >>> spread(9, most=3)
        [0, 4, 8]
    """
    return np.unique(np.linspace(0, count - 1, min(count, most)).astype(int)).tolist()
