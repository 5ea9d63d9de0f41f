"""Measuring several candidates of one size together: skip, check, warm up, take turns, weigh."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from crosshead.bench.checks import WrongResult
from crosshead.bench.forecast import Forecast
from crosshead.bench.memory import MeasurementError, available_bytes
from crosshead.measure.timing import plan_samples, quartiles, time_calls, time_in_turns
from crosshead.bench.trial import Trial

Tell = Callable[[str, float], None]
# Of the memory that there is, a run may be expected to take this much.
MEMORY_SHARE = 0.8
# Seconds below which a forecast is worth replacing by one more run.
QUICK = 0.5


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One thing to measure at one size.

    Attributes:
        name: of the provider or model.
        trial: prepares it; raises what makes it impossible.
        probe: prepares it at a small size, which it returns too, for a first guess of time.
        check: says what was found right, or raises `WrongResult`.
        memory: bytes of one run, as columns.
        forecast: what earlier sizes took.
        least_bytes: what it will hold at least, where that is known beforehand.
        remedy: what to do where its package is missing.
    """

    name: str
    trial: Callable[[], Trial]
    probe: Callable[[], tuple[Trial, int]]
    check: Callable[[], str]
    memory: Callable[[], dict[str, int]] | None
    forecast: Forecast
    least_bytes: float = 0.0
    remedy: str = ""


@dataclass(kw_only=True)
class Outcome:
    """What came of a candidate; columns of its row."""

    status: str = "measured"
    checked: str = ""
    repeats: int = 0
    calls: int = 0
    times: dict[str, float] = field(default_factory=dict)
    memory: dict[str, int] = field(default_factory=dict)


class Skip(Exception):
    """A candidate that is left out; the message says why."""


def measure_group(
    candidates: Sequence[Candidate], size: int, *, budget: float, repeats: int, device: str, tell: Tell
) -> dict[str, Outcome]:
    """Measures candidates of one size; whatever happens to one, the others go on.

    Args:
        candidates: what to measure.
        size: what their forecasts extrapolate by, tokens or pixels.
        budget: seconds for the samples of one candidate.
        repeats: rounds at most.
        device: "cpu" or "cuda".
        tell: called with what is being done, and the share that is done.

    Returns:
        An outcome for each candidate, by name, in their order.
    """
    outcomes = {candidate.name: Outcome() for candidate in candidates}
    runs, plans = {}, {}
    for number, candidate in enumerate(candidates):
        outcome = outcomes[candidate.name]
        tell(f"{candidate.name}: checking", number / len(candidates) / 3)
        try:
            seconds = _expected(candidate, size, budget=budget, device=device)
            outcome.checked = candidate.check()
            trial = candidate.trial()
            # A first run that takes long tells as much as any other; a median leaves it out.
            if trial.compiles or seconds < budget / 8:
                if not trial.run().output.isfinite().all():
                    raise WrongResult("output is not finite at this size")
                seconds = time_calls(trial.run, 1, device=device) if seconds < QUICK else seconds
            runs[candidate.name] = trial.run
            plans[candidate.name] = plan_samples(seconds, budget=budget, repeats=repeats)
        except Exception as error:
            outcome.status = _reason(error, candidate, size)
    times, failed = time_in_turns(
        runs, plans, device=device, tell=lambda name, share: tell(f"{name}: timing", (1 + share) / 3)
    )
    runs.clear()
    for number, candidate in enumerate(candidates):
        outcome = outcomes[candidate.name]
        if candidate.name in failed:
            outcome.status = _reason(failed[candidate.name], candidate, size)
        if candidate.name not in times:
            continue
        samples = times[candidate.name]
        outcome.repeats, outcome.calls = len(samples), plans[candidate.name].calls
        outcome.times = quartiles(samples)
        candidate.forecast.add_time(size, outcome.times["median_s"])
        if candidate.memory is not None:
            tell(f"{candidate.name}: memory", (2 + number / len(candidates)) / 3)
            try:
                outcome.memory = candidate.memory()
                candidate.forecast.add_memory(size, outcome.memory["peak_bytes"])
            except MeasurementError as error:
                outcome.status = f"measured, but not its memory: {error}"
    return outcomes


def _expected(candidate: Candidate, size: int, *, budget: float, device: str) -> float:
    """Seconds that one run will take.

    Raises:
        Skip: If it would take too long or too much memory.
    """
    forecast = candidate.forecast
    if forecast.closed:
        raise Skip(forecast.closed)
    needed, room = max(forecast.bytes(size), candidate.least_bytes), MEMORY_SHARE * available_bytes(device)
    if needed > room:
        raise Skip(f"one run would hold about {needed / 2**30:,.1f} GiB, there are {room / 2**30:,.1f} GiB")
    if not forecast.times:
        trial, small = candidate.probe()
        trial.run()
        forecast.add_time(small, time_calls(trial.run, 1, device=device))
    seconds = forecast.seconds(size) or 0.0
    if seconds > budget:
        raise Skip(f"one run would take about {seconds:,.0f} s, the budget is {budget:,.0f} s")
    return seconds


def _reason(error: Exception, candidate: Candidate, size: int) -> str:
    if isinstance(error, Skip | NotImplementedError):
        return f"skipped: {_first_line(error)}"
    if isinstance(error, ImportError):
        return f"skipped: not installed: {candidate.remedy or _first_line(error)}"
    if isinstance(error, WrongResult):
        return f"wrong: {error}"
    candidate.forecast.closed = f"failed at {size:,} already"
    return f"failed: {type(error).__name__}: {_first_line(error)}"


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
