"""The difference of two softmax maps.

Legend: `B` batch, `H` heads, `N` tokens, `C` channels, `D = C / H` head dim.
"""

import torch
from torch import Tensor

from crosshead.rivals.adapter import library_class
from crosshead.rivals.layer import Capabilities, Mechanism, Rival


class DifferentialAttention(Rival):
    """Two softmax maps for each head, of half its channels each, one subtracted from the other.

        O = norm((softmax(s Q1 K1^T) - lambda softmax(s Q2 K2^T)) V) (1 - lambda_init),    s = (D / 2)^-1/2
        lambda = exp(a1 . b1) - exp(a2 . b2) + lambda_init,    lambda_init = 0.8 - 0.6 exp(-0.3 depth)

    `a1, b1, a2, b2` are learned vectors of `D / 2` channels, and `norm` is an RMS norm for each head.

    Source: T. Ye et al., "Differential Transformer", arXiv 2410.05258, equations (1) to (3); timm's
    `DiffAttention`. Cost `N^2 C`.

    As in timm: `H` heads of `D` value channels (the paper halves the heads instead), `lambda` shared by the
    heads of a layer. Assumed: `depth` is 0 unless it is given, so `lambda_init` is 0.2; a sample without any
    valid token attends to its zeros.

    Args:
        dim: channels `C`.
        num_heads: `H`.
        depth: layers below this one, which decide `lambda_init`.
        **options: as `Rival` takes them.

    Raises:
        ImportError: timm is not installed.
        ValueError: a head has an odd number of channels.

    Example:
        >>> import torch
        >>> DifferentialAttention(32, 4, grid=(5, 3))(torch.randn(2, 15, 32), grid=(5, 3)).shape
        torch.Size([2, 15, 32])
    """

    mechanism = Mechanism(
        title="differential attention",
        paper="Ye et al. 2024, arXiv 2410.05258",
        complexity="N^2 C",
        source="timm DiffAttention",
        heads_talk=False,
        capabilities=Capabilities(key_mask=True, any_grid=True, any_length=True, linear=False),
    )

    def __init__(self, dim: int, num_heads: int, *, depth: int = 0, **options) -> None:
        super().__init__(dim, num_heads, **options)
        if self.head_dim % 2:
            raise ValueError(
                f"dim must be an even multiple of num_heads, two maps a head; got {dim=}, {num_heads=}"
            )
        layer_class = library_class("timm.layers", "DiffAttention", package="timm")
        self.layer = layer_class(
            dim, num_heads, qkv_bias=self.qkv_bias, proj_bias=self.proj_bias, depth=depth
        ).to(**self.placed)

    def attend(self, x: Tensor, grid: tuple[int, int], key_mask: Tensor | None) -> Tensor:
        """`(B, N, C)` to `(B, N, C)`."""
        if key_mask is None:
            return self.layer(x)
        # A row without any key has no softmax: there all take part again.
        allowed = key_mask | ~key_mask.any(1, keepdim=True)
        # Added and not bool, it means the same to both of timm's ways of computing.
        bias = torch.zeros_like(allowed, dtype=x.dtype).masked_fill(~allowed, -torch.inf)
        return self.layer(x, attn_mask=bias[:, None, None])
