"""Several entries of one size measured together: skip, check, warm up, time in turns, weigh."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from crosshead.bench.checks import WrongResult
from crosshead.measure.memory import MeasurementError, available_bytes
from crosshead.measure.timing import plan_samples, quartiles, time_calls, time_in_turns
from crosshead.measure.workload import Workload

# Called with what is being done, and the fraction that is done.
Tell = Callable[[str, float], None]
# A run may be expected to take this fraction of the memory that is available.
MEMORY_FRACTION = 0.8
# Seconds below which a forecast is worth replacing by one more run.
QUICK = 0.5

Point = tuple[int, float]


@dataclass
class Forecast:
    """Time and memory of one entry, extrapolated by powers of the size from the last measurement.

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
        """Notes a measured time; of one size the last counts."""
        self.times = [point for point in self.times if point[0] != size] + [(size, seconds)]

    def add_memory(self, size: int, held: float) -> None:
        """Notes measured bytes."""
        self.memory.append((size, max(held, 0.0)))

    def seconds(self, size: int) -> float | None:
        """The expected time; None where nothing is known."""
        if not self.times:
            return None
        return _extrapolated(
            self.times[-1], size, self._slope() if self.time_order is None else self.time_order
        )

    def bytes(self, size: int) -> float:
        """The expected memory; 0 where nothing is known."""
        return _extrapolated(self.memory[-1], size, self.memory_order) if self.memory else 0.0

    def _slope(self) -> float:
        if len(self.times) < 2:
            return 1.0
        (shorter, quick), (longer, slow) = self.times[-2:]
        return min(2.0, max(1.0, math.log(slow / quick) / math.log(longer / shorter)))


def _extrapolated(point: Point, size: int, order: float) -> float:
    return point[1] * (size / point[0]) ** order


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One provider or model to measure at one size.

    Attributes:
        name: of the provider or model.
        workload: prepares it; raises what makes it impossible.
        probe: prepares it at a small size, which it returns too, for a first guess of time.
        check: says what was found right, or raises `WrongResult`.
        memory: bytes of one run, as columns; None where memory cannot be measured.
        forecast: what earlier sizes took.
        least_bytes: what it will hold at least, where that is known beforehand.
        remedy: what to do where its package is missing.
    """

    name: str
    workload: Callable[[], Workload]
    probe: Callable[[], tuple[Workload, int]]
    check: Callable[[], str]
    memory: Callable[[], dict[str, int]] | None
    forecast: Forecast
    least_bytes: float = 0.0
    remedy: str = ""


@dataclass(kw_only=True)
class Measurement:
    """What came of an entry."""

    status: str = "measured"
    checked: str = ""
    repeats: int = 0
    calls: int = 0
    times: dict[str, float] = field(default_factory=dict)
    memory: dict[str, int] = field(default_factory=dict)

    def columns(self) -> dict[str, Any]:
        """The columns of its row."""
        names = ("status", "checked", "repeats", "calls")
        return {**{name: getattr(self, name) for name in names}, **self.times, **self.memory}


class Skip(Exception):
    """An entry that is left out; the message says why."""


def tell_steps(tell: Tell, headings: Sequence[str], weights: Sequence[float]) -> Iterator[Tell]:
    """For each step of a whole a `tell` of its own, whose fractions are those of the step.

    Example:
        >>> for each in tell_steps(lambda *told: print(*told), ["short", "long"], [1, 3]):
        ...     each("timing", 0.5)
        short, timing 0.125
        long, timing 0.625
    """
    for number, (heading, weight) in enumerate(zip(headings, weights, strict=True)):
        before = sum(weights[:number])
        yield lambda what, fraction, heading=heading, before=before, weight=weight: tell(
            f"{heading}, {what}", (before + weight * fraction) / sum(weights)
        )


def measure_group(
    entries: Sequence[Entry], size: int, *, budget: float, repeats: int, device: str, tell: Tell
) -> dict[str, Measurement]:
    """Measures entries of one size; whatever happens to one, the others go on.

    Args:
        entries: what to measure.
        size: what their forecasts extrapolate by, tokens or pixels.
        budget: seconds for the samples of one entry.
        repeats: rounds at most.
        device: "cpu" or "cuda".
        tell: called with what is being done, and the fraction that is done.

    Returns:
        A measurement for each entry, by name, in their order.
    """
    measured = {entry.name: Measurement() for entry in entries}
    runs, samplings = {}, {}
    for number, entry in enumerate(entries):
        found = measured[entry.name]
        tell(f"{entry.name}: checking", number / len(entries) / 3)
        try:
            seconds = _expected(entry, size, budget=budget, device=device)
            found.checked = entry.check()
            workload = entry.workload()
            # A first run that takes long tells as much as any other; a median leaves it out.
            if workload.compiles or seconds < budget / 8:
                if not workload.run().output.isfinite().all():
                    raise WrongResult("output is not finite at this size")
                seconds = time_calls(workload.run, 1, device=device) if seconds < QUICK else seconds
            runs[entry.name] = workload.run
            samplings[entry.name] = plan_samples(seconds, budget=budget, repeats=repeats)
        except Exception as error:
            found.status = _reason(error, entry, size)
    times, failed = time_in_turns(
        runs,
        samplings,
        device=device,
        tell=lambda name, fraction: tell(f"{name}: timing", (1 + fraction) / 3),
    )
    runs.clear()
    for number, entry in enumerate(entries):
        found = measured[entry.name]
        if entry.name in failed:
            found.status = _reason(failed[entry.name], entry, size)
        if entry.name not in times:
            continue
        found.repeats, found.calls = len(times[entry.name]), samplings[entry.name].calls
        found.times = quartiles(times[entry.name])
        entry.forecast.add_time(size, found.times["median_s"])
        if entry.memory is not None:
            tell(f"{entry.name}: memory", (2 + number / len(entries)) / 3)
            try:
                found.memory = entry.memory()
                entry.forecast.add_memory(size, found.memory["peak_bytes"])
            except MeasurementError as error:
                found.status = f"measured, but not its memory: {error}"
    return measured


def _expected(entry: Entry, size: int, *, budget: float, device: str) -> float:
    """Seconds that one run will take.

    Raises:
        Skip: if it would take too long or too much memory.
    """
    forecast = entry.forecast
    if forecast.closed:
        raise Skip(forecast.closed)
    needed, room = max(forecast.bytes(size), entry.least_bytes), MEMORY_FRACTION * available_bytes(device)
    if needed > room:
        raise Skip(f"one run would hold about {needed / 2**30:,.1f} GiB, there are {room / 2**30:,.1f} GiB")
    if not forecast.times:
        workload, small = entry.probe()
        workload.run()
        forecast.add_time(small, time_calls(workload.run, 1, device=device))
    seconds = forecast.seconds(size) or 0.0
    if seconds > budget:
        raise Skip(f"one run would take about {seconds:,.0f} s, the budget is {budget:,.0f} s")
    return seconds


def _reason(error: Exception, entry: Entry, size: int) -> str:
    first = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
    if isinstance(error, Skip | NotImplementedError):
        return f"skipped: {first}"
    if isinstance(error, ImportError):
        return f"skipped: not installed: {entry.remedy or first}"
    if isinstance(error, WrongResult):
        return f"wrong: {error}"
    entry.forecast.closed = f"failed at {size:,} already"
    return f"failed: {type(error).__name__}: {first}"
