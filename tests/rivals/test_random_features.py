"""Performer, against the package's layer and against its estimator, written from its features."""

import pytest
import torch
from performer_pytorch import SelfAttention

from crosshead.rivals.random_features import PerformerAttention

GRID = (3, 4)


def drawn(**options) -> tuple[PerformerAttention, torch.Tensor]:
    torch.manual_seed(0)
    layer = PerformerAttention(32, 4, grid=GRID, **options).double()
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return layer, torch.randn(2, 12, 32, dtype=torch.float64)


def test_it_is_the_packages_layer():
    layer, x = drawn()
    package = SelfAttention(32, heads=4, dim_head=8, qkv_bias=True).double()
    package.load_state_dict(layer.layer.state_dict())
    assert torch.equal(layer(x, grid=GRID), package(x))


def features(x: torch.Tensor, projection: torch.Tensor, *, shift_over: tuple[int, ...]) -> torch.Tensor:
    x = x / 8**0.25
    seen = x @ projection.T
    shift = seen.amax(shift_over, keepdim=True)
    return ((seen - x.square().sum(1, keepdim=True) / 2 - shift).exp() + 1e-4) / len(projection) ** 0.5


def test_it_is_the_normalised_estimate_of_the_kernel():
    layer, x = drawn()
    weights = layer.layer
    projection = weights.fast_attention.projection_matrix
    outputs = []
    for sample in x:
        q, k, v = (
            sample @ linear.weight.T + linear.bias for linear in (weights.to_q, weights.to_k, weights.to_v)
        )
        heads = []
        for own in torch.arange(32).chunk(4):
            queries = features(q[:, own], projection, shift_over=(1,))
            keys = features(k[:, own], projection, shift_over=(0, 1))
            kernel = queries @ keys.T
            heads.append(kernel / kernel.sum(1, keepdim=True) @ v[:, own])
        outputs.append(torch.cat(heads, 1) @ weights.to_out.weight.T + weights.to_out.bias)
    torch.testing.assert_close(layer(x, grid=GRID), torch.stack(outputs), rtol=1e-11, atol=1e-11)


def test_features_are_orthogonal_in_blocks_and_as_many_as_the_package_takes():
    layer, _ = drawn()
    projection = layer.layer.fast_attention.projection_matrix
    assert projection.shape == (16, 8)
    for block in projection.split(8):
        products = block @ block.T
        torch.testing.assert_close(products, products.diag().diag(), rtol=0, atol=1e-5)


def test_a_head_of_one_channel_is_refused():
    with pytest.raises(ValueError, match=r"dim must be at least twice num_heads.*dim=4, num_heads=4"):
        PerformerAttention(4, 4, grid=GRID)
