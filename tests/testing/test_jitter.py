"""Random roundings: the operator's equations, errors of the size of rounding, and nothing hidden by luck."""

import pytest
import torch

from crosshead import interactive_attention
from crosshead.testing.inputs import MASK_NAMES, MIXING_MODES, make_inputs, output_and_gradients
from crosshead.testing.jitter import jittered_results
from crosshead.testing.oracle import dense_attention

EPS = torch.finfo(torch.float32).eps


@pytest.mark.parametrize("mixing", MIXING_MODES)
@pytest.mark.parametrize("masks", [(), MASK_NAMES], ids=["whole", "masked"])
@pytest.mark.parametrize("scale", [None, -0.7])
def test_in_float64_every_run_is_the_dense_result_with_every_gradient(mixing, masks, scale):
    # A yardstick that computed something else would be off by more than any kernel, and call them all right.
    inputs = make_inputs(batch=3, mixing=mixing, masks=masks)
    for name in masks:
        getattr(inputs, name)[1] = False
    exact = output_and_gradients(dense_attention, inputs, scale=scale)
    for run in jittered_results(inputs, runs=2, scale=scale):
        torch.testing.assert_close(run, exact, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_errors_are_as_large_as_those_of_plain_arithmetic(dtype):
    inputs = make_inputs(queries=60, keys=70, landmarks=9, head_dim=16, value_dim=16, dtype=dtype)
    exact = output_and_gradients(dense_attention, inputs.to(torch.float64))
    plain = output_and_gradients(interactive_attention, inputs, impl="reference")
    for run in jittered_results(inputs, runs=3):
        for name in ("output", "grad query", "grad key", "grad value"):
            x = run[name]
            error, usual = ((y.double() - exact[name]).square().mean().sqrt() for y in (x, plain[name]))
            assert 0.5 * usual < error < 2 * usual, name


def test_runs_round_differently_and_a_seed_repeats_them():
    inputs = make_inputs(dtype=torch.float32)
    first, second = jittered_results(inputs, runs=2, seed=3)
    assert not torch.equal(first["output"], second["output"])
    for name, x in jittered_results(inputs, runs=2, seed=3)[1].items():
        assert torch.equal(x, second[name]), name


def test_a_gradient_that_is_zero_by_cancellation_shows_what_its_terms_cost():
    # One key: its weight is one, and each gradient of its logits a difference of two equal terms.
    inputs = make_inputs(keys=1, landmarks=16, mixing="none", dtype=torch.float32)
    plain = output_and_gradients(interactive_attention, inputs, impl="reference")
    assert not plain["grad key"].any()
    for run in jittered_results(inputs, runs=3):
        assert 0 < run["grad key"].abs().max() < 100 * EPS


def test_what_is_equal_is_rounded_to_equal_numbers():
    # One key: all landmarks hold one value in bfloat16, and no gradient of the queries comes of rounding it.
    inputs = make_inputs(keys=1, landmarks=16, mixing="none", dtype=torch.bfloat16)
    for run in jittered_results(inputs, runs=3):
        assert run["grad query"].abs().max() < 100 * EPS


def test_results_beyond_the_range_of_float16_do_not_spoil_the_others():
    inputs = make_inputs(value_dim=40, mixing="none", requires_grad=False).to(torch.float16)
    inputs.value[0] *= 1e4
    inputs.query_landmarks[0] *= 10
    for x in inputs.floating().values():
        x.requires_grad_()
    exact = output_and_gradients(dense_attention, inputs.to(torch.float64))
    assert exact["grad key"].half().isinf().any()
    for run in jittered_results(inputs, runs=2):
        for name, x in run.items():
            assert torch.equal(x.isfinite(), exact[name].half().isfinite()), name
