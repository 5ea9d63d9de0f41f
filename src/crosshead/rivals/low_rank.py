"""Attention to a fixed number of learned combinations of the tokens.

Legend: `B` batch, `H` heads, `N` tokens, `L` projected tokens, `C` channels, `D = C / H` head dim.
"""

from math import prod

from torch import Tensor

from crosshead.rivals.adapter import library_class, set_bias
from crosshead.rivals.layer import Capabilities, Mechanism, Rival


class LinformerAttention(Rival):
    """Softmax attention over keys and values that are projected along the tokens.

        O = softmax(Q (E^T K)^T / sqrt(D)) (F^T V),    E and F learned, (N, L)

    Source: S. Wang et al., "Linformer", arXiv 2006.04768, equation (7); the package linformer. Cost `N L C`.

    As in the package: `E` and `F` differ, each is shared by the heads, and each has a row for every token, so
    a layer serves the grid that it was built for. (The package takes shorter sequences too, with the first
    rows; on an image those would be the rows of other places.) No mask: the package ignores one. Assumed:
    biases of the projections to queries, keys and values, which the package lacks, begin at zero.

    Args:
        dim: channels `C`.
        num_heads: `H`.
        share_key_value: whether `F` is `E`, the paper's key-value sharing, which saves `N L` parameters.
        **options: as `Rival` takes them; `L` is the product of `landmarks`.

    Raises:
        ImportError: linformer is not installed.

    Example:
        >>> import torch
        >>> layer = LinformerAttention(32, 4, grid=(6, 4), landmarks=(3, 2))
        >>> layer(torch.randn(2, 24, 32), grid=(6, 4)).shape
        torch.Size([2, 24, 32])
    """

    mechanism = Mechanism(
        title="Linformer",
        paper="Wang et al. 2020, arXiv 2006.04768",
        complexity="N L C",
        source="linformer LinformerSelfAttention",
        heads_talk=False,
        capabilities=Capabilities(key_mask=False, any_grid=True, any_length=False, linear=True),
    )

    def __init__(self, dim: int, num_heads: int, *, share_key_value: bool = False, **options) -> None:
        super().__init__(dim, num_heads, **options)
        layer_class = library_class("linformer", "LinformerSelfAttention", package="linformer")
        length, projected = prod(self.grid), prod(self.landmarks)
        self.layer = layer_class(dim, length, k=projected, heads=num_heads).to(**self.placed)
        if share_key_value:
            self.layer.proj_v = self.layer.proj_k
        for projection in (self.layer.to_q, self.layer.to_k, self.layer.to_v):
            set_bias(projection, wanted=self.qkv_bias)
        set_bias(self.layer.to_out, wanted=self.proj_bias)

    def attend(self, x: Tensor, grid: tuple[int, int], key_mask: Tensor | None) -> Tensor:
        """`(B, N, C)` to `(B, N, C)`."""
        return self.layer(x)
