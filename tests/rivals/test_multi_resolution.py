import pytest
import torch
from torch import Tensor

from crosshead.rivals.multi_resolution import MultiResolutionAttention


def cells(grid: tuple[int, int], side: int) -> list[list[int]]:
    """The tokens of squares of `side` tokens, those at the border smaller."""
    where: dict[tuple[int, int], list[int]] = {}
    for token in range(grid[0] * grid[1]):
        where.setdefault((token // grid[1] // side, token % grid[1] // side), []).append(token)
    return [where[cell] for cell in sorted(where)]


def phi(x: Tensor) -> Tensor:
    return torch.where(x > 0, x + 1, x.clamp(max=0).exp())


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(
    ("grid", "sides"),
    [((5, 3), (1, 2, 4)), ((4, 8), (1, 1, 2, 4)), ((7, 5), (1, 2)), ((2, 3), (1,))],
)
def test_heads_see_averages_at_their_resolution_and_queries_choose_between_them(
    assert_equal_to_formula, between_projections, grid, sides, masked
):
    layer = MultiResolutionAttention(4 * len(sides), len(sides), grid=grid)

    def heads(q: Tensor, k: Tensor, v: Tensor, valid: Tensor) -> Tensor:
        out = []
        for h, side in enumerate(sides):
            above, below = torch.zeros_like(v[:, h]), torch.zeros_like(v[:, h, :, :1])
            for cell in cells(grid, side):
                here = valid[:, cell, None]
                count = here.sum(1).clamp(min=1)
                key = (k[:, h, cell] * here).sum(1) / count
                value = (v[:, h, cell] * here).sum(1) / count
                weight = torch.einsum("bnd,bd->bn", phi(q[:, h]), phi(key)) * here.any(1)
                above = above + weight[..., None] * value[:, None]
                below = below + weight[..., None]
            out.append(above / below)
        gate = torch.cat(list(q.unbind(1)), dim=-1) @ layer.choice.weight.T + layer.choice.bias
        return torch.stack(out, dim=1) * len(sides) * gate.softmax(-1).mT[..., None]

    assert_equal_to_formula(layer, between_projections(layer, heads), grid=grid, masked=masked)


def test_a_fresh_layer_weighs_all_heads_alike():
    layer = MultiResolutionAttention(12, 3, grid=(4, 4))
    q, k, v = torch.randn(3, 2, 3, 16, 4)
    v = torch.ones_like(v)
    torch.testing.assert_close(layer.attend_heads(q, k, v, (4, 4), None), v)
