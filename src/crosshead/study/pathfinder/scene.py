from dataclasses import dataclass

import numpy as np

from crosshead.study.pathfinder.parameters import PathfinderParameters
from crosshead.study.pathfinder.snakes import Layout, Snake

# How many images are begun before the contours are taken to find no room.
IMAGE_TRIES = 300


@dataclass(frozen=True)
class Scene:
    """One image before it is drawn.

    Attributes:
        targets: the two long snakes.
        distractors: the short ones.
        discs: the centres of the two discs: the start of a target, and the end of a target.
        label: 1 when both discs are at the ends of the same snake, else 0.
    """

    targets: tuple[Snake, Snake]
    distractors: tuple[Snake, ...]
    discs: tuple[complex, complex]
    label: int


def make_scene(rng: np.random.Generator, parameters: PathfinderParameters) -> Scene:
    """Lay out one image: label, two target snakes, distractors, discs.

    The label is drawn first and decides nothing but where the second disc goes, so the contours know nothing
    of it.

    Raises:
        ValueError: if the contours find no room in `IMAGE_TRIES` images.
    """
    label = int(rng.integers(2))
    for _ in range(IMAGE_TRIES):
        snakes = Layout(rng, parameters).fill()
        if snakes is not None:
            break
    else:
        raise ValueError(
            f"contour_length is {parameters.contour_length}; no room for two such contours and "
            f"{parameters.distractors} distractors in {parameters.size} x {parameters.size} pixels: choose a "
            "smaller contour_length or a larger size"
        )
    marked = int(rng.integers(2))
    start = snakes[marked].tails[0]
    end = snakes[marked if label else 1 - marked].heads[-1]
    return Scene((snakes[0], snakes[1]), tuple(snakes[2:]), (complex(start), complex(end)), label)
