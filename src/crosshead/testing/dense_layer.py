"""The dense oracle of the layer: `crosshead.InteractiveAttention` from its parameters, one sample at a time.

Legend: `N` query tokens, `M` key tokens, `C` channels, `H` heads, `D` head dim, `L` landmarks.

Nothing is pooled before a projection, nothing is batched, and masked tokens are taken out by
`crosshead.testing.oracle`.
"""

from collections.abc import Sequence
from itertools import product
from math import prod

import torch
from torch import Tensor, nn

from crosshead.attention.module import InteractiveAttention
from crosshead.testing.oracle import dense_attention, dense_pool


def dense_layer(
    layer: InteractiveAttention,
    x: Tensor,
    *,
    grid: Sequence[int],
    key_mask: Tensor | None = None,
    context: Tensor | None = None,
    context_grid: Sequence[int] | None = None,
    context_mask: Tensor | None = None,
) -> Tensor:
    """What the layer must return, without dropout.

    Args:
        layer: holds the parameters; pass it in float64 for an oracle.
        x: (B, N, C).
        grid: tokens per axis.
        key_mask: (B, N) bool, True = takes part.
        context: (B, M, C), or None for self-attention.
        context_grid: tokens per axis of the context.
        context_mask: (B, M) bool, True = takes part.

    Returns:
        (B, N, C).

    Example:
        >>> layer = InteractiveAttention(8, 2, landmarks=(2,)).double()
        >>> x = torch.randn(2, 5, 8, dtype=torch.float64)
        >>> torch.allclose(dense_layer(layer, x, grid=(5,)), layer(x, grid=(5,)))
        True
    """
    samples = []
    for b in range(len(x)):
        asking = (x[b], tuple(grid), None if key_mask is None else key_mask[b])
        if context is None or context_grid is None:
            samples.append(_dense_sample(layer, asking, asking))
        else:
            valid = None if context_mask is None else context_mask[b]
            samples.append(_dense_sample(layer, asking, (context[b], tuple(context_grid), valid)))
    return torch.stack(samples) if samples else x.clone()


_Side = tuple[Tensor, tuple[int, ...], Tensor | None]


def _dense_sample(layer: InteractiveAttention, asking: _Side, looked_at: _Side) -> Tensor:
    (x, grid, mask), (context, context_grid, context_mask) = asking, looked_at
    mask = torch.ones(len(x), dtype=torch.bool) if mask is None else mask
    context_mask = torch.ones(len(context), dtype=torch.bool) if context_mask is None else context_mask
    x = torch.where(mask[:, None], x, torch.zeros_like(x))
    context = torch.where(context_mask[:, None], context, torch.zeros_like(context))

    q = layer.q_norm(_heads(layer, x, part=0))
    k = layer.k_norm(_heads(layer, context, part=1))
    v = _heads(layer, context, part=2)
    prefix = layer.num_prefix_tokens
    wanted = (layer.landmarks,) * len(grid) if isinstance(layer.landmarks, int) else layer.landmarks
    cells = [min(axes) for axes in zip(wanted, grid, context_grid, strict=True)]
    if len(grid) == 1:
        cells_used = [min(cells[0], int(mask[prefix:].sum()), int(context_mask[prefix:].sum()))]
    else:
        cells_used = cells
    ql, q_occupied = _pool_heads(q, grid=grid, cells=cells_used, mask=mask, num_prefix_tokens=prefix)
    kl, k_occupied = _pool_heads(
        k, grid=context_grid, cells=cells_used, mask=context_mask, num_prefix_tokens=prefix
    )
    occupied = q_occupied & k_occupied
    if not occupied.any():
        return torch.zeros_like(x)
    out = dense_attention(
        q[None],
        k[None],
        v[None],
        query_landmarks=ql[None],
        key_landmarks=kl[None],
        query_mixing=layer.query_mixing(),
        key_mixing=layer.key_mixing(),
        query_mask=mask[None],
        key_mask=context_mask[None],
        landmark_mask=occupied[None],
    )[0]
    out = torch.cat(list(out), dim=-1)
    if layer.local is not None:
        values = torch.cat(list(v), dim=-1) * context_mask[:, None]
        out = out + _dense_local(layer.local.conv, values, grid, prefix)
    return layer.proj(out) * mask[:, None]


def _heads(layer: InteractiveAttention, x: Tensor, *, part: int) -> Tensor:
    """(N, C) to (H, N, D), one head at a time; `part` is 0 for queries, 1 for keys, 2 for values."""
    dim, head_dim = layer.dim, layer.dim // layer.num_heads
    heads = []
    for start in range(part * dim, (part + 1) * dim, head_dim):
        head = x @ layer.qkv.weight[start : start + head_dim].T
        heads.append(head if layer.qkv.bias is None else head + layer.qkv.bias[start : start + head_dim])
    return torch.stack(heads)


def _pool_heads(x: Tensor, **sizes) -> tuple[Tensor, Tensor]:
    pooled = [dense_pool(head, **sizes) for head in x]
    return torch.stack([landmarks for landmarks, _ in pooled]), pooled[0][1]


def _dense_local(conv: nn.Module, values: Tensor, grid: tuple[int, ...], prefix: int) -> Tensor:
    """Depth-wise convolution, zeros outside the grid, one tap at a time; prefix tokens stand on no grid."""
    weight, bias = conv.weight, conv.bias
    assert isinstance(weight, Tensor)
    assert bias is None or isinstance(bias, Tensor)
    place = {where: prefix + i for i, where in enumerate(product(*map(range, grid)))}
    assert len(place) == prod(grid)
    rows = [values.new_zeros(values.shape[-1]) for _ in range(prefix)]
    for where in place:
        row = values.new_zeros(values.shape[-1]) if bias is None else bias
        for tap in product(*map(range, weight.shape[2:])):
            there = tuple(w + t - size // 2 for w, t, size in zip(where, tap, weight.shape[2:], strict=True))
            if there in place:
                row = row + weight[(slice(None), 0, *tap)] * values[place[there]]
        rows.append(row)
    return torch.stack(rows)
