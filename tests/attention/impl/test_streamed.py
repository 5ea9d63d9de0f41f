"""Streaming: the tile changes nothing, memory does not grow with N x L, and what cannot work says so."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from crosshead import InteractiveAttention, interactive_attention
from crosshead.attention.impl import streamed
from crosshead.testing.inputs import MASK_NAMES, MIXING_MODES, make_inputs, output_and_gradients
from crosshead.testing.kernel import assert_kernel_right, draw_inputs
from crosshead.testing.memory import peak_allocated_bytes
from crosshead.testing.oracle import dense_attention


def attend(*args, **kwargs) -> Tensor:
    return interactive_attention(*args, **kwargs, impl="streamed")


def set_tile(monkeypatch, *, tile: int, heads: int = 3, landmarks: int = 4) -> None:
    monkeypatch.setattr(streamed, "SHORTEST_TILE", 1)
    monkeypatch.setattr(streamed, "TILE_ELEMENTS", heads * landmarks * tile)


@pytest.mark.parametrize("tile", [1, 2, 3, 7, 8, 9, 10, 100])
@pytest.mark.parametrize("masks", [(), MASK_NAMES], ids=["whole", "masked"])
def test_any_tile_gives_the_dense_result_with_every_gradient(monkeypatch, tile, masks):
    set_tile(monkeypatch, tile=tile)
    inputs = make_inputs(batch=3, masks=masks)
    expected = output_and_gradients(dense_attention, inputs)
    torch.testing.assert_close(output_and_gradients(attend, inputs), expected, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("group_size", [1, 2, 3])
def test_tiles_with_groups_of_heads(monkeypatch, group_size):
    set_tile(monkeypatch, tile=5, heads=6)
    inputs = make_inputs(heads=6, group_size=group_size, masks=MASK_NAMES)
    expected = output_and_gradients(dense_attention, inputs)
    torch.testing.assert_close(output_and_gradients(attend, inputs), expected, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("mixing", MIXING_MODES)
def test_tiles_with_each_mixing(monkeypatch, mixing):
    set_tile(monkeypatch, tile=4)
    inputs = make_inputs(mixing=mixing)
    expected = output_and_gradients(dense_attention, inputs)
    torch.testing.assert_close(output_and_gradients(attend, inputs), expected, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("batch", [2, 3, 5])
def test_samples_that_take_turns(monkeypatch, batch):
    set_tile(monkeypatch, tile=2 * 9)  # two samples of nine keys at a time
    inputs = make_inputs(batch=batch, masks=MASK_NAMES)
    expected = output_and_gradients(dense_attention, inputs)
    torch.testing.assert_close(output_and_gradients(attend, inputs), expected, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("hidden", [slice(0, 3), slice(3, 6), slice(6, 9), slice(0, 6), slice(3, 9)])
def test_tiles_in_which_every_key_is_masked(monkeypatch, hidden):
    set_tile(monkeypatch, tile=3)
    inputs = make_inputs(masks=("key_mask",))
    assert inputs.key_mask is not None
    inputs.key_mask[:] = True
    inputs.key_mask[0, hidden] = False
    expected = output_and_gradients(dense_attention, inputs)
    torch.testing.assert_close(output_and_gradients(attend, inputs), expected, rtol=1e-10, atol=1e-11)


def test_tiles_whose_logits_differ_by_orders_of_magnitude(monkeypatch):
    # The normaliser is gathered tile by tile: small before and after large must neither vanish nor overflow.
    set_tile(monkeypatch, tile=3)
    inputs = make_inputs(requires_grad=False)
    inputs.key[:, :, 3:6] *= 300.0
    inputs = inputs.to(torch.float64)
    for x in inputs.floating().values():
        x.requires_grad_()
    expected = output_and_gradients(dense_attention, inputs)
    torch.testing.assert_close(output_and_gradients(attend, inputs), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("tile", [40, 1000])
@pytest.mark.parametrize("scale", [0.3, 4.0, 40.0])
def test_loud_logits_cost_no_more_in_float32_than_in_the_reference(monkeypatch, scale, tile):
    # A logarithm near 16 in place of the inverse sum would make every weight wrong by a millionth.
    set_tile(monkeypatch, tile=tile)
    draws = draw_inputs(queries=20, keys=200, head_dim=16, mixing="none", dtype=torch.float32)
    assert_kernel_right(draws, attention=attend, scale=scale)


def test_a_tile_whose_logits_are_all_infinitely_low_leaves_the_others_alone(monkeypatch):
    set_tile(monkeypatch, tile=1)
    inputs = make_inputs(mixing="none", dtype=torch.float32, requires_grad=False)
    inputs.query_landmarks.abs_().mul_(1e3)
    inputs.key[:, :, 0] = -1e38
    args, kwargs = inputs.arguments()
    expected = interactive_attention(*args, **kwargs, impl="reference")
    assert expected.isfinite().all()
    torch.testing.assert_close(attend(*args, **kwargs), expected)


SHORT, LONG = 2048, 8192
HEADS, LANDMARKS = 2, 32


def peak_beyond_results(tokens: int, *, backward: bool, impl: Any) -> int:
    """Bytes at the high-water mark, less what the caller gets: output and gradients."""
    inputs = make_inputs(
        batch=1,
        heads=HEADS,
        queries=tokens,
        keys=tokens,
        landmarks=LANDMARKS,
        head_dim=8,
        value_dim=8,
        dtype=torch.float32,
        requires_grad=backward,
    )
    args, kwargs = inputs.arguments()
    cotangent = torch.ones(1, HEADS, tokens, 8)

    def compute():
        output = interactive_attention(*args, **kwargs, impl=impl)
        wanted = list(inputs.floating().values())
        return output, torch.autograd.grad(output, wanted, cotangent) if backward else ()

    output, gradients = compute()
    results = sum(x.nbytes for x in (output, *gradients))
    return peak_allocated_bytes(compute) - results


@pytest.mark.parametrize("backward", [False, True], ids=["forward", "forward and backward"])
def test_memory_beyond_inputs_outputs_and_gradients_is_flat_in_tokens(monkeypatch, backward):
    set_tile(monkeypatch, tile=256, heads=HEADS, landmarks=LANDMARKS)
    short, long = (
        peak_beyond_results(tokens, backward=backward, impl="streamed") for tokens in (SHORT, LONG)
    )
    assert long <= 1.02 * short
    factor = HEADS * LANDMARKS * LONG * 4
    assert long < factor / 2
    # The measurement sees factors where there are some.
    assert peak_beyond_results(LONG, backward=backward, impl="reference") > 2 * factor


def test_with_the_shipped_tile_memory_is_flat_from_one_tile_on():
    tile = streamed.TILE_ELEMENTS // (HEADS * LANDMARKS)
    one, two = (peak_beyond_results(n, backward=True, impl="streamed") for n in (tile, 2 * tile))
    assert two <= 1.02 * one


@pytest.mark.parametrize("masks", [(), MASK_NAMES], ids=["whole", "masked"])
def test_nothing_is_kept_for_backward_but_inputs_and_what_is_independent_of_tokens(masks):
    inputs = make_inputs(queries=512, keys=1024, masks=masks)
    args, kwargs = inputs.arguments()
    own = {x.data_ptr() for x in inputs.floating().values()}
    kept = []

    def record(x: Tensor) -> Tensor:
        kept.append(x)
        return x

    with torch.autograd.graph.saved_tensors_hooks(record, lambda x: x):
        interactive_attention(*args, **kwargs, impl="streamed")
    shapes = {tuple(x.shape) for x in kept if x.data_ptr() not in own and x.is_floating_point()}
    copies = {tuple(x.shape) for x in args} if masks else set()  # inputs with zeros at masked places
    landmarks = {(2, 3, 4, 5), (2, 3, 4, 6), (2, 2, 3, 4)}
    assert shapes - landmarks <= copies
    assert (2, 3, 512, 4) not in shapes
    assert (2, 3, 4, 1024) not in shapes


def test_a_second_derivative_raises_and_says_why():
    args, kwargs = make_inputs().arguments()
    (gradient,) = torch.autograd.grad(attend(*args, **kwargs).square().sum(), args[0], create_graph=True)
    with pytest.raises(NotImplementedError, match=r"(?s)streamed.*twice.*impl='reference'"):
        gradient.sum().backward()


def test_vmap_raises_and_says_why():
    (q, k, v), kwargs = make_inputs(requires_grad=False).arguments()
    with pytest.raises(NotImplementedError, match=r"(?s)streamed.*vmap.*impl='reference'"):
        torch.vmap(lambda q: attend(q, k, v, **kwargs))(torch.stack([q, q]))


def test_vmap_over_the_reference_works():
    (q, k, v), kwargs = make_inputs(requires_grad=False).arguments()
    queries = torch.stack([q, 2 * q])
    actual = torch.vmap(lambda q: interactive_attention(q, k, v, **kwargs, impl="reference"))(queries)
    expected = torch.stack([dense_attention(q, k, v, **kwargs) for q in queries])
    torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-11)


def test_gradient_checkpointing_of_a_layer_changes_nothing():
    torch.manual_seed(0)
    layer = InteractiveAttention(8, 2, landmarks=(3,), impl="streamed").double()
    x = torch.randn(2, 20, 8, dtype=torch.float64, requires_grad=True)
    plain = torch.autograd.grad(layer(x).square().sum(), [x, *layer.parameters()])
    again: Any = checkpoint(layer, x, use_reentrant=False)
    checkpointed = torch.autograd.grad(again.square().sum(), [x, *layer.parameters()])
    for first, second in zip(plain, checkpointed, strict=True):
        assert torch.equal(first, second)


def test_the_output_belongs_to_the_caller():
    args, kwargs = make_inputs(requires_grad=False).arguments()
    before = [x.clone() for x in args]
    output = attend(*args, **kwargs)
    output.zero_()
    for x, then in zip(args, before, strict=True):
        assert torch.equal(x, then)
    assert attend(*args, **kwargs).any()
