"""GlobalMind's axial attention: every channel is a head, whole rows and whole columns are its tokens.

Legend: `B` batch, `N = R W` tokens in `R` rows and `W` columns, `C` channels.
"""

from math import sqrt

from torch import Tensor, nn

from crosshead.rivals.layer import Capabilities, Mechanism, Rival
from crosshead.rivals.masked_softmax import masked_softmax


class AxialBlock(Rival):
    """Axial attention of GlobalMind's GlobalM, over rows and over columns.

        Q, K, V = depth-wise 1x1 convolutions of x                  each (C, R, W)
        rows = softmax(Q K^T / sqrt(W)) V,   columns = (softmax(Q^T K / sqrt(R)) V^T)^T
        out = Conv3x3(rows + columns)

    The convolution runs over all channels: it lets the heads talk, on their outputs, and is the
    last projection.

    Source: M. Hu, C. Wu, L. Zhang, "GlobalMind", ISPRS JPRS 211, 2024, the row and the column segmentation of
    GlobalM, written from the equation. Cost `N (R + W) C`, and `9 N C^2` for the convolution.

    Assumed: both axes share queries, keys and values, and are summed before one convolution; all convolutions
    start as torch's usual ones. The normalisation before, the residual connections and the MLP are the
    backbone's. In masked batches masked tokens are zero in queries, keys and values, rows and columns without
    a token are left out, and the convolution sees zeros at masked tokens.

    Args:
        dim: channels `C`, each of them a head.
        num_heads: a divisor of `dim`, taken for the sake of the common call; it changes nothing.
        **options: as `Rival` takes them.

    Example:
        >>> import torch
        >>> AxialBlock(32, 4, grid=(5, 3))(torch.randn(2, 15, 32), grid=(5, 3)).shape
        torch.Size([2, 15, 32])
    """

    mechanism = Mechanism(
        title="GlobalMind axial block",
        paper="Hu, Wu, Zhang 2024, ISPRS JPRS 211",
        complexity="N (R + W) C",
        source="written from the equation; the sum of both axes is assumed",
        heads_talk=True,
        capabilities=Capabilities(key_mask=True, any_grid=True, any_length=True, linear=False),
    )

    def __init__(self, dim: int, num_heads: int, **options) -> None:
        super().__init__(dim, num_heads, **options)
        self.query, self.key, self.value = (
            nn.Conv2d(dim, dim, 1, groups=dim, bias=self.qkv_bias, **self.placed) for _ in range(3)
        )
        self.mix = nn.Conv2d(dim, dim, 3, padding=1, bias=self.proj_bias, **self.placed)

    def attend(self, x: Tensor, grid: tuple[int, int], key_mask: Tensor | None) -> Tensor:
        """`(B, N, C)` to `(B, N, C)`."""
        image = x.transpose(1, 2).unflatten(-1, grid)
        present = None if key_mask is None else key_mask.unflatten(-1, grid)[:, None]
        q, k, v = (_shown(conv(image), present) for conv in (self.query, self.key, self.value))
        rows = _attend_to_rows(q, k, v, present)
        columns = _attend_to_rows(q.mT, k.mT, v.mT, None if present is None else present.mT).mT
        return self.mix(_shown(rows + columns, present)).flatten(2).transpose(1, 2)


def _shown(image: Tensor, present: Tensor | None) -> Tensor:
    return image if present is None else image.masked_fill(~present, 0)


def _attend_to_rows(q: Tensor, k: Tensor, v: Tensor, present: Tensor | None) -> Tensor:
    """`(B, C, R, W)` to `(B, C, R, W)`; `present` is `(B, 1, R, W)`."""
    occupied = None if present is None else present.any(-1)[:, :, None]
    return masked_softmax(q @ k.mT / sqrt(q.shape[-1]), occupied) @ v
