from math import cos, log, pi

import pytest
import torch
from torch import Tensor

from crosshead.rivals.reweighted import CosFormer, FocusedLinearAttention


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("grid", [(5, 3), (1, 7)])
def test_cosformer_weighs_by_features_and_distance(
    assert_equal_to_formula, between_projections, grid, masked
):
    layer = CosFormer(12, 3, grid=grid)
    tokens = grid[0] * grid[1]
    near = torch.tensor([[cos(pi / 2 * (i - j) / tokens) for j in range(tokens)] for i in range(tokens)])
    near = torch.tensor(
        [[cos(pi / 2 * (i - j) / tokens) for j in range(tokens)] for i in range(tokens)], dtype=torch.float64
    )

    def heads(q: Tensor, k: Tensor, v: Tensor, valid: Tensor) -> Tensor:
        weights = (q.clamp(min=0) @ k.clamp(min=0).mT * near).masked_fill(~valid[:, None, None], 0)
        return weights @ v / weights.sum(-1, keepdim=True).clamp(min=1e-6)

    assert_equal_to_formula(layer, between_projections(layer, heads), grid=grid, masked=masked)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("grid", [(5, 3), (2, 6)])
def test_focused_attention_weighs_by_focused_features_and_convolves_values(
    assert_equal_to_formula, between_projections, depth_wise, grid, masked
):
    layer = FocusedLinearAttention(12, 3, grid=grid)

    def heads(q: Tensor, k: Tensor, v: Tensor, valid: Tensor) -> Tensor:
        def focused(x: Tensor) -> Tensor:
            x = (x.clamp(min=0) + 1e-6) / (1 + layer.scale.exp()).log()
            cube = x * x * x
            return cube * ((x * x).sum(-1, keepdim=True) / (cube * cube).sum(-1, keepdim=True)).sqrt()

        weights = (focused(q) @ focused(k).mT).masked_fill(~valid[:, None, None], 0)
        near = depth_wise(v, layer.local.conv.weight, grid, valid)
        return weights @ v / weights.sum(-1, keepdim=True).clamp(min=1e-6) + near

    assert_equal_to_formula(layer, between_projections(layer, heads), grid=grid, masked=masked)


def test_focusing_keeps_length_and_turns_to_the_largest_feature():
    layer = FocusedLinearAttention(6, 1, grid=(1, 1), dtype=torch.float64)
    x = torch.tensor([3.0, 1.0, 2.0, -5.0, 0.0, 0.5], dtype=torch.float64)[None, None, None]
    out, plain = layer._focused(x), x.clamp(min=0) / log(2)
    torch.testing.assert_close(out.norm(), plain.norm(), rtol=1e-5, atol=0)
    assert out[..., 0] / out.norm() > plain[..., 0] / plain.norm()


def test_focusing_loses_nothing_but_the_last_rounding_where_cubes_leave_the_range_of_float16():
    layer = FocusedLinearAttention(4, 1, grid=(1, 1), dtype=torch.float16)
    rows = [[3000.0, 2000.0, 1e-3, 0.0], [-1.0, -2.0, -3.0, 0.0], [1e-3, 7e-4, 2e-4, -1.0]]
    x = torch.tensor(rows, dtype=torch.float16)[None, None]
    exact = layer.double()._focused(x.double())
    assert exact[0, 0, 0, 1] > 1000
    out = layer.half()._focused(x)
    assert out.dtype == torch.float16
    torch.testing.assert_close(out.double(), exact, rtol=0.51 * torch.finfo(torch.float16).eps, atol=6e-8)


def test_a_fresh_focused_layer_convolves_over_five_tokens_each_way():
    layer = FocusedLinearAttention(12, 3, grid=(5, 3))
    assert layer.local.conv.weight.shape == (12, 1, 5, 5)
    assert layer.local.conv.weight.abs().min() > 0
