"""What a run will take, from what shorter runs took: the ground for skipping it."""

import math
from dataclasses import dataclass, field

Point = tuple[int, float]


@dataclass
class Forecast:
    """Time and memory of one candidate, extrapolated by powers of the size from the last measurement.

    Attributes:
        time_order: the power for time; None to take the slope of the last two measurements, from 1 to 2.
        memory_order: the power for memory.
        closed: why nothing longer is worth trying; empty if nothing speaks against it.

    Example:
        >>> forecast = Forecast(time_order=2)
        >>> forecast.add_time(100, 0.5)
        >>> forecast.seconds(400)
        8.0
    """

    time_order: float | None = None
    memory_order: float = 1.0
    closed: str = ""
    times: list[Point] = field(default_factory=list)
    memory: list[Point] = field(default_factory=list)

    def add_time(self, size: int, seconds: float) -> None:
        """Takes up a measured time."""
        self.times = [point for point in self.times if point[0] != size] + [(size, seconds)]

    def add_memory(self, size: int, held: float) -> None:
        """Takes up measured bytes."""
        self.memory.append((size, max(held, 0.0)))

    def seconds(self, size: int) -> float | None:
        """The expected time, None where nothing is known."""
        if not self.times:
            return None
        order = self._slope() if self.time_order is None else self.time_order
        return _extrapolated(self.times[-1], size, order)

    def bytes(self, size: int) -> float:
        """The expected memory, 0 where nothing is known."""
        return _extrapolated(self.memory[-1], size, self.memory_order) if self.memory else 0.0

    def _slope(self) -> float:
        if len(self.times) < 2:
            return 1.0
        (shorter, quick), (longer, slow) = self.times[-2:]
        return min(2.0, max(1.0, math.log(slow / quick) / math.log(longer / shorter)))


def _extrapolated(point: Point, size: int, order: float) -> float:
    return point[1] * (size / point[0]) ** order
