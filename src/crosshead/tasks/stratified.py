import numpy as np


def stratified_split(
    labels: np.ndarray, *, test_fraction: float = 0.2, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Split at random so that each class is shared out in the same proportion.

    The same labels, fraction and seed give the same split on every machine and with every version of NumPy.

    Args:
        labels: Integers, (N,).
        test_fraction: The share of each class, rounded, that is held out: at least one item of each class.
        seed: Of the shuffle.

    Returns:
        The indices of the training and of the test items, both ascending.

    Raises:
        ValueError: When a class has fewer than two items, so that one of the splits would lack it.

    Example:
        >>> train, test = stratified_split(np.array([0, 0, 0, 0, 0, 1, 1]))
        >>> len(train), len(test)
        (5, 2)
    """
    # RandomState is the generator whose streams NumPy has frozen: those of default_rng may change.
    generator = np.random.RandomState(seed)
    held_out = np.zeros(len(labels), dtype=bool)
    for label, count in zip(*np.unique(labels, return_counts=True), strict=True):
        if count < 2:
            raise ValueError(f"labels has one item of class {label}; a split needs two or more of each class")
        chosen = generator.permutation(count)[: min(max(1, round(count * test_fraction)), count - 1)]
        held_out[np.flatnonzero(labels == label)[chosen]] = True
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)
