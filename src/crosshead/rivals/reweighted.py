"""Kernel attention made sharper: by the distance of tokens, or by the direction of features.

Legend: `B` batch, `H` heads, `N` tokens, `D` head dim, `C = H D` channels.
"""

from math import pi

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crosshead.attention.grid import zero_outside
from crosshead.attention.impl.precision import accumulation_dtype, without_autocast
from crosshead.attention.local import LocalTerm
from crosshead.rivals.kernel_attention import kernel_attention
from crosshead.rivals.layer import Capabilities, Mechanism, Projected


class CosFormer(Projected):
    """cosFormer: ReLU features, whose products count the less the further the tokens are apart.

        w_ij = relu(q_i) . relu(k_j) cos(pi/2 (i - j) / N)
        O_i = sum_j w_ij v_j / sum_j w_ij

    By Ptolemy's theorem `cos(a - b) = cos a cos b + sin a sin b`, the weights are products of features
    `[relu(x_i) cos(pi i / 2N), relu(x_i) sin(pi i / 2N)]`. Denominators below 1e-6 count as 1e-6.

    Source: Z. Qin et al., "cosFormer", arXiv 2202.08791, written from the equation. Cost `N D C`, twice that
    of kernel attention without distances.

    Assumed for grids, since the paper treats sequences: the position `i` is the index of a token row by row,
    so that neighbours in a column are a row's length apart. The length is `N`, padding included.

    Args:
        dim: channels `C`.
        num_heads: `H`.
        **options: as `Rival` takes them.

    Example:
        >>> import torch
        >>> CosFormer(32, 4, grid=(5, 3))(torch.randn(2, 15, 32), grid=(5, 3)).shape
        torch.Size([2, 15, 32])
    """

    mechanism = Mechanism(
        title="cosFormer",
        paper="Qin et al. 2022, arXiv 2202.08791",
        complexity="N D C",
        source="written from the equation",
        heads_talk=False,
        capabilities=Capabilities(key_mask=True, any_grid=True, any_length=True, linear=True),
    )

    def attend_heads(
        self, q: Tensor, k: Tensor, v: Tensor, grid: tuple[int, int], key_mask: Tensor | None
    ) -> Tensor:
        """`(B, H, N, D)` to `(B, H, N, D)`."""
        tokens = q.shape[-2]
        index = torch.arange(tokens, device=q.device, dtype=accumulation_dtype(q.dtype))
        angle = (pi / 2 / tokens * index)[:, None]
        cosine, sine = angle.cos().to(q.dtype), angle.sin().to(q.dtype)
        q, k = q.relu(), zero_outside(key_mask, k.relu())
        return kernel_attention(
            torch.cat([q * cosine, q * sine], dim=-1), torch.cat([k * cosine, k * sine], dim=-1), v
        )


class FocusedLinearAttention(Projected):
    """Focused linear attention: features are turned towards their largest entries, their length kept.

        f(x) = |x| / |x^p| x^p,   x = relu(.) / softplus(scale),   p = 3
        O_i = sum_j f(q_i) . f(k_j) v_j / sum_j f(q_i) . f(k_j) + DWC5x5(V)_i

    Source: D. Han et al., "FLatten Transformer", ICCV 2023, arXiv 2308.00442, written from the equation. Cost
    `N D C`.

    Assumed: a learned `scale` for each channel, common to queries and keys and zero at first; lengths taken
    head by head; 1e-6 added after the ReLU, so that no length is zero; a convolution of 5 x 5, one filter for
    each channel, without a bias and with torch's usual initialisation. Features are computed in float32, or
    float64 for float64 inputs.

    Args:
        dim: channels `C`.
        num_heads: `H`.
        **options: as `Rival` takes them.

    Example:
        >>> import torch
        >>> FocusedLinearAttention(32, 4, grid=(5, 3))(torch.randn(2, 15, 32), grid=(5, 3)).shape
        torch.Size([2, 15, 32])
    """

    mechanism = Mechanism(
        title="focused linear attention",
        paper="Han et al. 2023, arXiv 2308.00442",
        complexity="N D C",
        source="written from the equation",
        heads_talk=False,
        capabilities=Capabilities(key_mask=True, any_grid=True, any_length=True, linear=True),
    )

    focus = 3

    def __init__(self, dim: int, num_heads: int, **options) -> None:
        super().__init__(dim, num_heads, **options)
        self.scale = nn.Parameter(torch.zeros(num_heads, 1, self.head_dim, **self.placed))
        self.local = LocalTerm(dim, axes=2, kernel_size=5, **self.placed)
        self.local.conv.reset_parameters()

    def attend_heads(
        self, q: Tensor, k: Tensor, v: Tensor, grid: tuple[int, int], key_mask: Tensor | None
    ) -> Tensor:
        """`(B, H, N, D)` to `(B, H, N, D)`."""
        v = zero_outside(key_mask, v)
        near = self.local(v, grid=grid).unflatten(-1, (self.num_heads, self.head_dim)).transpose(1, 2)
        return kernel_attention(self._focused(q), zero_outside(key_mask, self._focused(k)), v) + near

    def _focused(self, x: Tensor) -> Tensor:
        with without_autocast(x):
            dtype = accumulation_dtype(x.dtype)
            y = (x.to(dtype).relu() + 1e-6) / F.softplus(self.scale.to(dtype))
            length = torch.linalg.vector_norm(y, dim=-1, keepdim=True)
            # f has degree one: powers are taken of a unit vector, lest small entries vanish.
            sharp = (y / length) ** self.focus
            return (length * F.normalize(sharp, dim=-1)).to(x.dtype)
