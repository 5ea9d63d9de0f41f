"""The model of a trial on sequences: blocks of timm around attention in one dimension.

Legend: `B` batch, `N` tokens, `C` channels, `K` classes.
"""

from typing import Any

import torch
from timm.layers import Mlp
from torch import Tensor, nn

from crosshead.attention.masks import zero_outside

PADDING = 0


class SequenceClassifier(nn.Module):
    """Embedding, blocks of attention and MLP, the mean over the tokens that are there, and a linear layer.

    Args:
        attention: the class of the attention, called as `attention(x, grid=grid, key_mask=mask)`.
        attention_options: what to build it with besides channels and heads.
        grid: what to call the tokens in the attention's own terms: `(N,)` or `(1, N)`.
        dim: channels `C`.
        depth: blocks.
        num_heads: heads.
        hidden: hidden channels of the MLPs.
        vocabulary: symbols, the first of them padding.
        num_classes: classes `K`.

    Example:
        >>> from crosshead import InteractiveAttention
        >>> model = SequenceClassifier(
        ...     InteractiveAttention, {"landmarks": (4,)}, grid=(9,), dim=16, depth=1, num_heads=4, hidden=32,
        ...     vocabulary=16, num_classes=10,
        ... )
        >>> model(torch.tensor([[3, 7, 15, 0, 0, 0, 0, 0, 0]])).shape
        torch.Size([1, 10])
    """

    def __init__(
        self,
        attention: type[nn.Module],
        attention_options: dict[str, Any],
        *,
        grid: tuple[int, ...],
        dim: int,
        depth: int,
        num_heads: int,
        hidden: int,
        vocabulary: int,
        num_classes: int,
    ) -> None:
        super().__init__()
        self.grid = grid
        self.embedding = nn.Embedding(vocabulary, dim, padding_idx=PADDING)
        nn.init.normal_(self.embedding.weight)
        self.register_buffer("positions", sinusoids(grid[-1], dim), persistent=False)
        self.blocks = nn.ModuleList(
            SequenceBlock(attention(dim, num_heads, **attention_options), dim, hidden) for _ in range(depth)
        )
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, num_classes)

    def forward(self, tokens: Tensor) -> Tensor:
        """Integers `(B, N)`, 0 behind the end of a sequence, to logits `(B, K)`."""
        mask = tokens != PADDING
        x = self.embedding(tokens) + self.positions
        for block in self.blocks:
            x = block(x, self.grid, mask)
        x = zero_outside(mask, self.norm(x))
        return self.head(x.sum(1) / mask.sum(1, keepdim=True).clamp(min=1))


class SequenceBlock(nn.Module):
    """A pre-norm block: attention, then an MLP.

    Args:
        attention: the attention.
        dim: channels `C`.
        hidden: hidden channels of the MLP.
    """

    def __init__(self, attention: nn.Module, dim: int, hidden: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attention = attention
        self.mlp = Mlp(dim, hidden)

    def forward(self, x: Tensor, grid: tuple[int, ...], mask: Tensor) -> Tensor:
        """`(B, N, C)` to `(B, N, C)`."""
        x = x + self.attention(self.norm1(x), grid=grid, key_mask=mask)
        return x + self.mlp(self.norm2(x))


def sinusoids(length: int, dim: int) -> Tensor:
    """Positions `(length, dim)` as sines and cosines of falling frequency.

    Source: A. Vaswani et al., arXiv 1706.03762, section 3.5.

    Example:
        >>> sinusoids(3, 4)[0]
        tensor([0., 0., 1., 1.])
    """
    rates = 10_000.0 ** (-torch.arange(0, dim, 2) / dim)
    angles = torch.arange(length)[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], 1)
