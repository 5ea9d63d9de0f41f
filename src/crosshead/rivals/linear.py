"""Linear attention without a denominator: the keys are normalised on their own.

Legend: `B` batch, `H` heads, `N` tokens, `D` head dim, `C = H D` channels.
"""

import torch
from torch import Tensor

from crosshead.attention.grid import along_tokens, zero_outside
from crosshead.rivals.layer import Capabilities, Mechanism, Projected
from crosshead.rivals.masked_softmax import masked_softmax


class EfficientAttention(Projected):
    """Efficient attention: queries are normalised over features, keys over tokens.

        O = softmax_D(Q) (softmax_N(K)^T V)

    Source: Z. Shen et al., "Efficient Attention", arXiv 1812.01243, 2018, written from the equation. Cost
    `N D C`.

    Assumed: no scale on queries and keys. The residual connection is the backbone's.

    Args:
        dim: channels `C`.
        num_heads: `H`.
        **options: as `Rival` takes them.

    Example:
        >>> import torch
        >>> EfficientAttention(32, 4, grid=(5, 3))(torch.randn(2, 15, 32), grid=(5, 3)).shape
        torch.Size([2, 15, 32])
    """

    mechanism = Mechanism(
        title="efficient attention",
        paper="Shen et al. 2018, arXiv 1812.01243",
        complexity="N D C",
        source="written from the equation",
        heads_talk=False,
        capabilities=Capabilities(key_mask=True, any_grid=True, any_length=True, linear=True),
    )

    def attend_heads(
        self, q: Tensor, k: Tensor, v: Tensor, grid: tuple[int, int], key_mask: Tensor | None
    ) -> Tensor:
        """`(B, H, N, D)` to `(B, H, N, D)`."""
        keys = None if key_mask is None else along_tokens(key_mask, k)
        context = masked_softmax(k, keys, dim=-2).transpose(-1, -2) @ v
        return q.softmax(-1) @ context


class HydraAttention(Projected):
    """Hydra attention: every feature is a head, and what remains of the map is one sum over the tokens.

        O_i = q^_i * sum_j (k^_j * v_j)

    The products are element-wise over all `C` channels; `q^` and `k^` are queries and keys of unit Euclidean
    length over them. `num_heads` changes nothing.

    Source: D. Bolya et al., "Hydra Attention", arXiv 2209.07484, written from the equation. Cost `N C`.

    Args:
        dim: channels `C`, each of them a head.
        num_heads: a divisor of `dim`, taken for the sake of the common call.
        **options: as `Rival` takes them.

    Example:
        >>> import torch
        >>> HydraAttention(32, 4, grid=(5, 3))(torch.randn(2, 15, 32), grid=(5, 3)).shape
        torch.Size([2, 15, 32])
    """

    mechanism = Mechanism(
        title="Hydra attention",
        paper="Bolya et al. 2022, arXiv 2209.07484",
        complexity="N C",
        source="written from the equation",
        heads_talk=False,
        capabilities=Capabilities(key_mask=True, any_grid=True, any_length=True, linear=True),
    )

    def attend_heads(
        self, q: Tensor, k: Tensor, v: Tensor, grid: tuple[int, int], key_mask: Tensor | None
    ) -> Tensor:
        """`(B, H, N, D)` to `(B, H, N, D)`."""
        return _unit(q) * (_unit(k) * zero_outside(key_mask, v)).sum(-2, keepdim=True)


def _unit(x: Tensor) -> Tensor:
    """`(B, H, N, D)` with each token of Euclidean length 1 over heads and features together."""
    return x / torch.linalg.vector_norm(x, dim=(1, 3), keepdim=True).clamp(min=1e-6)
