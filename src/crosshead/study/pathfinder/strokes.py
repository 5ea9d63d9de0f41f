"""Distances of strokes. Points and directions are complex numbers, as in `pathfinder_snakes`."""

import numpy as np


def distance_to_stroke(points: np.ndarray, tail: complex, direction: complex, *, length: float) -> np.ndarray:
    """Distance of points to a segment.

    Example:
        >>> distance_to_stroke(np.array([3 + 4j, -3 - 4j]), 0j, 1 + 0j, length=3.0)
        array([4., 5.])
    """
    offset = points - tail
    along = np.clip((offset * direction.conjugate()).real, 0, length)
    return np.abs(offset - along * direction)


def distance_of_strokes(
    stroke: tuple[complex, complex], other: tuple[complex, complex], *, length: float
) -> float:
    """Least distance of two segments of one length, each a tail and a direction; zero where they cross.

    Example:
        >>> distance_of_strokes((0j, 1 + 0j), (4j, 1j), length=3.0)
        4.0
        >>> distance_of_strokes((0j, 1 + 0j), (1 - 1j, 1j), length=3.0)
        0.0
    """
    offset = other[0] - stroke[0]
    # Where the two lines meet, as the distance from either tail; parallel lines meet nowhere.
    sine = _cross(stroke[1], other[1])
    if sine:
        along, other_along = _cross(offset, other[1]) / sine, _cross(offset, stroke[1]) / sine
        if 0 <= along <= length and 0 <= other_along <= length:
            return 0.0
    distances = []
    for (tail, direction), (point, away) in ((stroke, other), (other, stroke)):
        for end in (point, point + length * away):
            along = ((end - tail) * direction.conjugate()).real
            distances.append(abs(end - tail - min(max(along, 0.0), length) * direction))
    return min(distances)


def _cross(a: complex, b: complex) -> float:
    return a.real * b.imag - a.imag * b.real
