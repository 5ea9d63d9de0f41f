"""Where the contours of a Pathfinder image lie.

Legend: points of the plane are complex numbers `x + iy` in pixels, x to the right, y downwards, (0, 0) the
outer corner of the first pixel; directions are complex numbers of modulus one. A paddle belongs to a
pivot `p` and a direction `u`: its stroke runs from `p + margin u` to `p + (margin + length) u`, and the
next pivot of its snake is `p + (length + 2 margin) u`.
"""

import cmath
import math
from dataclasses import dataclass

import numpy as np

from crosshead.study.pathfinder.parameters import PathfinderParameters
from crosshead.study.pathfinder.strokes import distance_of_strokes, distance_to_stroke

# How often each step is tried before the one that contains it starts anew.
PADDLE_TRIES = 3
SEED_TRIES = 20
DISTRACTOR_TRIES = 40
TARGET_TRIES = 60
# How many of its paddles a target that can go nowhere takes back before it goes on.
TAKEN_BACK = 4
# Turning angles to choose among, evenly spaced over those whose weight is not zero.
TURNS = 48


@dataclass(frozen=True)
class Snake:
    """A contour of disconnected paddles.

    Attributes:
        pivots: where each paddle's space begins, complex, (paddles,).
        directions: where each paddle points, complex of modulus one, (paddles,).
        length: length of a paddle.
        margin: free space before and behind each.
    """

    pivots: np.ndarray
    directions: np.ndarray
    length: float
    margin: float

    @property
    def tails(self) -> np.ndarray:
        """Where each stroke begins."""
        return self.pivots + self.margin * self.directions

    @property
    def heads(self) -> np.ndarray:
        """Where each stroke ends."""
        return self.pivots + (self.margin + self.length) * self.directions

    @property
    def centres(self) -> np.ndarray:
        """The middle of each stroke."""
        return (self.tails + self.heads) / 2


class Layout:
    """The paddles laid out so far, and the search for places for more.

    Every paddle has a slot of its own in the arrays: the first target has the first `contour_length`, in
    order, then the second, then the distractors. Where a slot is empty its centre is infinitely far away.
    """

    def __init__(self, rng: np.random.Generator, parameters: PathfinderParameters) -> None:
        self.rng = rng
        self.parameters = parameters
        self.length = parameters.paddle_length
        margins = parameters.paddle_margins
        self.margin = margins[int(rng.integers(len(margins)))]
        # Between the axes of two strokes: one stroke stays out of the other one dilated by the margin.
        self.clearance = self.margin + parameters.paddle_thickness
        self.border = parameters.padding + parameters.paddle_thickness / 2
        slots = 2 * parameters.contour_length + parameters.distractors * parameters.distractor_length
        self.pivots = np.zeros(slots, complex)
        self.directions = np.zeros(slots, complex)
        self.centres = np.full(slots, np.inf, complex)
        angles = (np.arange(TURNS) + 0.5 - TURNS / 2) * (math.pi / TURNS / parameters.continuity)
        self.turns = np.exp(1j * angles)
        self.weights = np.cos(parameters.continuity * angles) ** 2

    def fill(self) -> list[Snake] | None:
        """The targets and the distractors, or None where the chosen ones leave no room."""
        contour, short = self.parameters.contour_length, self.parameters.distractor_length
        targets = slice(0, contour), slice(contour, 2 * contour)
        distractors = [slice(first, first + short) for first in range(2 * contour, len(self.centres), short)]
        if not self._fill_targets(contour):
            return None
        for slots in distractors:
            if not any(self._fill_distractor(slots) for _ in range(DISTRACTOR_TRIES)):
                return None
        return [
            Snake(self.pivots[slots], self.directions[slots], self.length, self.margin)
            for slots in (*targets, *distractors)
        ]

    def _fill_targets(self, contour: int) -> bool:
        distance = self.parameters.seed_distance
        seed = self._any_point(2 * distance)
        if not self._place(0, seed, self._any_direction()):
            return False
        if not any(
            self._place(contour, seed + distance * self._any_direction(), self._any_direction())
            for _ in range(SEED_TRIES)
        ):
            return False
        ends = [1, 1]
        for _ in range(2 * (contour - 1) + TARGET_TRIES):
            if ends == [contour, contour]:
                return True
            snake = int(ends[1] < ends[0])
            slot = snake * contour + ends[snake]
            if self._extend(slot):
                ends[snake] += 1
            else:
                ends[snake] = max(ends[snake] - TAKEN_BACK, 1)
                self.centres[snake * contour + ends[snake] : slot] = np.inf
        return ends == [contour, contour]

    def _fill_distractor(self, slots: slice) -> bool:
        if any(
            self._place(slots.start, self._any_point(0), self._any_direction()) for _ in range(SEED_TRIES)
        ) and all(self._extend(slot) for slot in range(slots.start + 1, slots.stop)):
            return True
        self.centres[slots] = np.inf
        return False

    def _any_point(self, border: float) -> complex:
        x, y = self.rng.uniform(border, self.parameters.size - border, 2).tolist()
        return complex(x, y)

    def _any_direction(self) -> complex:
        return cmath.rect(1, 2 * math.pi * self.rng.random())

    def _extend(self, slot: int) -> bool:
        """Adds a paddle to the one in the slot before, or says that there was no room in a few tries."""
        direction = complex(self.directions[slot - 1])
        pivot = complex(self.pivots[slot - 1]) + (self.length + 2 * self.margin) * direction
        directions = direction * self.turns
        summed = np.cumsum(self.weights * self._free_heads(slot, pivot, directions))
        if summed[-1] == 0:
            return False
        for _ in range(PADDLE_TRIES):
            choice = np.searchsorted(summed, self.rng.random() * summed[-1], side="right")
            if self._place(slot, pivot, complex(directions[choice]), neighbour=slot - 1):
                return True
        return False

    def _free_heads(self, slot: int, pivot: complex, directions: np.ndarray) -> np.ndarray:
        """Which strokes from one pivot would end in free space, (directions,)."""
        reach = self.length + self.margin
        heads = pivot + reach * directions
        low, high = self.border, self.parameters.size - self.border
        free = (np.abs(heads.real - (low + high) / 2) <= (high - low) / 2) & (
            np.abs(heads.imag - (low + high) / 2) <= (high - low) / 2
        )
        for other in self._near(pivot, reach + self.length / 2 + self.clearance):
            if other != slot - 1:
                tail, along = self._stroke(other)
                free &= distance_to_stroke(heads, tail, along, length=self.length) >= self.clearance
        return free

    def _place(self, slot: int, pivot: complex, direction: complex, *, neighbour: int | None = None) -> bool:
        """Puts a paddle into a slot, or returns False where there is no room.

        The paddle before it in the same snake, `neighbour`, may be closer than the others.
        """
        tail = pivot + self.margin * direction
        head = tail + self.length * direction
        low, high = self.border, self.parameters.size - self.border
        if min(tail.real, tail.imag, head.real, head.imag) < low:
            return False
        if max(tail.real, tail.imag, head.real, head.imag) > high:
            return False
        centre = (tail + head) / 2
        for other in self._near(centre, self.length + self.clearance):
            if other != neighbour and (
                distance_of_strokes((tail, direction), self._stroke(other), length=self.length)
                < self.clearance
            ):
                return False
        self.pivots[slot], self.directions[slot], self.centres[slot] = pivot, direction, centre
        return True

    def _near(self, point: complex, distance: float) -> list[int]:
        return np.flatnonzero(np.abs(self.centres - point) < distance).tolist()

    def _stroke(self, slot: int) -> tuple[complex, complex]:
        direction = complex(self.directions[slot])
        return complex(self.pivots[slot]) + self.margin * direction, direction
