"""The dense oracle: interactive attention by its definition, in float64, with nothing clever in it.

Legend: `B` batch, `H` heads, `N` queries, `M` keys, `L` landmarks, `D` head dim, `E` value head dim.

It forms the N x M map `F_q F_k`, loops over heads to mix and over cells to pool, and understands a mask as
*absence*: masked tokens and landmarks are taken out before anything is computed. So it is slow and quadratic,
and what a fast implementation must equal.
"""

from collections.abc import Sequence
from itertools import product
from typing import Protocol

import torch
from torch import Tensor


class Mixing(Protocol):
    """What the oracle reads of a `crosshead.HeadMixing`: two H x H matrices, each of which may be missing."""

    @property
    def logits(self) -> Tensor | None: ...  # noqa: D102
    @property
    def weights(self) -> Tensor | None: ...  # noqa: D102


def mix_heads(x: Tensor, matrix: Tensor | None) -> Tensor:
    """Mixes the heads of one sample, one head at a time: `y_g = x_g + sum_h R[g, h] x_h`.

    Args:
        x: (H, ...), one sample.
        matrix: (H, H) residual matrix `R`, or (H / K, K, K), the blocks on its diagonal; None for no mixing.

    Returns:
        (H, ...).

    Example:
        >>> swap = torch.tensor([[-1.0, 1.0], [1.0, -1.0]])
        >>> mix_heads(torch.tensor([[3.0], [5.0]]), swap).tolist()
        [[5.0], [3.0]]
    """
    if matrix is None:
        return x
    heads, whole = range(x.shape[0]), _whole(matrix)
    return torch.stack([x[g] + sum(whole[g, h] * x[h] for h in heads) for g in heads])


def _whole(matrix: Tensor) -> Tensor:
    return matrix if matrix.ndim == 2 else torch.block_diag(*matrix)


def dense_factor(rows: Tensor, columns: Tensor, *, scale: float, mixing: Mixing | None = None) -> Tensor:
    """One factor of one sample: `W(softmax(P(s * rows columns^T)))`, normalised over the columns.

    Args:
        rows: (H, R, D) the tokens that look.
        columns: (H, C, D) the tokens that are looked at.
        scale: `s`, the factor on the logits.
        mixing: the residual matrices of `P` and `W`.

    Returns:
        (H, R, C).

    Example:
        >>> dense_factor(torch.zeros(1, 1, 3), torch.zeros(1, 2, 3), scale=1.0).tolist()
        [[[0.5, 0.5]]]
    """
    logits = torch.stack([scale * (row @ column.T) for row, column in zip(rows, columns, strict=True)])
    weights = mix_heads(logits, mixing.logits if mixing else None).softmax(dim=-1)
    return mix_heads(weights, mixing.weights if mixing else None)


def dense_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    query_landmarks: Tensor,
    key_landmarks: Tensor,
    query_mixing: Mixing | None = None,
    key_mixing: Mixing | None = None,
    query_mask: Tensor | None = None,
    key_mask: Tensor | None = None,
    landmark_mask: Tensor | None = None,
    scale: float | None = None,
) -> Tensor:
    """Interactive attention through its N x M map, sample by sample and differentiable.

    Args:
        query: (B, H, N, D).
        key: (B, H, M, D).
        value: (B, H, M, E).
        query_landmarks: (B, H, L, D), the rows of the key factor.
        key_landmarks: (B, H, L, D), the columns of the query factor.
        query_mixing: mixing of the query factor.
        key_mixing: mixing of the key factor.
        query_mask: (B, N) bool, True = takes part; the output of the others is zero.
        key_mask: (B, M) bool, True = takes part.
        landmark_mask: (B, L) bool, True = holds a token.
        scale: factor on the logits; `D ** -0.5` when None.

    Returns:
        (B, H, N, E) in the dtype of the inputs: pass float64 for an oracle.

    Example:
        >>> q, k, v = (torch.zeros(1, 1, n, 2, dtype=torch.float64) for n in (3, 5, 5))
        >>> v += torch.arange(5.0)[:, None]
        >>> dense_attention(q, k, v, query_landmarks=q, key_landmarks=q)[0, 0, 0].tolist()
        [2.0, 2.0]
    """
    batch, heads, queries, dim = query.shape
    s = float(dim**-0.5 if scale is None else scale)
    samples = []
    for b in range(batch):
        asking = _taking_part(query_mask, b, queries)
        looked_at = _taking_part(key_mask, b, key.shape[2])
        landmarks = _taking_part(landmark_mask, b, key_landmarks.shape[2])
        sample = query.new_zeros(heads, queries, value.shape[-1])
        if asking and looked_at and landmarks:
            q_factor = dense_factor(
                query[b][:, asking], key_landmarks[b][:, landmarks], scale=s, mixing=query_mixing
            )
            k_factor = dense_factor(
                query_landmarks[b][:, landmarks], key[b][:, looked_at], scale=s, mixing=key_mixing
            )
            attention_map = torch.stack([q_factor[h] @ k_factor[h] for h in range(heads)])
            output = torch.stack([attention_map[h] @ value[b, h, looked_at] for h in range(heads)])
            sample = sample.index_copy(1, torch.tensor(asking, device=query.device), output)
        samples.append(sample)
    return torch.stack(samples) if samples else query.new_zeros(0, heads, queries, value.shape[-1])


def rounded_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    query_landmarks: Tensor,
    key_landmarks: Tensor,
    query_mixing: Mixing | None = None,
    key_mixing: Mixing | None = None,
    scale: float | None = None,
) -> Tensor:
    """The same equations without masks in the dtype of the inputs: the yardstick of an error budget.

    Logits, mixing and softmax are float32; factors are rounded to the input dtype before the value products.
    In float16 the key factor is scaled by a power of two near M first, so that 1 / M is a normal number, but
    by no more than 2^12, so that weights which mixing has raised as far as 15 do not overflow.

    Args:
        query: (B, H, N, D).
        key: (B, H, M, D).
        value: (B, H, M, E).
        query_landmarks: (B, H, L, D).
        key_landmarks: (B, H, L, D).
        query_mixing: mixing of the query factor.
        key_mixing: mixing of the key factor.
        scale: factor on the logits; `D ** -0.5` when None.

    Returns:
        (B, H, N, E) in the dtype of the inputs.

    Example:
        >>> q, k, v = (torch.ones(1, 1, n, 2, dtype=torch.bfloat16) for n in (3, 5, 5))
        >>> rounded_attention(q, k, v, query_landmarks=q, key_landmarks=q).dtype
        torch.bfloat16
    """
    dtype = query.dtype
    wide = torch.promote_types(dtype, torch.float32)
    keys, dim = key.shape[2:]
    s = float(dim**-0.5 if scale is None else scale)
    lift = min(2.0 ** (keys.bit_length() - 1), 2.0**12) if dtype == torch.float16 else 1.0

    def mix(x: Tensor, matrix: Tensor | None) -> Tensor:
        return x if matrix is None else x + (_whole(matrix).to(wide) @ x.flatten(2)).view_as(x)

    def factor(rows: Tensor, columns: Tensor, mixing: Mixing | None) -> Tensor:
        logits = mix(s * (rows.to(wide) @ columns.to(wide).mT), mixing.logits if mixing else None)
        return mix(logits.softmax(dim=-1), mixing.weights if mixing else None)

    q_factor = factor(query, key_landmarks, query_mixing).to(dtype)
    k_factor = (factor(query_landmarks, key, key_mixing) * lift).to(dtype)
    # Half-precision products accumulate in float32; in the open, so that the yardstick is one everywhere.
    summary = (k_factor.to(wide) @ value.to(wide) / lift).to(dtype)
    return (q_factor.to(wide) @ summary.to(wide)).to(dtype)


def cell_borders(tokens: int, cells: int) -> list[tuple[int, int]]:
    """First and one-past-last token of each cell along one axis, as `adaptive_avg_pool` draws them.

    Args:
        tokens: number of tokens along the axis.
        cells: number of cells along the axis.

    Example:
        >>> cell_borders(7, 3)
        [(0, 3), (2, 5), (4, 7)]
    """
    return [(i * tokens // cells, -((i + 1) * tokens // -cells)) for i in range(cells)]


def dense_pool(
    x: Tensor,
    *,
    grid: Sequence[int],
    cells: Sequence[int],
    mask: Tensor | None = None,
    num_prefix_tokens: int = 0,
) -> tuple[Tensor, Tensor]:
    """Landmarks of one sample, one cell at a time.

    In one dimension the valid tokens are gathered first, and there are never more cells than valid tokens; on
    grids of two and three axes cells are fixed and each averages the valid tokens in it. Prefix tokens come
    first and are landmarks of their own.

    Args:
        x: (N, C), one sample.
        grid: tokens per axis.
        cells: cells per axis.
        mask: (N,) bool, True = takes part.
        num_prefix_tokens: how many tokens stand before the grid.

    Returns:
        The landmarks (L, C), zero where a cell is empty, and which of them hold a token, (L,) bool.

    Example:
        >>> landmarks, occupied = dense_pool(torch.arange(5.0)[:, None], grid=(5,), cells=(2,))
        >>> landmarks.flatten().tolist(), occupied.tolist()
        ([1.0, 3.0], [True, True])
    """
    valid = torch.ones(len(x), dtype=torch.bool) if mask is None else mask
    prefix, tokens = list(range(num_prefix_tokens)), list(range(num_prefix_tokens, len(x)))
    groups = [[token] for token in prefix]
    if len(grid) == 1:
        tokens = [token for token in tokens if valid[token]]
        filled = min(cells[0], len(tokens))
        groups += [tokens[start:stop] for start, stop in cell_borders(len(tokens), filled)]
        groups += [[] for _ in range(cells[0] - filled)]
    else:
        places = dict(zip(product(*map(range, grid)), tokens, strict=True))
        for cell in product(*(cell_borders(n, c) for n, c in zip(grid, cells, strict=True))):
            groups.append([places[place] for place in product(*(range(*borders) for borders in cell))])
    groups = [[token for token in group if valid[token]] for group in groups]
    means = [x[group].mean(dim=0) if group else x.new_zeros(x.shape[-1]) for group in groups]
    landmarks = torch.stack(means) if means else x.new_zeros(0, x.shape[-1])
    return landmarks, torch.tensor([bool(group) for group in groups], dtype=torch.bool)


def _taking_part(mask: Tensor | None, sample: int, count: int) -> list[int]:
    return [i for i in range(count) if mask is None or bool(mask[sample, i])]
