"""Arithmetic in each dtype: inside the error budget, and never out of the range of half precision."""

from dataclasses import replace
from functools import cache

import pytest
import torch
from torch import Tensor

from crosshead import HeadMixing, InteractiveAttention, interactive_attention
from crosshead.attention.impl import streamed
from crosshead.measure.budgets import assert_within_budget
from crosshead.testing.inputs import MASK_NAMES, MIXING_MODES, MixingMode, make_inputs, output_and_gradients
from crosshead.testing.kernel import ORDERS
from crosshead.testing.oracle import dense_attention, rounded_attention

every_implementation = pytest.mark.parametrize("impl", ["reference", "streamed"])
every_precision = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])


def stacked(results: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.stack([result[name] for result in results]) for name in results[0]}


@cache
def yardsticks(dtype: torch.dtype, mixing: MixingMode):
    """Four draws of inputs, their results in float64, and by plain arithmetic of the dtype in four orders."""
    draws = [
        make_inputs(
            heads=4, queries=30, keys=37, landmarks=8, head_dim=16, mixing=mixing, dtype=dtype, seed=seed
        )
        for seed in range(4)
    ]
    exact = stacked([output_and_gradients(dense_attention, inputs.to(torch.float64)) for inputs in draws])
    plain = [
        stacked([output_and_gradients(rounded_attention, inputs, reverse=order) for inputs in draws])
        for order in ORDERS
    ]
    return draws, exact, plain


@every_implementation
@every_precision
@pytest.mark.parametrize("mixing", MIXING_MODES)
def test_output_and_every_gradient_stay_inside_the_error_budget(impl, dtype, mixing):
    draws, exact, plain = yardsticks(dtype, mixing)
    actual = stacked([output_and_gradients(interactive_attention, inputs, impl=impl) for inputs in draws])
    assert {x.dtype for x in actual.values()} == {dtype}
    assert_within_budget(actual, exact=exact, reference=plain)


@every_precision
@pytest.mark.parametrize("tile", [8, 10_000])
def test_streamed_stays_inside_the_budget_that_the_reference_sets_with_masks(dtype, tile, monkeypatch):
    monkeypatch.setattr(streamed, "SHORTEST_TILE", 1)
    monkeypatch.setattr(streamed, "TILE_ELEMENTS", 4 * 8 * tile)
    draws = [
        make_inputs(heads=4, queries=30, keys=37, landmarks=8, masks=MASK_NAMES, dtype=dtype, seed=seed)
        for seed in range(4)
    ]
    exact = stacked([output_and_gradients(dense_attention, inputs.to(torch.float64)) for inputs in draws])
    reference = [
        stacked(
            [
                output_and_gradients(interactive_attention, inputs, reverse=order, impl="reference")
                for inputs in draws
            ]
        )
        for order in ORDERS
    ]
    actual = stacked(
        [output_and_gradients(interactive_attention, inputs, impl="streamed") for inputs in draws]
    )
    assert_within_budget(actual, exact=exact, reference=reference)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_implementations_round_factors_alike(dtype):
    # Where one rounded and the other did not, about half of the outputs would end on another number.
    args, kwargs = make_inputs(queries=150, keys=170, landmarks=8, head_dim=16, dtype=dtype).arguments()
    reference, streamed = (interactive_attention(*args, **kwargs, impl=i) for i in ("reference", "streamed"))
    assert (reference == streamed).double().mean() > 0.95


@every_implementation
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_float32_mixing_matrices_serve_half_precision_inputs(impl, dtype):
    inputs = make_inputs(queries=50, keys=60, dtype=dtype)
    wide = {name: x.detach().float().requires_grad_() for name, x in inputs.floating().items() if x.ndim == 2}
    result = output_and_gradients(interactive_attention, replace(inputs, **wide), impl=impl)
    narrow = output_and_gradients(interactive_attention, inputs, impl=impl)
    assert result["output"].dtype == dtype
    assert all(result[f"grad {name}"].dtype == torch.float32 for name in wide)
    torch.testing.assert_close(result["output"], narrow["output"])


@every_implementation
@pytest.mark.parametrize("size", [1e2, 1e4])
def test_logits_of_any_size_give_finite_results(impl, size):
    inputs = make_inputs(mixing="none", requires_grad=False)
    loud = replace(inputs, query=inputs.query * size, query_landmarks=inputs.query_landmarks * size)
    loud = loud.to(torch.float64)
    expected = output_and_gradients(dense_attention, loud)
    actual = output_and_gradients(interactive_attention, loud, impl=impl)
    torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-11)
    assert actual["output"].isfinite().all()


def many_keys(dtype: torch.dtype, *, peaked: bool, raised: float):
    """65,536 keys; `raised` is how much of the other head's weights mixing adds to a head's own."""
    inputs = make_inputs(
        batch=1, heads=2, queries=5, keys=65_536, landmarks=2, head_dim=4, value_dim=3, mixing="none"
    )
    # Weights of 0.7 to 1.4 times 1 / M: far below 2^-14, where the normal numbers of float16 end.
    inputs = replace(inputs, key=inputs.key.detach() * 0.1, query_landmarks=inputs.query_landmarks.detach())
    if peaked:
        inputs.key.data[:, :, 12_345] = 100.0 * inputs.query_landmarks.data.sum(2)
    residual = torch.tensor([[0.0, raised], [raised, 0.0]])
    inputs = replace(inputs, key_weights=residual.double(), query_weights=residual.double())
    for x in inputs.floating().values():
        x.requires_grad_()
    return inputs.to(dtype)


@every_implementation
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("raised", [0.0, 3.0])
@pytest.mark.parametrize("peaked", [False, True], ids=["uniform", "peaked"])
def test_half_precision_neither_overflows_nor_underflows_over_65536_keys(impl, dtype, peaked, raised):
    inputs = many_keys(dtype, peaked=peaked, raised=raised)
    exact = output_and_gradients(dense_attention, inputs.to(torch.float64))
    rounded = [output_and_gradients(rounded_attention, inputs, reverse=order) for order in ORDERS]
    actual = output_and_gradients(interactive_attention, inputs, impl=impl)
    assert all(x.isfinite().all() for x in actual.values())
    assert_within_budget(actual, exact=exact, reference=rounded)


@every_implementation
def test_float16_loses_nothing_to_subnormal_weights(impl):
    # Unscaled, the weight 1 / M would round to a multiple of 2^-24 and be wrong by up to a few per cent.
    inputs = many_keys(torch.float16, peaked=False, raised=0.0)
    inputs = replace(inputs, value=torch.ones_like(inputs.value), query_weights=None, key_weights=None)
    ones = output_and_gradients(interactive_attention, inputs, impl=impl)["output"]
    torch.testing.assert_close(ones, torch.ones_like(ones), rtol=2e-3, atol=0)


@every_implementation
def test_values_near_the_top_of_float16_survive(impl):
    inputs = make_inputs(queries=40, keys=3000, mixing="none", dtype=torch.float16)
    inputs = replace(inputs, value=torch.full_like(inputs.value, 6e4))
    output = output_and_gradients(interactive_attention, inputs, impl=impl)["output"]
    torch.testing.assert_close(output, torch.full_like(output, 6e4), rtol=2e-3, atol=0)


@every_implementation
def test_gradients_of_values_near_the_top_of_float16_are_there_where_they_fit(impl):
    # That of the query factor, a sum over 64 channels of large values, does not fit, and is no result.
    inputs = make_inputs(queries=40, keys=3, value_dim=64, requires_grad=False).to(torch.float16)
    inputs.value.mul_(1e4)
    for name in ("query", "key", "query_landmarks", "key_landmarks"):
        getattr(inputs, name).mul_(0.03)
    for x in inputs.floating().values():
        x.requires_grad_()
    exact = output_and_gradients(dense_attention, inputs.to(torch.float64))
    for name, x in output_and_gradients(interactive_attention, inputs, impl=impl).items():
        assert torch.equal(x.isfinite(), exact[name].half().isfinite()), name


@every_implementation
def test_autocast_casts_the_inputs_and_leaves_the_gradients_wide(impl):
    inputs = make_inputs(dtype=torch.float32)

    def under_autocast(*args, **kwargs):
        with torch.autocast("cpu", torch.bfloat16):
            return interactive_attention(*args, **kwargs)

    actual = output_and_gradients(under_autocast, inputs, impl=impl)
    rounded = {
        name: x.detach().bfloat16().requires_grad_() for name, x in inputs.floating().items() if x.ndim == 4
    }
    expected = output_and_gradients(interactive_attention, replace(inputs, **rounded), impl=impl)
    assert actual["output"].dtype == torch.bfloat16
    torch.testing.assert_close(actual["output"], expected["output"], rtol=0, atol=0)
    for name in inputs.floating():
        assert actual[f"grad {name}"].dtype == torch.float32
        torch.testing.assert_close(
            actual[f"grad {name}"], expected[f"grad {name}"].float(), rtol=0, atol=0, msg=name
        )


@every_implementation
@pytest.mark.parametrize("masked", [False, True])
def test_the_layer_under_autocast_stays_inside_the_budget_of_a_bfloat16_layer(impl, masked):
    torch.manual_seed(0)
    layer = InteractiveAttention(16, 2, landmarks=3, impl=impl, local_kernel=3)
    for name, parameter in layer.named_parameters():
        if "mixing" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    x = torch.randn(2, 30, 16).bfloat16()
    mask = torch.rand(2, 30) < 0.7 if masked else None

    def run(layer: InteractiveAttention, x: Tensor) -> dict[str, Tensor]:
        x = x.clone().requires_grad_()
        y = layer(x, grid=(5, 6), key_mask=mask)
        gradients = torch.autograd.grad(y.square().sum(), [x, *layer.parameters()])
        return dict(
            zip(["output", "x", *dict(layer.named_parameters())], [y.detach(), *gradients], strict=True)
        )

    weights = {name: p.detach().bfloat16() for name, p in layer.state_dict().items()}

    def rounded_to(dtype: torch.dtype) -> InteractiveAttention:
        other = InteractiveAttention(16, 2, landmarks=3, impl=impl, local_kernel=3).to(dtype)
        other.load_state_dict(weights)
        return other

    exact = run(rounded_to(torch.float64), x.double())
    plain = run(rounded_to(torch.bfloat16), x)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = run(rounded_to(torch.float32), x.float())
    assert mixed["output"].dtype == torch.bfloat16
    assert_within_budget({name: y.bfloat16() for name, y in mixed.items()}, exact=exact, reference=plain)


@every_implementation
def test_mixing_matrices_given_in_float64_do_not_widen_the_output(impl):
    inputs = make_inputs(dtype=torch.float32)
    (q, k, v), kwargs = inputs.arguments()
    kwargs["query_mixing"] = HeadMixing(*(x.double() for x in kwargs["query_mixing"]))
    assert interactive_attention(q, k, v, **kwargs, impl=impl).dtype == torch.float32


def test_a_backward_pass_under_autocast_computes_in_the_dtype_of_its_forward_pass():
    inputs = make_inputs(dtype=torch.float32)
    args, kwargs = inputs.arguments()
    leaves = list(inputs.floating().values())
    output = interactive_attention(*args, **kwargs, impl="streamed").sum()
    expected = torch.autograd.grad(output, leaves, retain_graph=True)
    with torch.autocast("cpu", torch.bfloat16):
        actual = torch.autograd.grad(output, leaves)
    for x, y in zip(actual, expected, strict=True):
        assert torch.equal(x, y)
