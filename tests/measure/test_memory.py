"""Memory is what a run holds, counted in a process of its own."""

from dataclasses import asdict

import pytest
import torch

from crosshead.bench.providers import Setting
from crosshead.measure import memory
from crosshead.measure.memory import (
    CLEAR_REFERENCES,
    MeasurementError,
    MemoryProcesses,
    available_bytes,
    measure_here,
)
from crosshead.measure.workload import Computed, Workload

pytestmark = pytest.mark.skipif(not CLEAR_REFERENCES.exists(), reason="the system keeps no high-water mark")
TOKENS, MIB = 1024, 2**20


@pytest.fixture(scope="module")
def processes():
    with MemoryProcesses("crosshead.bench.attention", "memory_case", threads=1) as running:
        yield running


def case(name, *, tokens=TOKENS, backward=False):
    setting = Setting(heads=2, head_dim=16, landmarks=4)
    return {"name": name, "setting": asdict(setting), "tokens": tokens, "backward": backward}


def test_maps_of_n_by_n_are_seen_and_what_is_returned_is_told_apart(processes):
    found = processes.measure(case("talking-heads"), rehearsal=case("talking-heads", tokens=64))
    token_bytes, one_map = 2 * TOKENS * 16 * 4, 2 * TOKENS**2 * 4
    assert found["output_bytes"] == token_bytes
    assert found["gradient_bytes"] == 0
    assert found["input_bytes"] == 3 * token_bytes + 2 * 2 * 2 * 4
    assert 2 * one_map <= found["beyond_bytes"] < 3.5 * one_map
    assert found["peak_bytes"] == found["beyond_bytes"] + token_bytes


def test_gradients_count_apart_and_landmarks_hold_no_map(processes):
    arguments = case("landmarks-only", backward=True)
    found = processes.measure(arguments, rehearsal=arguments | {"tokens": 64})
    assert found["gradient_bytes"] == (3 * TOKENS + 2 * 4) * 2 * 16 * 4
    assert found["beyond_bytes"] < 2 * MIB


def test_a_run_does_not_see_the_memory_of_the_one_before(processes):
    small = case("landmarks-only")
    before = processes.measure(small, rehearsal=small)
    processes.measure(case("talking-heads"), rehearsal=case("talking-heads", tokens=64))
    after = processes.measure(small, rehearsal=small)
    assert abs(after["peak_bytes"] - before["peak_bytes"]) < 2 * MIB


def test_a_run_that_fails_tells_why_and_the_next_one_works(processes):
    with pytest.raises(MeasurementError, match="KeyError"):
        processes.measure(case("nonsense"), rehearsal=case("nonsense"))
    assert processes.measure(case("exact"), rehearsal=case("exact"))["peak_bytes"] > 0


def test_a_dead_process_is_told_and_replaced(processes):
    processes.measure(case("exact"), rehearsal=case("exact"))
    processes.process.kill()
    processes.process.wait()
    assert processes.measure(case("exact"), rehearsal=case("exact"))["peak_bytes"] > 0


def test_what_was_held_before_the_run_does_not_count():
    run = Workload(lambda: Computed(torch.ones(MIB)), [])
    found = measure_here(lambda: torch.ones(64 * MIB), run)
    assert found["output_bytes"] == 4 * MIB
    assert found["peak_bytes"] < 32 * MIB


def test_what_the_system_misses_is_no_memory_below_that_of_the_result(tmp_path, monkeypatch):
    status = tmp_path / "status"
    status.write_text("VmRSS:\t  5000 kB\nVmHWM:\t  4000 kB\n")
    monkeypatch.setattr(memory, "STATUS", status)
    monkeypatch.setattr(memory, "CLEAR_REFERENCES", tmp_path / "clear_refs")
    found = measure_here(lambda: None, Workload(lambda: Computed(torch.ones(256)), []))
    assert (found["peak_bytes"], found["beyond_bytes"]) == (1024, 0)


def test_there_is_some_memory_to_be_had():
    assert 2**20 < available_bytes("cpu") < 2**60
