"""The limit is arithmetic: work by hand, rates by a clock."""

from dataclasses import replace

import pytest

from crosshead.bench.options import OURS
from crosshead.bench.providers import Setting
from crosshead.bench.roofline import Machine, Work, done_work, measure_machine, needed_work

SETTING = Setting(batch=2, heads=3, head_dim=5, landmarks=7, mixing="both")
N = 11
PRODUCT = 2 * 3 * N * 7 * 5
MIXING = 2 * 3 * 3 * N * 7
TOKENS = 2 * 3 * N * 5 * 4
LANDMARKS = 2 * 3 * 7 * 5 * 4
MATRICES = 4 * 3 * 3 * 4


def needed(name: str, setting: Setting, *, backward: bool) -> Work:
    found = needed_work(name, setting, N, backward=backward)
    assert found is not None
    return found


def done(name: str, setting: Setting, *, backward: bool) -> Work:
    found = done_work(name, setting, N, backward=backward)
    assert found is not None
    return found


def test_the_limit_is_the_longer_of_arithmetic_and_traffic():
    machine = Machine(multiply_adds_per_second=100.0, bytes_per_second=10.0)
    assert machine.limit(Work(multiply_adds=1000, bytes=1)) == 10.0
    assert machine.limit(Work(multiply_adds=1000, bytes=200)) == 20.0


@pytest.mark.parametrize("name", OURS)
def test_needed_forward_is_four_products_and_four_mixings(name):
    found = needed(name, SETTING, backward=False)
    operands = 3 * TOKENS + 2 * LANDMARKS + MATRICES
    assert found == Work(multiply_adds=4 * PRODUCT + 4 * MIXING, bytes=operands + TOKENS)


def test_needed_backward_is_twice_the_forward_pass_more():
    found = needed("fused", SETTING, backward=True)
    operands = 3 * TOKENS + 2 * LANDMARKS + MATRICES
    # Forward: operands in, output out. Backward: operands and the gradient of the output in, gradients out.
    assert found == Work(multiply_adds=12 * PRODUCT + 12 * MIXING, bytes=3 * operands + 2 * TOKENS)


@pytest.mark.parametrize("name", ["streamed", "fused"])
@pytest.mark.parametrize("backward", [False, True])
def test_heads_that_talk_within_groups_mix_in_proportion(name, backward):
    whole, third, none = (
        done_work(name, replace(SETTING, **changes), 11, backward=backward)
        for changes in ({}, {"mixing_group_size": 1}, {"mixing": "none"})
    )
    assert whole is not None
    assert third is not None
    assert none is not None
    mixing = whole.multiply_adds - none.multiply_adds
    assert third.multiply_adds - none.multiply_adds == mixing / SETTING.heads


def test_landmarks_without_mixing_need_no_mixing_whatever_the_setting_says():
    assert needed("landmarks-only", SETTING, backward=False).multiply_adds == 4 * PRODUCT


def test_exact_attention_needs_two_products_with_the_map():
    assert needed("exact", SETTING, backward=False).multiply_adds == 2 * 2 * 3 * N * N * 5
    maps = 2 * (2 * 3 * 3 * N * N)
    assert needed("talking-heads", SETTING, backward=False).multiply_adds == 2 * 2 * 3 * N * N * 5 + maps


@pytest.mark.parametrize("name", ["performer", "xca-layer", "interactive-layer"])
def test_what_is_not_counted_has_no_limit(name):
    assert needed_work(name, SETTING, N, backward=False) is None
    assert done_work(name, SETTING, N, backward=False) is None


@pytest.mark.parametrize("name", ["reference", "compiled", "landmarks-only", "exact"])
def test_what_is_done_is_known_of_tiles_and_kernels_only(name):
    assert done_work(name, SETTING, N, backward=False) is None


def test_done_forward_repeats_the_logits_of_the_key_factor_and_their_mixing():
    found = done("fused", SETTING, backward=False)
    traffic = needed("fused", SETTING, backward=False).bytes
    assert found == Work(multiply_adds=5 * PRODUCT + 5 * MIXING, bytes=traffic + TOKENS)
    assert done("streamed", SETTING, backward=False) == found


@pytest.mark.parametrize(
    ("mixing", "forward", "backward"),
    # Query side P, P^T and the gradient of P; key side one P more; likewise for W.
    [("none", 0, 0), ("logits", 3, 7), ("weights", 2, 7), ("both", 5, 14)],
)
def test_done_backward_recomputes(mixing, forward, backward):
    setting = replace(SETTING, mixing=mixing)
    found = done("fused", setting, backward=True)
    assert found.multiply_adds == (5 + 5 + 7) * PRODUCT + (forward + backward) * MIXING
    # Keys once more in the forward pass, keys and values once more in the backward pass.
    assert found.bytes == needed("fused", setting, backward=True).bytes + 3 * TOKENS
    more = MIXING if mixing in ("weights", "both") else 0
    assert done("streamed", setting, backward=True).multiply_adds == found.multiply_adds + more


def test_half_precision_moves_half_the_bytes():
    whole, half = (needed("fused", replace(SETTING, dtype=t), backward=True) for t in ("float32", "bfloat16"))
    assert half.multiply_adds == whole.multiply_adds
    assert 2 * half.bytes == whole.bytes


def test_the_rates_of_a_machine_come_from_its_clock(monkeypatch):
    times = iter([9.0, 0.5, 9.0, 9.0, 9.0, 9.0, 0.25, 9.0, 9.0, 9.0])
    monkeypatch.setattr("crosshead.bench.roofline.time_calls", lambda run, calls, device: next(times))
    machine = measure_machine(SETTING, side=8, copied=4096)
    assert machine == Machine(multiply_adds_per_second=8**3 / 0.5, bytes_per_second=2 * 4096 / 0.25)


def test_the_rates_of_this_machine_are_believable():
    machine = measure_machine(SETTING, side=256, copied=2**22)
    assert 1e8 < machine.multiply_adds_per_second < 1e15
    assert 1e8 < machine.bytes_per_second < 1e14
    assert "GFLOP/s" in str(machine)
    assert "GB/s" in str(machine)
