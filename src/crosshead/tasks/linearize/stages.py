"""Which epochs of a linearization are for what, and how fast they learn."""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

Kind = Literal["attention", "block", "features"]

# The part of a block's epoch in which its learning rate rises.
WARM_UP = 0.05


class Stage(NamedTuple):
    """Epochs in which the same thing is learned.

    Attributes:
        kind: what is learned.
        first: the number of its first epoch, from 0.
        epochs: how many.
        peak: largest learning rate.
        block: the place of the block that learns.
    """

    kind: Kind
    first: int
    epochs: int
    peak: float
    block: int | None = None

    def rate(self, epoch: float, *, warm_up: float, lowest: float) -> float:
        """The learning rate after so many epochs of a training: a warm-up, and a cosine.

        Args:
            epoch: of the training, not of the stage; the last may be unfinished.
            warm_up: epochs in which the rate rises, at most half of the stage; a block has its own.
            lowest: where the cosine ends.

        Example:
            >>> stage = Stage("features", first=2, epochs=4, peak=1e-3)
            >>> [round(stage.rate(epoch, warm_up=1, lowest=0.0), 6) for epoch in (2, 2.5, 3, 4.5, 6)]
            [0.0, 0.0005, 0.001, 0.0005, 0.0]
        """
        rising = WARM_UP if self.kind == "block" else min(warm_up, self.epochs / 2)
        done = epoch - self.first
        if done < rising:
            return self.peak * done / rising
        cosine = 0.5 + 0.5 * math.cos(math.pi * (done - rising) / (self.epochs - rising))
        return lowest + (self.peak - lowest) * cosine


def plan(epochs: tuple[int, int], blocks: Sequence[int], rates: tuple[float, float, float]) -> list[Stage]:
    """The stages of a training, in order; those without an epoch are left out.

    Args:
        epochs: for all attention at once, and for the whole net.
        blocks: the places of those that learn one after the other between these.
        rates: peak learning rates of attention, blocks and the whole net.

    Example:
        >>> [(stage.kind, stage.first) for stage in plan((4, 0), [0, 1], (1e-3, 3e-4, 1e-5))]
        [('attention', 0), ('block', 4), ('block', 5)]
    """
    attention, features = epochs
    stages = [
        Stage("attention", 0, attention, rates[0]),
        *(Stage("block", attention + number, 1, rates[1], block) for number, block in enumerate(blocks)),
        Stage("features", attention + len(blocks), features, rates[2]),
    ]
    return [stage for stage in stages if stage.epochs]
