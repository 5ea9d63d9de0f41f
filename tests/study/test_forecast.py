"""The forecast counts what is unfinished, and leaves everything as it was."""

import pytest
import torch

from crosshead.study import forecast
from crosshead.study.forecast import forecast_seconds
from crosshead.study.options import RivalsOptions
from crosshead.study.plans import Candidate

OPTIONS = RivalsOptions(
    data="digits", learning_rates=(0.001, 0.002), seeds=3, samples=1_000, select_samples=100
)
ROW = {"accuracy": 0.5, "loss": 1.0, "parameters": 1, "train_seconds": 1.0}


@pytest.fixture
def found(tiny):
    return [Candidate(attention, tiny, OPTIONS, "32-true") for attention in ("softmax", "interactive")]


@pytest.fixture
def a_second_a_sample(monkeypatch):
    monkeypatch.setattr(forecast, "_seconds_per_sample", lambda candidate, place: 1.0)


@pytest.mark.usefixtures("a_second_a_sample")
def test_all_trials_of_all_candidates_are_counted(found, ledger, place):
    assert forecast_seconds(found, ledger, place) == 2 * (2 * 100 + 3 * 1_000)


@pytest.mark.usefixtures("a_second_a_sample")
def test_trials_side_by_side_share_the_time(found, ledger, place):
    from dataclasses import replace

    assert forecast_seconds(found, ledger, replace(place, jobs=4)) == 1_600


@pytest.mark.usefixtures("a_second_a_sample")
def test_what_is_finished_takes_no_time(found, ledger, place):
    softmax, _ = found
    for trial in softmax.selecting():
        ledger.add(trial, ROW, arguments=[])
    assert forecast_seconds(found, ledger, place) == 3_000 + 3_200
    for trial in softmax.testing(ledger)[:2]:
        ledger.add(trial, ROW, arguments=[])
    assert forecast_seconds(found, ledger, place) == 1_000 + 3_200
    ledger.add(softmax.testing(ledger)[2], ROW, arguments=[])
    told = []
    assert forecast_seconds(found, ledger, place, tell=told.append) == 3_200
    assert told == ["interactive"]


def test_trying_is_quick_positive_and_leaves_generators_and_threads_alone(found, ledger, place):
    torch.manual_seed(5)
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    assert 0 < forecast_seconds(found, ledger, place) < 600
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads
    assert not ledger.path.exists()
