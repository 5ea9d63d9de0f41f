"""Times of several computations that take turns, so that whatever disturbs the machine disturbs all alike."""

import math
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

# A sample shorter than this is made of several calls, or the clock would be part of what is measured.
SHORTEST_SAMPLE = 0.01
MOST_CALLS = 100


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How often one computation is timed: `rounds` samples of `calls` calls."""

    rounds: int
    calls: int


def plan_samples(seconds: float, *, budget: float, repeats: int) -> Sampling:
    """As many rounds as fit the budget, one at least, and as many calls as make a sample long enough.

    Args:
        seconds: what one call is expected to take.
        budget: seconds for all.
        repeats: rounds at most.

    Example:
        >>> plan_samples(0.001, budget=10, repeats=5)
        Sampling(rounds=5, calls=10)
        >>> plan_samples(4, budget=10, repeats=5)
        Sampling(rounds=2, calls=1)
    """
    calls = min(MOST_CALLS, max(1, math.ceil(SHORTEST_SAMPLE / max(seconds, 1e-9))))
    return Sampling(rounds=max(1, min(repeats, int(budget / max(seconds * calls, 1e-9)))), calls=calls)


def time_calls(run: Callable[[], object], calls: int, *, device: str) -> float:
    """Seconds of one call, the mean over `calls`.

    On CUDA by events on the stream, with the device idle before and after.
    """
    if device != "cuda":
        start = time.perf_counter()
        for _ in range(calls):
            run()
        return (time.perf_counter() - start) / calls
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    start.record()
    for _ in range(calls):
        run()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / 1000 / calls


def time_in_turns(
    runs: Mapping[str, Callable[[], object]],
    samplings: Mapping[str, Sampling],
    *,
    device: str,
    tell: Callable[[str, float], None] = lambda name, fraction: None,
) -> tuple[dict[str, list[float]], dict[str, Exception]]:
    """Times computations round by round; one of fewer rounds ends earlier.

    Args:
        runs: what to time, by name.
        samplings: how often, by the same names.
        device: "cpu" or "cuda".
        tell: called with the name before each sample, and the fraction of samples that are done.

    Returns:
        Seconds of one call, a number for each round; and what ended those that failed, by name.
    """
    times: dict[str, list[float]] = {name: [] for name in runs}
    failed: dict[str, Exception] = {}
    done, samples = 0, sum(sampling.rounds for sampling in samplings.values())
    for turn in range(max((sampling.rounds for sampling in samplings.values()), default=0)):
        for name, run in runs.items():
            if turn >= samplings[name].rounds or name in failed:
                continue
            tell(name, done / samples)
            done += 1
            try:
                times[name].append(time_calls(run, samplings[name].calls, device=device))
            except Exception as error:  # out of memory, and whatever else packages do at full size
                failed[name] = error
    return {name: seconds for name, seconds in times.items() if name not in failed}, failed


def compare(
    runs: Mapping[str, Callable[[], object]], *, budget: float, repeats: int, device: str
) -> dict[str, dict[str, float]]:
    """Times computations in turns, none of which may fail, after one call of each to warm up.

    Args:
        runs: what to time, by name.
        budget: seconds for each.
        repeats: rounds at most.
        device: "cpu" or "cuda".

    Returns:
        By the same names, what `quartiles` gives.

    Raises:
        Exception: whatever ended a computation.

    Example:
        >>> sorted(compare({"one": lambda: 1, "two": lambda: 2}, budget=0.1, repeats=1, device="cpu"))
        ['one', 'two']
    """
    plans = {}
    for name, run in runs.items():
        run()
        plans[name] = plan_samples(time_calls(run, 1, device=device), budget=budget, repeats=repeats)
    times, failed = time_in_turns(runs, plans, device=device)
    if failed:
        raise next(iter(failed.values()))
    return {name: quartiles(seconds) for name, seconds in times.items()}


def quartiles(times: list[float]) -> dict[str, float]:
    """Median, quartiles and minimum, as columns.

    Example:
        >>> quartiles([3.0, 1.0, 2.0])
        {'median_s': 2.0, 'q25_s': 1.5, 'q75_s': 2.5, 'min_s': 1.0}
    """
    q25, median, q75 = (
        statistics.quantiles(times, n=4, method="inclusive") if len(times) > 1 else 3 * [times[0]]
    )
    named = {"median_s": median, "q25_s": q25, "q75_s": q75, "min_s": min(times)}
    return {name: float(f"{seconds:.6g}") for name, seconds in named.items()}
