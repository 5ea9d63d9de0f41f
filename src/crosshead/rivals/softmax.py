"""Softmax attention: what every other mechanism is measured against."""

from torch import Tensor
from torch.nn import functional as F

from crosshead.rivals.layer import Capabilities, Mechanism, Projected


class SoftmaxAttention(Projected):
    """Multi-head softmax attention over torch's `scaled_dot_product_attention`.

        O = softmax(Q K^T / sqrt(D)) V

    Source: A. Vaswani et al., "Attention Is All You Need", arXiv 1706.03762, equation (1). Cost `N^2 C`.

    Args:
        dim: channels `C`.
        num_heads: `H`.
        **options: as `Rival` takes them.

    Example:
        >>> import torch
        >>> SoftmaxAttention(32, 4, grid=(5, 3))(torch.randn(2, 15, 32), grid=(5, 3)).shape
        torch.Size([2, 15, 32])
    """

    mechanism = Mechanism(
        title="softmax attention",
        paper="Vaswani et al. 2017, arXiv 1706.03762",
        complexity="N^2 C",
        source="torch scaled_dot_product_attention",
        heads_talk=False,
        capabilities=Capabilities(key_mask=True, any_grid=True, any_length=True, linear=False),
    )

    def attend_heads(
        self, q: Tensor, k: Tensor, v: Tensor, grid: tuple[int, int], key_mask: Tensor | None
    ) -> Tensor:
        """`(B, H, N, D)` to `(B, H, N, D)`."""
        if key_mask is None:
            return F.scaled_dot_product_attention(q, k, v)
        # A row without any key has no softmax: there the keys, whose values are zero, take part again.
        allowed = key_mask | ~key_mask.any(1, keepdim=True)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=allowed[:, None, None])
