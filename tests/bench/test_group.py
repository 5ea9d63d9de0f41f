"""Whatever is wrong with one entry, its row says so without a time, and the others go on."""

import itertools

import pytest
import torch

from crosshead.bench import group
from crosshead.bench.checks import WrongResult
from crosshead.bench.group import Entry, Forecast, measure_group
from crosshead.measure.memory import MeasurementError
from crosshead.measure.workload import Computed, Workload

MEMORY = {"peak_bytes": 96, "beyond_bytes": 32}


def raising(error):
    def function(*_):
        raise error

    return function


def entry(name="a", **changes) -> Entry:
    workload = Workload(lambda: Computed(torch.zeros(2)), [])
    parts = {
        "workload": lambda: workload,
        "probe": lambda: (workload, 10),
        "check": lambda: "output",
        "memory": lambda: dict(MEMORY),
        "forecast": Forecast(),
    }
    return Entry(name=name, **(parts | changes))


def measure(*entries, budget=5.0, size=100):
    return measure_group(
        entries, size, budget=budget, repeats=3, device="cpu", tell=lambda what, fraction: None
    )


def test_a_good_one_is_measured():
    forecast = Forecast()
    found = measure(entry(forecast=forecast))["a"]
    assert (found.status, found.checked, found.repeats) == ("measured", "output", 3)
    assert found.times["min_s"] > 0
    assert found.memory == MEMORY
    assert forecast.times[-1] == (100, found.times["median_s"])
    assert forecast.bytes(200) == 2 * 96


def test_the_fraction_that_is_done_grows_to_the_end():
    told = []
    entries = [entry("a"), entry("b", check=raising(WrongResult("no"))), entry("c")]
    measure_group(entries, 100, budget=5.0, repeats=3, device="cpu", tell=lambda *what: told.append(what))
    fractions = [fraction for _, fraction in told]
    assert fractions == sorted(fractions)
    assert told[0] == ("a: checking", 0.0)
    assert told[-1] == ("c: memory", pytest.approx(8 / 9))


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"workload": raising(NotImplementedError("build it first"))}, "skipped: build it first"),
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
    found = measure(entry("bad", **changes), entry("good"))
    assert found["bad"].status.startswith(status)
    assert found["bad"].times == {}
    assert found["bad"].memory == {}
    assert found["good"].status == "measured"


def test_what_would_take_too_long_is_skipped_with_the_estimate():
    forecast = Forecast(time_order=2)
    forecast.add_time(10, 0.5)
    found = measure(entry(forecast=forecast))["a"]
    assert found.status == "skipped: one run would take about 50 s, the budget is 5 s"
    assert measure(entry(forecast=forecast), budget=51.0)["a"].status == "measured"


def test_what_would_not_fit_into_memory_is_skipped_with_the_estimate(monkeypatch):
    monkeypatch.setattr(group, "available_bytes", lambda device: 10 * 2**30)
    forecast = Forecast(memory_order=2)
    forecast.add_memory(50, 2.5 * 2**30)
    found = measure(entry(forecast=forecast))["a"]
    assert found.status == "skipped: one run would hold about 10.0 GiB, there are 8.0 GiB"


def test_without_a_forecast_a_small_run_makes_one(monkeypatch):
    clock = itertools.count(0, 4)
    monkeypatch.setattr("crosshead.measure.timing.time.perf_counter", lambda: next(clock))
    found = measure(entry(forecast=Forecast(time_order=1)))["a"]
    assert found.status == "skipped: one run would take about 40 s, the budget is 5 s"


def test_after_a_failure_nothing_longer_is_tried():
    forecast = Forecast()
    measure(entry(forecast=forecast, check=raising(RuntimeError("no"))))
    assert measure(entry(forecast=forecast), size=200)["a"].status == "skipped: failed at 100 already"


def test_what_is_missing_is_missing_at_every_length():
    forecast = Forecast()
    missing = entry(forecast=forecast, probe=raising(ImportError("no x")), remedy="install x")
    for size in (100, 200):
        assert measure(missing, size=size)["a"].status == "skipped: not installed: install x"


def test_numbers_that_are_none_at_full_size_are_wrong():
    workload = Workload(lambda: Computed(torch.tensor([float("nan")])), [])
    assert measure(entry(workload=lambda: workload))["a"].status == "wrong: output is not finite at this size"


def test_a_failure_between_rounds_leaves_no_time():
    runs = itertools.count()

    def run():
        if next(runs) > 10:
            raise RuntimeError("out of memory")
        return Computed(torch.zeros(1))

    found = measure(entry("bad", workload=lambda: Workload(run, [])), entry("good"))
    assert found["bad"].status == "failed: RuntimeError: out of memory"
    assert found["bad"].times == {}
    assert found["good"].status == "measured"


def test_memory_that_cannot_be_measured_leaves_the_time():
    found = measure(entry(memory=raising(MeasurementError("killed by SIGKILL"))))["a"]
    assert found.status == "measured, but not its memory: killed by SIGKILL"
    assert found.times
    assert found.memory == {}
    assert measure(entry(memory=None))["a"].status == "measured"


def test_a_forecast_knows_nothing_at_first():
    assert Forecast().seconds(10) is None
    assert Forecast().bytes(10) == 0


@pytest.mark.parametrize(("order", "seconds"), [(1, 8.0), (2, 32.0)])
def test_forecast_time_grows_by_its_order_from_the_last_length(order, seconds):
    forecast = Forecast(time_order=order)
    forecast.add_time(1, 99.0)
    forecast.add_time(10, 2.0)
    assert forecast.seconds(40) == seconds


@pytest.mark.parametrize(("slow", "seconds"), [(8.0, 64.0), (2.0, 8.0), (1.0, 4.0), (100.0, 1600.0)])
def test_without_an_order_the_last_two_lengths_tell_it_from_one_to_two(slow, seconds):
    forecast = Forecast()
    forecast.add_time(10, 1.0)
    assert forecast.seconds(40) == 4.0
    forecast.add_time(40, slow)
    # 8 is four to the power 1.5; 2 and 1 grow by less than one, 100 by more than two.
    assert forecast.seconds(160) == pytest.approx(seconds)


def test_a_length_measured_again_replaces_the_guess():
    forecast = Forecast()
    forecast.add_time(10, 5.0)
    forecast.add_time(10, 1.0)
    assert forecast.seconds(20) == 2.0


def test_forecast_memory_grows_by_an_order_of_its_own():
    forecast = Forecast(time_order=2, memory_order=1)
    forecast.add_memory(10, 100)
    assert forecast.bytes(40) == 400
    forecast.add_memory(20, -5)
    assert forecast.bytes(40) == 0
