"""Adaptive multi-resolution attention: heads from fine to coarse, between which each query chooses.

Legend: `B` batch, `H` heads, `N` tokens, `D` head dim, `C = H D` channels.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crosshead.attention.grid import along_tokens, zero_outside
from crosshead.rivals.kernel_attention import kernel_attention
from crosshead.rivals.layer import Capabilities, Mechanism, Projected

# Tokens along each axis of a cell, for the finest heads, the next, and the coarsest.
_CELL_SIDES = (1, 2, 4)


class MultiResolutionAttention(Projected):
    """Kernel attention whose heads see keys and values at different resolutions, each query with its choice.

        K_h, V_h averaged over cells of 1 x 1, 2 x 2 or 4 x 4 tokens
        O_h,i = sum_j phi(q_i) . phi(k_j) v_j / sum_j phi(q_i) . phi(k_j),   phi(x) = elu(x) + 1
        out_i = concat_h(H g_h O_h,i),   g = softmax_H(W q_i + b)

    Source: Y. Zhang, Y. Ma, T. Seidl, V. Tresp, "Adaptive Multi-Resolution Attention with Linear Complexity",
    arXiv 2108.04962. Cost `N D C`.

    Assumed: of the paper we know that heads work on keys and values compressed from coarse to fine, that each
    query chooses by its own representation, and that kernel attention keeps it linear; none of its equations
    is known to us. So these choices are ours: compression by averages over cells of the grid, smaller at the
    border where sides do not divide; three resolutions for three groups of heads, as equal as can be (with
    fewer than three heads the coarsest are left out); `phi`; a soft choice between heads, read from
    a token's queries of all heads; the factor `H` and the zero start of `W` and `b`, by which a fresh layer
    weighs all heads alike.

    Args:
        dim: channels `C`.
        num_heads: `H`.
        **options: as `Rival` takes them.

    Example:
        >>> import torch
        >>> MultiResolutionAttention(32, 4, grid=(5, 3))(torch.randn(2, 15, 32), grid=(5, 3)).shape
        torch.Size([2, 15, 32])
    """

    mechanism = Mechanism(
        title="AdaMRA",
        paper="Zhang et al. 2021, arXiv 2108.04962",
        complexity="N D C",
        source="written from the abstract; the equations are assumed",
        heads_talk=False,
        capabilities=Capabilities(key_mask=True, any_grid=True, any_length=True, linear=True),
    )

    def __init__(self, dim: int, num_heads: int, **options) -> None:
        super().__init__(dim, num_heads, **options)
        self.cell_sides = _CELL_SIDES[:num_heads]
        self.choice = nn.Linear(dim, num_heads, **self.placed)
        nn.init.zeros_(self.choice.weight)
        nn.init.zeros_(self.choice.bias)

    def attend_heads(
        self, q: Tensor, k: Tensor, v: Tensor, grid: tuple[int, int], key_mask: Tensor | None
    ) -> Tensor:
        """`(B, H, N, D)` to `(B, H, N, D)`."""
        groups = (x.tensor_split(len(self.cell_sides), dim=1) for x in (F.elu(q) + 1, k, v))
        heads = [
            _at_resolution(features, keys, values, side, grid, key_mask)
            for side, features, keys, values in zip(self.cell_sides, *groups, strict=True)
        ]
        gate = self.num_heads * self.choice(q.transpose(1, 2).flatten(2)).softmax(-1)
        return torch.cat(heads, dim=1) * gate.transpose(1, 2)[..., None]


def _at_resolution(
    features: Tensor, k: Tensor, v: Tensor, side: int, grid: tuple[int, int], key_mask: Tensor | None
) -> Tensor:
    if key_mask is None:
        return kernel_attention(features, F.elu(_average(k, side, grid)) + 1, _average(v, side, grid))
    share = _average(along_tokens(key_mask, k).to(k.dtype), side, grid)
    seen = share > 0
    share = share.where(seen, 1)
    k = _average(zero_outside(key_mask, k), side, grid) / share
    v = _average(zero_outside(key_mask, v), side, grid) / share
    return kernel_attention(features, (F.elu(k) + 1) * seen, v)


def _average(x: Tensor, side: int, grid: tuple[int, int]) -> Tensor:
    """`(B, H, N, D)` to `(B, H, M, D)`: means over cells that share no token, which keeps the cost linear."""
    image = x.transpose(-1, -2).flatten(1, 2).unflatten(-1, grid)
    cells = F.avg_pool2d(image, side, ceil_mode=True).flatten(2)
    return cells.unflatten(1, (x.shape[1], x.shape[3])).transpose(-1, -2)
