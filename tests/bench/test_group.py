"""Whatever is wrong with one candidate, its row says so without a time, and the others go on."""

import itertools

import pytest
import torch

from crosshead.bench import group
from crosshead.bench.checks import WrongResult
from crosshead.bench.forecast import Forecast
from crosshead.bench.group import Candidate, measure_group
from crosshead.bench.memory import MeasurementError
from crosshead.bench.trial import Result, Trial

MEMORY = {"peak_bytes": 96, "beyond_bytes": 32}


def raising(error):
    def function(*_):
        raise error

    return function


def candidate(name="a", **changes) -> Candidate:
    trial = Trial(lambda: Result(torch.zeros(2)), [])
    parts = {
        "trial": lambda: trial,
        "probe": lambda: (trial, 10),
        "check": lambda: "output",
        "memory": lambda: dict(MEMORY),
        "forecast": Forecast(),
    }
    return Candidate(name=name, **(parts | changes))


def measure(*candidates, budget=5.0, size=100):
    return measure_group(
        candidates, size, budget=budget, repeats=3, device="cpu", tell=lambda what, share: None
    )


def test_a_good_one_is_measured():
    forecast = Forecast()
    outcome = measure(candidate(forecast=forecast))["a"]
    assert (outcome.status, outcome.checked, outcome.repeats) == ("measured", "output", 3)
    assert outcome.times["min_s"] > 0
    assert outcome.memory == MEMORY
    assert forecast.times[-1] == (100, outcome.times["median_s"])
    assert forecast.bytes(200) == 2 * 96


def test_the_share_that_is_done_grows_to_the_end():
    told = []
    candidates = [candidate("a"), candidate("b", check=raising(WrongResult("no"))), candidate("c")]
    measure_group(candidates, 100, budget=5.0, repeats=3, device="cpu", tell=lambda *what: told.append(what))
    shares = [share for _, share in told]
    assert shares == sorted(shares)
    assert told[0] == ("a: checking", 0.0)
    assert told[-1] == ("c: memory", pytest.approx(8 / 9))


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"trial": raising(NotImplementedError("build it first"))}, "skipped: build it first"),
        (
            {"probe": raising(ImportError("no x")), "remedy": "pip install y"},
            "skipped: not installed: pip install y",
        ),
        ({"probe": raising(ImportError("no x"))}, "skipped: not installed: no x"),
        ({"check": raising(WrongResult("output is off"))}, "wrong: output is off"),
        ({"check": raising(RuntimeError("shape\nand more"))}, "failed: RuntimeError: shape"),
        ({"least_bytes": 2.0**60}, "skipped: one run would hold about 1,073,741,824.0 GiB, there are "),
    ],
)
def test_what_cannot_be_measured_says_why_and_shows_no_time(changes, status):
    outcomes = measure(candidate("bad", **changes), candidate("good"))
    assert outcomes["bad"].status.startswith(status)
    assert outcomes["bad"].times == {}
    assert outcomes["bad"].memory == {}
    assert outcomes["good"].status == "measured"


def test_what_would_take_too_long_is_skipped_with_the_estimate():
    forecast = Forecast(time_order=2)
    forecast.add_time(10, 0.5)
    outcome = measure(candidate(forecast=forecast))["a"]
    assert outcome.status == "skipped: one run would take about 50 s, the budget is 5 s"
    assert measure(candidate(forecast=forecast), budget=51.0)["a"].status == "measured"


def test_what_would_not_fit_into_memory_is_skipped_with_the_estimate(monkeypatch):
    monkeypatch.setattr(group, "available_bytes", lambda device: 10 * 2**30)
    forecast = Forecast(memory_order=2)
    forecast.add_memory(50, 2.5 * 2**30)
    outcome = measure(candidate(forecast=forecast))["a"]
    assert outcome.status == "skipped: one run would hold about 10.0 GiB, there are 8.0 GiB"


def test_without_a_forecast_a_small_run_makes_one(monkeypatch):
    clock = itertools.count(0, 4)
    monkeypatch.setattr("crosshead.measure.timing.time.perf_counter", lambda: next(clock))
    outcome = measure(candidate(forecast=Forecast(time_order=1)))["a"]
    assert outcome.status == "skipped: one run would take about 40 s, the budget is 5 s"


def test_after_a_failure_nothing_longer_is_tried():
    forecast = Forecast()
    measure(candidate(forecast=forecast, check=raising(RuntimeError("no"))))
    assert measure(candidate(forecast=forecast), size=200)["a"].status == "skipped: failed at 100 already"


def test_what_is_missing_is_missing_at_every_length():
    forecast = Forecast()
    missing = candidate(forecast=forecast, probe=raising(ImportError("no x")), remedy="install x")
    for size in (100, 200):
        assert measure(missing, size=size)["a"].status == "skipped: not installed: install x"


def test_numbers_that_are_none_at_full_size_are_wrong():
    trial = Trial(lambda: Result(torch.tensor([float("nan")])), [])
    assert measure(candidate(trial=lambda: trial))["a"].status == "wrong: output is not finite at this size"


def test_a_failure_between_rounds_leaves_no_time():
    runs = itertools.count()

    def run():
        if next(runs) > 10:
            raise RuntimeError("out of memory")
        return Result(torch.zeros(1))

    outcomes = measure(candidate("bad", trial=lambda: Trial(run, [])), candidate("good"))
    assert outcomes["bad"].status == "failed: RuntimeError: out of memory"
    assert outcomes["bad"].times == {}
    assert outcomes["good"].status == "measured"


def test_memory_that_cannot_be_measured_leaves_the_time():
    outcome = measure(candidate(memory=raising(MeasurementError("killed by SIGKILL"))))["a"]
    assert outcome.status == "measured, but not its memory: killed by SIGKILL"
    assert outcome.times
    assert outcome.memory == {}
    assert measure(candidate(memory=None))["a"].status == "measured"
