"""How long a training will still take, from what its epochs took so far."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from crosshead.cli.progress import clock


class Epoch(NamedTuple):
    """An epoch of a training.

    Attributes:
        kind: epochs of one kind take about the same time.
        validated: whether a validation follows.
    """

    kind: str
    validated: bool


class Forecast:
    """The time left, where it can be known: epochs of a kind that has not begun may cost anything.

    It is told of each step, and of the time then, in seconds.

    Args:
        epochs: all of the training.
        steps: of an epoch.
        val_batches: of a validation.

    Example:
        >>> forecast = Forecast([Epoch("blocks", False), Epoch("features", False)], steps=4, val_batches=0)
        >>> forecast.begin(0, now=0.0)
        >>> for step in (1, 2):
        ...     forecast.step(step, now=10.0 * step)
        >>> forecast.left(now=20.0)
        '0:00:20 left of blocks'
    """

    def __init__(self, epochs: Sequence[Epoch], *, steps: int, val_batches: int) -> None:
        self.epochs, self.steps, self.val_batches, self.epoch = epochs, steps, val_batches, 0
        # Seconds of the latest epoch of each kind, without its validation, and of the latest validation.
        self.training: dict[str, float] = {}
        self.validation: float | None = None
        self._begin(0.0)

    def begin(self, epoch: int, *, now: float) -> None:
        """An epoch begins."""
        self.epoch = epoch
        self._begin(now)

    def _begin(self, now: float) -> None:
        self.began = self.first_step = now
        self.done = self.validated = 0
        self.ended = False
        self.validation_began: float | None = None

    def step(self, done: int, *, now: float) -> None:
        """So many steps of the epoch are done."""
        # Much may come before the first one: loaders start, models are compiled.
        self.first_step = now if done == 1 else self.first_step
        self.done = done

    def validate(self, done: int, *, now: float) -> None:
        """So many batches of the validation are done; none as it begins."""
        if self.validation_began is None:
            self.validation_began = now
            self.training[self.epochs[self.epoch].kind] = now - self.began
        self.validated = done

    def end(self, *, now: float) -> None:
        """The epoch ends."""
        if self.validation_began is None:
            self.training[self.epochs[self.epoch].kind] = now - self.began
        else:
            self.validation = now - self.validation_began
        self.ended = True

    def left(self, *, now: float) -> str:
        """In words, for all epochs or for those of the present kind; "" where neither is known."""
        kind = self.epochs[self.epoch].kind
        present, later = self._rest_of_epoch(now), self.epochs[self.epoch + 1 :]
        if present is None:
            return ""
        unknown = {epoch.kind for epoch in later} - self.training.keys() - {kind}
        known = [epoch for epoch in later if epoch.kind not in unknown]
        seconds = math.ceil(present + sum(self._seconds(epoch, now) for epoch in known))
        if not unknown:
            return f"{clock(seconds)} left"
        return f"{clock(seconds)} left of {kind}" if seconds else ""

    def _rest_of_epoch(self, now: float) -> float | None:
        kind, validated = self.epochs[self.epoch]
        if self.ended:
            return 0.0
        if self.validation_began is not None:
            elapsed = now - self.validation_began
            if self.validated:
                return elapsed / self.validated * (self.val_batches - self.validated)
            return max(0.0, self._validation(now) - elapsed)
        if (of_step := self._seconds_of_step(now)) is not None:
            rest = of_step * (self.steps - self.done)
        elif kind in self.training:
            rest = max(0.0, self.training[kind] - (now - self.began))
        else:
            return None
        return rest + self._validation(now) * validated

    def _seconds(self, epoch: Epoch, now: float) -> float:
        training = self.training.get(epoch.kind)
        if training is None:
            training = (self._seconds_of_step(now) or 0.0) * self.steps
        return training + self._validation(now) * epoch.validated

    def _seconds_of_step(self, now: float) -> float | None:
        return (now - self.first_step) / (self.done - 1) if self.done > 1 else None

    def _validation(self, now: float) -> float:
        """Seconds of a validation; before the first, a batch is taken to need as long as a step."""
        if self.validation is not None:
            return self.validation
        if self.validation_began is not None and self.validated:
            return (now - self.validation_began) / self.validated * self.val_batches
        return (self._seconds_of_step(now) or 0.0) * self.val_batches
