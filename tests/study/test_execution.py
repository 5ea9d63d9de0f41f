"""A study trains what has no row, in order, once, and keeps what is finished."""

import gc
import queue
import weakref

import pytest
import torch

from crosshead.study import execution
from crosshead.study.execution import Progress, forecast_seconds, run_study
from crosshead.study.options import RivalsOptions
from crosshead.study.plans import Candidate, candidates
from crosshead.study.trial import Ledger


@pytest.fixture
def found():
    options = RivalsOptions(data="digits", learning_rates=(0.001, 0.002), seeds=2)
    return candidates(["softmax", "interactive"], options, "32-true")


def test_rates_come_before_results_and_every_mechanism_before_the_next_seed(found, ledger, place, trained):
    run_study(found, ledger, place, arguments=["study"])
    assert [(t.attention, t.split, t.seed, t.learning_rate) for t in trained] == [
        *((name, "validation", 1000, rate) for name in ("softmax", "interactive") for rate in (0.001, 0.002)),
        *((name, "test", seed, 0.002) for seed in (0, 1) for name in ("softmax", "interactive")),
    ]
    assert len(ledger.rows) == 8


def test_a_finished_study_trains_nothing_again(found, ledger, place, trained):
    run_study(found, ledger, place, arguments=[])
    before = ledger.path.read_bytes()
    trained.clear()
    run_study(found, Ledger(ledger.path), place, arguments=[])
    assert trained == []
    assert ledger.path.read_bytes() == before


def test_an_interrupted_study_trains_only_the_rest(found, ledger, place, trained):
    run_study(found, ledger, place, arguments=[])
    lines = ledger.path.read_text().splitlines(keepends=True)
    ledger.path.write_text("".join([*lines[:3], *lines[4:7]]))
    lost = [trained[2], trained[6], trained[7]]
    trained.clear()
    run_study(found, Ledger(ledger.path), place, arguments=[])
    assert trained == lost
    assert sorted(ledger.path.read_text().splitlines()) != []
    assert len(Ledger(ledger.path).rows) == 8


def test_more_seeds_are_added_to_a_finished_study(found, ledger, place, trained):
    run_study(found, ledger, place, arguments=[])
    trained.clear()
    options = RivalsOptions(data="digits", learning_rates=(0.001, 0.002), seeds=3)
    more = candidates(["softmax", "interactive"], options, "32-true")
    run_study(more, ledger, place, arguments=[])
    assert [(trial.attention, trial.seed) for trial in trained] == [("softmax", 2), ("interactive", 2)]


def test_what_a_training_leaves_behind_is_gone_before_the_next(monkeypatch, place, make_trial):
    class Trainer:
        def __init__(self) -> None:
            self.data = self  # in a circle, as a trainer and its data

    left: list[weakref.ref[Trainer]] = []

    def train(*_, **__) -> dict:
        assert not any(other() for other in left)
        left.append(weakref.ref(Trainer()))
        return {}

    monkeypatch.setattr("crosshead.study.training.run_trial", train)
    gc.disable()  # else it may come of itself
    try:
        for seed in range(3):
            execution._run(make_trial(seed=seed), place, queue.Queue())
    finally:
        gc.enable()
    assert len(left) == 3


def test_what_is_finished_is_kept_where_a_later_trial_fails(found, ledger, place, trained, monkeypatch):
    train = execution._run

    def fail(trial, *others):
        if len(trained) == 3:
            raise ValueError("no such data")
        return train(trial, *others)

    monkeypatch.setattr(execution, "_run", fail)
    with pytest.raises(ValueError, match="no such data"):
        run_study(found, ledger, place, arguments=[])
    assert len(Ledger(ledger.path).rows) == 3


def test_progress_counts_trials_and_samples_of_before_and_now(found, ledger, place, trained):
    told: list[Progress] = []
    run_study(found, ledger, place, arguments=[], tell=told.append)
    in_all = 4 * 6_000 + 4 * 12_000
    assert {(progress.trials, progress.samples_in_all) for progress in told} == {(8, in_all)}
    assert [progress.finished for progress in told if progress.row] == list(range(1, 9))
    assert (told[-1].finished, told[-1].samples) == (8, in_all)
    assert sorted(progress.samples for progress in told) == [progress.samples for progress in told]
    again: list[Progress] = []
    ledger.rows.pop()
    run_study(found, ledger, place, arguments=[], tell=again.append)
    assert (again[-1].finished, again[-1].samples) == (8, in_all)
    assert again[0].finished == 8


def test_no_more_run_at_a_time_than_are_asked_for(found, ledger, place, trained, monkeypatch):
    from concurrent.futures import FIRST_COMPLETED, Future

    most = 0

    def wait(running: dict[Future, object], *, timeout: float, return_when: str):
        nonlocal most
        assert return_when == FIRST_COMPLETED
        most = max(most, len(running))
        return [next(iter(running))], None

    monkeypatch.setattr(execution, "wait", wait)
    from dataclasses import replace

    run_study(found, ledger, replace(place, jobs=3), arguments=[])
    assert most == 3
    assert len(trained) == len(set(trained)) == 8


FORECAST_OPTIONS = RivalsOptions(
    data="digits", learning_rates=(0.001, 0.002), seeds=3, samples=1_000, select_samples=100
)
ROW = {"accuracy": 0.5, "loss": 1.0, "parameters": 1, "train_seconds": 1.0}


@pytest.fixture
def two(tiny):
    return [
        Candidate(attention, tiny, FORECAST_OPTIONS, "32-true") for attention in ("softmax", "interactive")
    ]


@pytest.fixture
def a_second_a_sample(monkeypatch):
    monkeypatch.setattr(execution, "_seconds_per_sample", lambda candidate, place: 1.0)


@pytest.mark.usefixtures("a_second_a_sample")
def test_a_forecast_counts_all_trials_of_all_candidates(two, ledger, place):
    assert forecast_seconds(two, ledger, place) == 2 * (2 * 100 + 3 * 1_000)


@pytest.mark.usefixtures("a_second_a_sample")
def test_a_forecast_divides_by_the_trials_side_by_side(two, ledger, place):
    from dataclasses import replace

    assert forecast_seconds(two, ledger, replace(place, jobs=4)) == 1_600


@pytest.mark.usefixtures("a_second_a_sample")
def test_a_forecast_leaves_out_what_is_finished(two, ledger, place):
    softmax, _ = two
    for trial in softmax.selecting():
        ledger.add(trial, ROW, arguments=[])
    assert forecast_seconds(two, ledger, place) == 3_000 + 3_200
    for trial in softmax.testing(ledger)[:2]:
        ledger.add(trial, ROW, arguments=[])
    assert forecast_seconds(two, ledger, place) == 1_000 + 3_200
    ledger.add(softmax.testing(ledger)[2], ROW, arguments=[])
    told = []
    assert forecast_seconds(two, ledger, place, tell=lambda *what: told.append(what)) == 3_200
    assert told == [("interactive", 0, 1)]


def test_a_forecast_is_quick_positive_and_leaves_generators_and_threads_alone(two, ledger, place):
    torch.manual_seed(5)
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    assert 0 < forecast_seconds(two, ledger, place) < 600
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads
    assert not ledger.path.exists()
