"""Interactive attention whose queries and keys are turned by their positions, for timm's `Eva` and its kind.

Legend: `B` batch, `N` tokens, `C` channels, `H` heads, `D` head dim, `L` landmarks.
"""

from collections.abc import Sequence
from typing import Any

import torch
from timm.layers import AttentionRope, apply_rot_embed_cat
from timm.models.eva import EvaAttention
from torch import Tensor

from crosshead.attention.functional import interactive_attention
from crosshead.attention.module import InteractiveAttention
from crosshead.attention.pooling import Pooling, resolve_pooling

# To symbolic tracing these are single steps: they decide by what a tracer does not know, such as sizes.
torch.fx.wrap("at_centres")
torch.fx.wrap("interactive_attention")
torch.fx.wrap("resolve_pooling")

# Of vectors that nearly cancel the mean has no direction: it is left short.
SHORTEST = 1e-3


class RotaryAttention(InteractiveAttention):
    """Stands in for timm's `EvaAttention` and `AttentionRope`, with the very same parameters.

    Landmarks are pooled before the rotation, and turned as a token at the centre of their cell would be.
    Class and register tokens are not turned, nor are their landmarks.

    Args:
        old: whose projections, norms and dropout are taken over, under the names they have there.
        **options: `landmarks`, `mixing` and the like, as `InteractiveAttention` takes them.

    Source: the rotation is that of arXiv 2104.09864 on two axes; landmarks at centres are ours, see
    docs/decisions.md.
    """

    qkv: Any
    q_proj: Any
    k_proj: Any
    v_proj: Any

    def __init__(self, old: EvaAttention | AttentionRope, **options: Any) -> None:
        projection: Any = old.q_proj if old.qkv is None else old.qkv
        like = projection.weight
        super().__init__(like.shape[1], old.num_heads, device=like.device, dtype=like.dtype, **options)
        self.num_kv_heads = getattr(old, "num_kv_heads", old.num_heads)
        self.rotate_half = old.rotate_half
        self.qkv, self.q_proj, self.k_proj, self.v_proj = old.qkv, old.q_proj, old.k_proj, old.v_proj
        # Eva's own, which gives keys no bias.
        self.q_bias, self.v_bias = getattr(old, "q_bias", None), getattr(old, "v_bias", None)
        self.q_norm, self.k_norm, self.norm = old.q_norm, old.k_norm, old.norm
        self.proj, self.proj_drop = old.proj, old.proj_drop

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, x: Tensor, *, grid: Sequence[int], rope: Tensor | None = None
    ) -> Tensor:
        """Attends over a grid of tokens.

        Args:
            x: `(B, N, C)`, prefix tokens first, then the grid in row-major order.
            grid: its rows and columns.
            rope: `(rows * columns, 2 D)`, or `(H, rows * columns, 2 D)` where heads turn differently: sines,
                then cosines, as timm makes them. None where positions are learned.

        Returns:
            `(B, N, C)`.

        Raises:
            ValueError: if the grid does not fit the tokens.
            TypeError: if the grid does not hold integers.
        """
        pooling = resolve_pooling(
            x,
            grid=grid,
            key_mask=None,
            context=None,
            context_grid=None,
            context_mask=None,
            dim=self.dim,
            landmarks=self.landmarks,
            num_prefix_tokens=self.num_prefix_tokens,
            local=self.local is not None,
        )
        q, k, v = self._queries_keys_values(x)
        q, k = self.q_norm(q), self.k_norm(k)
        q, k, ql, kl = self._with_landmarks(pooling, q, k, rope)
        out = interactive_attention(
            q,
            k,
            v,
            query_landmarks=ql,
            key_landmarks=kl,
            query_mixing=self.query_mixing(),
            key_mixing=self.key_mixing(),
            impl=self.impl,
        )
        out = out.transpose(1, 2).flatten(2)
        if self.local is not None:
            out = out + self.local(v, grid=pooling.grid)
        return self.proj_drop(self.proj(self.norm(out)))

    def _queries_keys_values(self, x: Tensor) -> tuple[Tensor, ...]:
        """Three times `(B, H, N, D)`; fewer heads of keys and values serve several of queries each."""
        if self.qkv is None:
            projected = self.q_proj(x), self.k_proj(x), self.v_proj(x)
        else:
            projected = self.qkv(x).chunk(3, -1)
        q, k, v = projected
        if self.q_bias is not None:
            q, v = q + self.q_bias, v + self.v_bias
        q, k, v = (part.unflatten(-1, (-1, self.head_dim)).transpose(1, 2) for part in (q, k, v))
        if self.num_kv_heads != self.num_heads:
            shared = self.num_heads // self.num_kv_heads
            k, v = k.repeat_interleave(shared, 1), v.repeat_interleave(shared, 1)
        return q, k, v

    def _with_landmarks(
        self, pooling: Pooling, q: Tensor, k: Tensor, rope: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Queries, keys and the landmarks of both, turned."""
        ql, kl = pooling.of_queries(q), pooling.of_keys(k)
        if rope is None:
            return q, k, ql, kl
        centres = at_centres(rope, pooling.grid, pooling.landmarks)
        q, k = self._turned(q, rope), self._turned(k, rope)
        return q, k, self._turned(ql, centres), self._turned(kl, centres)

    def _turned(self, x: Tensor, rope: Tensor) -> Tensor:
        """`(B, H, N, D)`, all but the prefix tokens turned."""
        prefix, body = x[:, :, : self.num_prefix_tokens], x[:, :, self.num_prefix_tokens :]
        return torch.cat([prefix, apply_rot_embed_cat(body, rope, half=self.rotate_half).to(x.dtype)], 2)


def at_centres(rope: Tensor, grid: Sequence[int], cells: Sequence[int]) -> Tensor:
    """The rotation of a token that stood at the centre of each cell.

    Angles are linear in the position, so at the centre of a cell the angle is the mean of those in it. Tables
    hold angles as sines and cosines: their mean over the whole cell may point the other way, where the cell
    spans more than a turn. So it is taken over the one or two tokens in the middle of each axis, and brought
    back to the length of one.

    Args:
        rope: `(..., N, 2 D)`, sines, then cosines.
        grid: rows and columns of the tokens.
        cells: rows and columns of the landmarks, with the borders of `pool_landmarks`.

    Returns:
        `(..., L, 2 D)`.

    Example:
        >>> angles = torch.tensor([[0.0], [1.0], [2.0], [3.0]])
        >>> sine, cosine = at_centres(torch.cat([angles.sin(), angles.cos()], -1), (4, 1), (2, 1)).unbind(-1)
        >>> torch.atan2(sine, cosine).tolist()
        [0.5, 2.5]
    """
    turns = rope.unflatten(-2, tuple(grid))
    for axis, n, l in zip((-3, -2), grid, cells, strict=True):  # noqa: E741
        cell = torch.arange(l, device=rope.device)
        # Twice the mean position of the tokens in a cell: the first and the last, added.
        twice = cell * n // l + ((cell + 1) * n + l - 1) // l - 1
        turns = (turns.index_select(axis, twice // 2) + turns.index_select(axis, (twice + 1) // 2)) / 2
    sine, cosine = turns.flatten(-3, -2).chunk(2, -1)
    length = (sine.square() + cosine.square()).clamp(min=SHORTEST**2).sqrt()
    return torch.cat([sine / length, cosine / length], -1)
