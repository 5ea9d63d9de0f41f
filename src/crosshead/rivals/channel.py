"""Attention between channels instead of tokens.

Legend: `B` batch, `H` heads, `N` tokens, `C` channels, `D = C / H` head dim.
"""

from torch import Tensor

from crosshead.rivals.adapter import library_class, set_bias
from crosshead.rivals.layer import Capabilities, Mechanism, Rival


class CrossCovarianceAttention(Rival):
    """XCA: the `D x D` map of a head says which channels go together, over all tokens.

        O = V softmax(t K'^T Q')    with columns of the map summing to one

    `Q'` and `K'` are `(N, D)` with columns of unit length, `t` is a learned temperature for each head.

    Source: A. El-Nouby et al., "XCiT", arXiv 2106.09681, section 3.2; timm's `XCA`. Cost `N D C`.

    As in timm: the map is transposed, `softmax(t Q'^T K')` with rows that sum to one, applied to `V^T`, and
    `t` multiplies where the paper divides by a temperature. Tokens meet only in sums over all of them: XCiT
    adds a local layer for the rest, which is not part of this one. No mask: timm's takes none. Assumed:
    nothing but `proj_bias`, which timm always has.

    Args:
        dim: channels `C`.
        num_heads: `H`.
        **options: as `Rival` takes them.

    Raises:
        ImportError: timm is not installed.

    Example:
        >>> import torch
        >>> CrossCovarianceAttention(32, 4, grid=(5, 3))(torch.randn(2, 15, 32), grid=(5, 3)).shape
        torch.Size([2, 15, 32])
    """

    mechanism = Mechanism(
        title="cross-covariance attention",
        paper="El-Nouby et al. 2021, arXiv 2106.09681",
        complexity="N D C",
        source="timm XCA",
        heads_talk=False,
        capabilities=Capabilities(key_mask=False, any_grid=True, any_length=True, linear=True),
    )

    def __init__(self, dim: int, num_heads: int, **options) -> None:
        super().__init__(dim, num_heads, **options)
        layer_class = library_class("timm.models.xcit", "XCA", package="timm")
        self.layer = layer_class(dim, num_heads, qkv_bias=self.qkv_bias, **self.placed)
        set_bias(self.layer.proj, wanted=self.proj_bias)

    def attend(self, x: Tensor, grid: tuple[int, int], key_mask: Tensor | None) -> Tensor:
        """`(B, N, C)` to `(B, N, C)`."""
        return self.layer(x)
