"""Masks of the operator: a masked token or landmark is absent, whatever value stands in its place."""

from dataclasses import replace
from itertools import chain, combinations

import pytest
import torch

from crosshead import interactive_attention
from crosshead.testing.inputs import MASK_NAMES, MIXING_MODES, make_inputs, output_and_gradients
from crosshead.testing.oracle import dense_attention

every_implementation = pytest.mark.parametrize("impl", ["reference", "streamed"])
COMBINATIONS = list(chain.from_iterable(combinations(MASK_NAMES, n) for n in (1, 2, 3)))
MASKED_BY = {
    "query": "query_mask",
    "key": "key_mask",
    "value": "key_mask",
    "query_landmarks": "landmark_mask",
    "key_landmarks": "landmark_mask",
}


@every_implementation
@pytest.mark.parametrize("mixing", MIXING_MODES)
@pytest.mark.parametrize("masks", COMBINATIONS, ids="+".join)
def test_every_combination_equals_the_oracle_that_leaves_the_masked_out(impl, mixing, masks):
    inputs = make_inputs(mixing=mixing, masks=masks)
    expected = output_and_gradients(dense_attention, inputs)
    actual = output_and_gradients(interactive_attention, inputs, impl=impl)
    torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-11)


@every_implementation
@pytest.mark.parametrize("poison", [float("nan"), float("inf"), float("-inf"), 1e30])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_values_at_masked_places_change_no_output_and_no_gradient(impl, poison, dtype):
    inputs = make_inputs(masks=MASK_NAMES, dtype=dtype)
    poisoned = {}
    for name, mask in MASKED_BY.items():
        outside = ~getattr(inputs, mask)[:, None, :, None]
        x = getattr(inputs, name).detach()
        assert outside.any()
        poisoned[name] = x.masked_fill(outside, poison).requires_grad_()
    clean = output_and_gradients(interactive_attention, inputs, impl=impl)
    dirty = output_and_gradients(interactive_attention, replace(inputs, **poisoned), impl=impl)
    for name in clean:
        assert torch.equal(clean[name], dirty[name]), name


@every_implementation
def test_masked_places_get_the_gradient_zero_and_masked_queries_the_output_zero(impl):
    inputs = make_inputs(masks=MASK_NAMES)
    result = output_and_gradients(interactive_attention, inputs, impl=impl)
    for name, mask in MASKED_BY.items():
        gradient = result[f"grad {name}"].transpose(1, 2)
        assert not gradient[~getattr(inputs, mask)].any(), name
        assert gradient[getattr(inputs, mask)].all(), name
    assert inputs.query_mask is not None
    assert not result["output"].transpose(1, 2)[~inputs.query_mask].any()
    assert result["output"].transpose(1, 2)[inputs.query_mask].all()


@every_implementation
@pytest.mark.parametrize(
    "masks", [("key_mask",), ("landmark_mask",), ("query_mask",), MASK_NAMES], ids="+".join
)
def test_a_fully_masked_sample_is_exactly_zero_with_zero_gradients(impl, masks):
    inputs = make_inputs(masks=masks)
    nothing = {name: getattr(inputs, name).clone() for name in masks}
    for mask in nothing.values():
        mask[0] = False
    result = output_and_gradients(interactive_attention, replace(inputs, **nothing), impl=impl)
    for name in ("output", *(f"grad {operand}" for operand in MASKED_BY)):
        assert not result[name][0].any(), name
        assert result[name][1].any(), name
        assert result[name].isfinite().all(), name


@every_implementation
def test_a_mask_of_ones_changes_nothing(impl):
    inputs = make_inputs()
    whole = {
        "query_mask": torch.ones(2, 7).bool(),
        "key_mask": torch.ones(2, 9).bool(),
        "landmark_mask": torch.ones(2, 4).bool(),
    }
    without = output_and_gradients(interactive_attention, inputs, impl=impl)
    with_ones = output_and_gradients(interactive_attention, replace(inputs, **whole), impl=impl)
    torch.testing.assert_close(with_ones, without, rtol=1e-13, atol=1e-14)


@every_implementation
def test_a_mask_may_be_a_view(impl):
    inputs = make_inputs(masks=MASK_NAMES)
    views = {name: getattr(inputs, name).repeat_interleave(2, 1)[:, ::2] for name in MASK_NAMES}
    views["key_mask"] = torch.tensor([True]).expand(2, 9)
    inputs = replace(inputs, **views)
    expected = output_and_gradients(dense_attention, inputs)
    actual = output_and_gradients(interactive_attention, inputs, impl=impl)
    torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-11)
