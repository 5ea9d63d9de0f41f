"""Samples long enough for the clock, in turns, as many as fit."""

import time

import pytest

from crosshead.measure import timing
from crosshead.measure.timing import Sampling, compare, plan_samples, quartiles, time_in_turns


@pytest.mark.parametrize(
    ("seconds", "plan"),
    [
        (1e-6, Sampling(rounds=5, calls=100)),
        (0.004, Sampling(rounds=5, calls=3)),
        (1.0, Sampling(rounds=5, calls=1)),
        (3.0, Sampling(rounds=3, calls=1)),
        (9.9, Sampling(rounds=1, calls=1)),
        (50.0, Sampling(rounds=1, calls=1)),
    ],
)
def test_as_many_rounds_as_fit_and_one_at_least(seconds, plan):
    assert plan_samples(seconds, budget=10, repeats=5) == plan


def test_computations_take_turns_and_short_plans_end_early():
    order = []
    runs = {name: lambda name=name: order.append(name) for name in "abc"}
    plans = {
        "a": Sampling(rounds=3, calls=1),
        "b": Sampling(rounds=1, calls=2),
        "c": Sampling(rounds=2, calls=1),
    }
    times, failed = time_in_turns(runs, plans, device="cpu")
    assert "".join(order) == "abbc" + "ac" + "a"
    assert {name: len(seconds) for name, seconds in times.items()} == {"a": 3, "b": 1, "c": 2}
    assert not failed


def test_one_that_fails_is_left_out_and_the_others_go_on():
    calls = {"good": 0, "bad": 0}

    def run(name):
        calls[name] += 1
        if name == "bad" and calls[name] == 2:
            raise RuntimeError("no more memory")

    plans = dict.fromkeys(calls, Sampling(rounds=3, calls=1))
    times, failed = time_in_turns({name: lambda name=name: run(name) for name in calls}, plans, device="cpu")
    assert calls == {"good": 3, "bad": 2}
    assert list(times) == ["good"]
    assert str(failed["bad"]) == "no more memory"


def test_a_sample_is_the_mean_of_its_calls(monkeypatch):
    clock = iter([10.0, 16.0])
    monkeypatch.setattr(timing.time, "perf_counter", lambda: next(clock))
    assert timing.time_calls(lambda: None, 3, device="cpu") == 2.0


def test_a_comparison_warms_up_takes_turns_and_raises_what_fails():
    called: list[str] = []

    def run(name: str) -> None:
        called.append(name)
        time.sleep(0.011)
        if name == "broken" and called.count(name) > 2:
            raise ValueError("out of luck")

    found = compare({name: lambda name=name: run(name) for name in "ab"}, budget=1, repeats=3, device="cpu")
    assert called == [*"aabb", *"ababab"]
    assert all(each["median_s"] >= 0.011 for each in found.values())
    with pytest.raises(ValueError, match="out of luck"):
        compare({"broken": lambda: run("broken")}, budget=1, repeats=3, device="cpu")


def test_quartiles_of_few():
    assert quartiles([4.0]) == {"median_s": 4.0, "q25_s": 4.0, "q75_s": 4.0, "min_s": 4.0}
    assert quartiles([5.0, 1.0, 4.0, 2.0, 3.0]) == {"median_s": 3.0, "q25_s": 2.0, "q75_s": 4.0, "min_s": 1.0}
