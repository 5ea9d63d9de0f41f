"""Differential attention, against timm's layer and against equations (1) to (3) of the paper."""

from math import exp

import pytest
import torch
from timm.layers import DiffAttention

from crosshead.rivals.differential import DifferentialAttention

GRID = (3, 4)


def drawn(depth: int = 0) -> tuple[DifferentialAttention, torch.Tensor]:
    torch.manual_seed(0)
    layer = DifferentialAttention(16, 4, grid=GRID, depth=depth).double()
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return layer, torch.randn(2, 12, 16, dtype=torch.float64)


def masks() -> torch.Tensor:
    return torch.stack([torch.arange(12) < 7, torch.arange(12) % 3 > 0])


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_it_is_timms_layer_with_its_mask(masked, fused):
    layer, x = drawn(depth=2)
    package = DiffAttention(16, 4, qkv_bias=True, depth=2).double()
    package.load_state_dict(layer.layer.state_dict())
    layer.layer.fused_attn = package.fused_attn = fused
    if not masked:
        assert torch.equal(layer(x, grid=GRID), package(x))
        return
    mask = masks()
    expected = package(x, attn_mask=mask[:, None, None].expand(2, 1, 12, 12))
    actual = layer(x, grid=GRID, key_mask=mask)
    torch.testing.assert_close(actual[mask], expected[mask], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("depth", [0, 3])
@pytest.mark.parametrize("masked", [False, True])
def test_it_is_the_difference_of_two_maps(depth, masked):
    layer, x = drawn(depth)
    weights = layer.layer
    start = 0.8 - 0.6 * exp(-0.3 * depth)
    one, two = weights.lambda_q1 @ weights.lambda_k1, weights.lambda_q2 @ weights.lambda_k2
    # timm computes lambda in float32 whatever the rest.
    factor = (one.float().exp() - two.float().exp() + start).double()
    mask = masks() if masked else torch.ones(2, 12, dtype=torch.bool)
    actual = layer(x, grid=GRID, key_mask=mask if masked else None)
    for sample, valid, found in zip(x, mask, actual, strict=True):
        q, k, v = (sample[valid] @ weights.qkv.weight.T + weights.qkv.bias).chunk(3, 1)
        heads = []
        for h in range(4):
            first, second = slice(4 * h, 4 * h + 2), slice(4 * h + 2, 4 * h + 4)
            one, two = ((q[:, half] @ k[:, half].T / 2**0.5).softmax(1) for half in (first, second))
            head = (one - factor * two) @ v[:, 4 * h : 4 * h + 4]
            length = (head.square().mean(1, keepdim=True) + 1e-5).sqrt()
            heads.append(head / length * weights.sub_norm.weight * (1 - start))
        expected = torch.cat(heads, 1) @ weights.proj.weight.T + weights.proj.bias
        torch.testing.assert_close(found[valid], expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("fused", [False, True])
def test_a_sample_without_any_token_is_zero_and_harms_no_gradient(fused):
    layer, x = drawn()
    layer.layer.fused_attn = fused
    mask = torch.stack([torch.zeros(12, dtype=torch.bool), torch.arange(12) < 7])
    y = layer(x.requires_grad_(), grid=GRID, key_mask=mask)
    assert not y[0].any()
    y.sum().backward()
    for parameter in (x, *layer.parameters()):
        assert parameter.grad is not None
        assert parameter.grad.isfinite().all()


def test_an_odd_number_of_channels_a_head_is_refused():
    with pytest.raises(ValueError, match=r"dim must be an even multiple of num_heads.*dim=12, num_heads=4"):
        DifferentialAttention(12, 4, grid=GRID)
