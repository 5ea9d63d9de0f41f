"""Talking heads: what interaction costs on the full map of `N x N` tokens.

Legend: `B` batch, `H` heads, `N` tokens, `C` channels, `D = C / H` head dim.
"""

from torch import Tensor

from crosshead.rivals.adapter import library_class, set_bias
from crosshead.rivals.layer import Capabilities, Mechanism, Rival


class TalkingHeads(Rival):
    """Softmax attention whose heads are mixed before and after the softmax.

        L = P_l (Q K^T / sqrt(D))        logits, mixed over heads
        O = (P_w softmax(L)) V           weights, mixed over heads

    Source: N. Shazeer et al., "Talking-Heads Attention", arXiv 2003.02436; timm's `TalkingHeadAttn`, made for
    CaiT (arXiv 2103.17239). Cost `N^2 (C + H^2)`.

    As in timm: `P_l` and `P_w` are H x H linear layers with bias and no residual, so a fresh layer is not
    softmax attention; queries, softmax and values have the same number of heads; no fused kernel applies.
    Assumed: nothing but `proj_bias`, which timm always has.

    Args:
        dim: channels `C`.
        num_heads: `H`.
        **options: as `Rival` takes them.

    Raises:
        ImportError: timm is not installed.

    Example:
        >>> import torch
        >>> TalkingHeads(32, 4, grid=(5, 3))(torch.randn(2, 15, 32), grid=(5, 3)).shape
        torch.Size([2, 15, 32])
    """

    mechanism = Mechanism(
        title="talking heads",
        paper="Shazeer et al. 2020, arXiv 2003.02436",
        complexity="N^2 (C + H^2)",
        source="timm TalkingHeadAttn",
        heads_talk=True,
        capabilities=Capabilities(key_mask=False, any_grid=True, any_length=True, linear=False),
    )

    def __init__(self, dim: int, num_heads: int, **options) -> None:
        super().__init__(dim, num_heads, **options)
        layer_class = library_class("timm.models.cait", "TalkingHeadAttn", package="timm")
        self.layer = layer_class(dim, num_heads, qkv_bias=self.qkv_bias, **self.placed)
        set_bias(self.layer.proj, wanted=self.proj_bias)

    def attend(self, x: Tensor, grid: tuple[int, int], key_mask: Tensor | None) -> Tensor:
        """`(B, N, C)` to `(B, N, C)`."""
        return self.layer(x)
