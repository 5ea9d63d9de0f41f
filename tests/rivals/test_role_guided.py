from math import sqrt

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from crosshead.rivals.role_guided import RoleGuidedAttention


def sees(role: int, here: int, there: int, columns: int) -> bool:
    down, across = there // columns - here // columns, there % columns - here % columns
    return [True, down == 0, across == 0, max(abs(down), abs(across)) <= 1][role]


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(("grid", "num_heads"), [((5, 3), 4), ((2, 4), 6), ((4, 3), 2)])
def test_heads_look_where_their_role_lets_them(
    assert_equal_to_formula, between_projections, grid, num_heads, masked
):
    layer = RoleGuidedAttention(12, num_heads, grid=grid)
    tokens = range(grid[0] * grid[1])

    def heads(q: Tensor, k: Tensor, v: Tensor, valid: Tensor) -> Tensor:
        logits = q @ k.mT / sqrt(layer.head_dim)
        mask = torch.full_like(logits, -torch.inf)
        for b in range(len(q)):
            for h in range(num_heads):
                for i in tokens:
                    for j in tokens:
                        # A masked token is given itself to look at; what comes out of it is not compared.
                        if i == j or (valid[b, j] and sees(h % 4, i, j, grid[1])):
                            mask[b, h, i, j] = 0
        return (logits + mask).softmax(-1) @ v

    assert_equal_to_formula(layer, between_projections(layer, heads), grid=grid, masked=masked)


def test_every_token_sees_something_whatever_is_masked(monkeypatch):
    masks = []
    monkeypatch.setattr(
        F, "scaled_dot_product_attention", lambda q, k, v, attn_mask: masks.append(attn_mask) or v
    )
    layer = RoleGuidedAttention(8, 4, grid=(3, 3))
    layer(torch.randn(2, 9, 8), grid=(3, 3), key_mask=torch.arange(18).view(2, 9) == 4)
    assert masks[0].any(-1).all()
