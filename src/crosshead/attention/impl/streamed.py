"""The same attention in linear memory: tiles of tokens, and a backward pass that computes the factors again.

Legend: `B` batch, `H` heads, `N` query tokens, `M` key tokens, `L` landmarks, `D` head dim,
`E` value head dim, `T` tokens of one tile; `P` and `W` the residual matrices of logit and weight mixing.

Beyond inputs and outputs nothing is kept but the aggregate `A = F_k V` (B, H, L, E) and the normaliser of the
key factor (2, B, H, L): the shift and the inverse sum of each row.

The key factor mixes heads after a softmax over all M keys, so its normaliser must be known first: one pass
over the keys for the normaliser, a second for the aggregate. For the same reason the backward pass goes over
the keys twice. Each pass is a function of its own: where tokens are shared out over processes, these exchange
sums in between (see `sharded.py`).

To torch this is one opaque operator, so tracers never see the loop over tiles and a new length compiles
nothing.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from crosshead.attention.impl.operator import define_operator, empty_gradients, implement
from crosshead.attention.impl.precision import MASKED_LOGIT, accumulation_dtype, key_scale
from crosshead.attention.mixing import mix_heads
from crosshead.attention.operands import Operands

# Elements of a factor held at a time, B H L T. Measured: docs/decisions.md, "The tile of streamed".
TILE_ELEMENTS = 2**20
# Shorter tiles spend their time on overheads; where even these do not fit, samples take turns.
SHORTEST_TILE = 64


def attention(operands: Operands, tile: int | None = None) -> Tensor:
    """`O = F_q (F_k V)`, `tile` tokens at a time (by default as many as fit `TILE_ELEMENTS`)."""
    return torch.ops.crosshead.streamed(*operands, tile)[0]


def key_statistics(operands: Operands, tile: int | None = None) -> tuple[Tensor, Tensor]:
    """Of each row of the key factor the largest logit and the sum of weights over it, `(B, H, L)` each."""
    k, ql, p_key, key_mask = operands.k, operands.ql, operands.p_key, operands.key_mask
    # Not -inf, whose distance to a logit of -inf would be NaN.
    shift = _total(ql, *ql.shape[:3]).fill_(torch.finfo(accumulation_dtype(ql.dtype)).min)
    row_sum = torch.zeros_like(shift)
    for b, tiles in _turns(k, ql, tile):
        landmarks = _scaled(ql[b], operands.scale)
        for t in tiles:
            logits = _mixed_logits(_product(landmarks, k[b, :, t]), p_key, _columns(key_mask, b, t))
            raised = torch.maximum(shift[b], logits.amax(-1))
            row_sum[b] *= (shift[b] - raised).exp_()
            row_sum[b] += (logits - raised[..., None]).exp_().sum(-1)
            shift[b] = raised
    return shift, row_sum


def key_aggregate(operands: Operands, normaliser: Tensor, tile: int | None = None) -> Tensor:
    """`F_k V`, `(B, H, L, E)`, not rounded yet; rows of empty landmarks hold anything finite."""
    k, v, ql, p_key, w_key, key_mask = (
        operands.k,
        operands.v,
        operands.ql,
        operands.p_key,
        operands.w_key,
        operands.key_mask,
    )
    total = _total(v, *ql.shape[:3], v.shape[3])
    for b, tiles in _turns(k, ql, tile):
        landmarks = _scaled(ql[b], operands.scale)
        for t in tiles:
            mask = _columns(key_mask, b, t)
            logits = _mixed_logits(_product(landmarks, k[b, :, t]), p_key, mask)
            f_k = mix_heads(_weights(logits, mask, normaliser[:, b]), w_key)
            total[b] += _rounded(f_k, v.dtype, key_scale(v.dtype)) @ v[b, :, t].to(total.dtype)
    return total


def query_output(operands: Operands, aggregate: Tensor, tile: int | None = None) -> Tensor:
    """`O = F_q A`, `(B, H, N, E)`."""
    q, kl, p_query, w_query = operands.q, operands.kl, operands.p_query, operands.w_query
    output = aggregate.new_empty(*q.shape[:3], aggregate.shape[3])
    for b, tiles in _turns(q, kl, tile):
        landmarks, mask = _scaled(kl[b], operands.scale), _columns(operands.landmark_mask, b)
        right = aggregate[b].to(landmarks.dtype)
        for t in tiles:
            logits = _mixed_logits(_product(q[b, :, t], landmarks), p_query, mask)
            f_q = mix_heads(_weights(logits, mask), w_query)
            output[b, :, t] = (_rounded(f_q, output.dtype) @ right).to(output.dtype)
    return output


def query_gradients(
    grad_output: Tensor, operands: Operands, aggregate: Tensor, tile: int | None = None
) -> tuple[list[Tensor], Tensor]:
    """The gradients of q, kl, p_query and w_query, and that of the aggregate, not rounded."""
    q, v, kl, p_query, w_query = operands.q, operands.v, operands.kl, operands.p_query, operands.w_query
    grads = empty_gradients(q, kl, p_query, w_query)
    grad_right = _total(v, *aggregate.shape)
    of_query = _MixingGradient(p_query, w_query, grad_right.dtype)
    for b, tiles in _turns(q, kl, tile):
        landmarks, mask = _scaled(kl[b], operands.scale), _columns(operands.landmark_mask, b)
        right, grad_landmarks = aggregate[b].to(landmarks.dtype), torch.zeros_like(landmarks)
        for t in tiles:
            raw = _product(q[b, :, t], landmarks)
            weights = _weights(_mixed_logits(raw, p_query, mask), mask)
            upstream = grad_output[b, :, t].to(landmarks.dtype)
            grad_right[b] += _rounded(mix_heads(weights, w_query), v.dtype).mT @ upstream
            grad_factor = upstream @ right.mT
            overlap = (mix_heads(grad_factor, _transposed(w_query)) * weights).sum(-1)
            grad_raw = of_query.through(grad_factor, weights, raw, overlap)
            grads[0][b, :, t] = grad_raw @ landmarks
            grad_landmarks += grad_raw.mT @ q[b, :, t].to(landmarks.dtype)
            del raw, weights, grad_factor, grad_raw  # or they stand beside those of the next tile
        grads[1][b] = grad_landmarks * operands.scale
    of_query.store(*grads[2:])
    return grads, grad_right


def key_overlap(
    grad_right: Tensor, operands: Operands, normaliser: Tensor, tile: int | None = None
) -> Tensor:
    """What the softmax of the key factor takes from all gradients of a row, `(B, H, L)`."""
    k, v, ql, p_key, w_key, key_mask = (
        operands.k,
        operands.v,
        operands.ql,
        operands.p_key,
        operands.w_key,
        operands.key_mask,
    )
    overlap = torch.zeros_like(normaliser[0])
    for b, tiles in _turns(k, ql, tile):
        landmarks = _scaled(ql[b], operands.scale)
        for t in tiles:
            mask = _columns(key_mask, b, t)
            logits = _mixed_logits(_product(landmarks, k[b, :, t]), p_key, mask)
            weights = _weights(logits, mask, normaliser[:, b])
            grad_factor = grad_right[b] @ v[b, :, t].to(landmarks.dtype).mT
            overlap[b] += (mix_heads(grad_factor, _transposed(w_key)) * weights).sum(-1)
    return overlap


def key_gradients(
    grad_right: Tensor, operands: Operands, normaliser: Tensor, overlap: Tensor, tile: int | None = None
) -> list[Tensor]:
    """The gradients of k, v, ql, p_key and w_key."""
    k, v, ql, p_key, w_key, key_mask = (
        operands.k,
        operands.v,
        operands.ql,
        operands.p_key,
        operands.w_key,
        operands.key_mask,
    )
    grads = empty_gradients(k, v, ql, p_key, w_key)
    of_key = _MixingGradient(p_key, w_key, normaliser.dtype)
    for b, tiles in _turns(k, ql, tile):
        landmarks = _scaled(ql[b], operands.scale)
        grad_landmarks = torch.zeros_like(landmarks)
        for t in tiles:
            mask = _columns(key_mask, b, t)
            raw = _product(landmarks, k[b, :, t])
            weights = _weights(_mixed_logits(raw, p_key, mask), mask, normaliser[:, b])
            f_k = _rounded(mix_heads(weights, w_key), v.dtype, key_scale(v.dtype))
            grads[1][b, :, t] = f_k.mT @ grad_right[b]
            grad_factor = grad_right[b] @ v[b, :, t].to(landmarks.dtype).mT
            grad_raw = of_key.through(grad_factor, weights, raw, overlap[b])
            grads[0][b, :, t] = grad_raw.mT @ landmarks
            grad_landmarks += grad_raw @ k[b, :, t].to(landmarks.dtype)
            del raw, weights, f_k, grad_factor, grad_raw  # as above
        grads[2][b] = grad_landmarks * operands.scale
    of_key.store(*grads[3:])
    return grads


def _keep_rows(landmark_mask: Tensor | None, x: Tensor) -> Tensor:
    """`(B, H, L, E)` with zeros in the rows of empty landmarks."""
    return _keep_where(None if landmark_mask is None else landmark_mask[:, None, :, None], x)


def _forward(operands: Operands, tile: int | None) -> tuple[Tensor, Tensor, Tensor]:
    shift, row_sum = key_statistics(operands, tile)
    normaliser = torch.stack([shift, row_sum.reciprocal_()])
    aggregate = _keep_rows(operands.landmark_mask, key_aggregate(operands, normaliser, tile))
    aggregate = aggregate.to(operands.v.dtype)
    return query_output(operands, aggregate, tile), aggregate, normaliser


def _backward(
    grad_output: Tensor, operands: Operands, tile: int | None, aggregate: Tensor, normaliser: Tensor
) -> list[Tensor]:
    (q, kl, p_query, w_query), grad_right = query_gradients(grad_output, operands, aggregate, tile)
    grad_right = _keep_rows(operands.landmark_mask, grad_right)
    overlap = key_overlap(grad_right, operands, normaliser, tile)
    k, v, ql, p_key, w_key = key_gradients(grad_right, operands, normaliser, overlap, tile)
    return [q, k, v, ql, kl, p_query, w_query, p_key, w_key]


class _MixingGradient:
    """Carries gradients of one factor back through mixing and softmax; adds up those of its two matrices."""

    def __init__(self, p: Tensor | None, w: Tensor | None, dtype: torch.dtype) -> None:
        self.p_transposed, self.w_transposed = _transposed(p), _transposed(w)
        self.p = None if p is None else torch.zeros_like(p, dtype=dtype)
        self.w = None if w is None else torch.zeros_like(w, dtype=dtype)

    def through(self, grad_factor: Tensor, weights: Tensor, raw: Tensor, overlap: Tensor) -> Tensor:
        """From the gradient of the factor to that of the raw logits; `overlap` is that of the softmax."""
        grad_logits = weights * (mix_heads(grad_factor, self.w_transposed) - overlap[..., None])
        if self.w is not None:
            self.w += _between_heads(grad_factor, weights, self.w)
        if self.p is not None:
            self.p += _between_heads(grad_logits, raw, self.p)
        return mix_heads(grad_logits, self.p_transposed)

    def store(self, p: Tensor, w: Tensor) -> None:
        """Rounds both sums to the dtypes of the matrices."""
        for grad, total in ((p, self.p), (w, self.w)):
            if total is not None:
                grad.copy_(total)


def _turns(tokens: Tensor, landmarks: Tensor, tile: int | None) -> Iterator[tuple[slice, list[slice]]]:
    """Which samples, and for these which tiles of tokens, are looked at together."""
    batch, heads, count, _ = landmarks.shape
    tile = tile or max(SHORTEST_TILE, TILE_ELEMENTS // (heads * count))
    samples = max(1, TILE_ELEMENTS // (heads * count * min(tile, tokens.shape[2])))
    for b in _slices(batch, samples):
        yield b, _slices(tokens.shape[2], tile)


def _slices(length: int, step: int) -> list[slice]:
    return [slice(start, min(start + step, length)) for start in range(0, length, step)]


def _scaled(landmarks: Tensor, scale: float) -> Tensor:
    """Landmarks are the few: scaling them, and not the logits, saves a pass over each factor."""
    return landmarks.to(accumulation_dtype(landmarks.dtype)) * scale


def _product(rows: Tensor, columns: Tensor) -> Tensor:
    dtype = accumulation_dtype(rows.dtype)
    return rows.to(dtype) @ columns.to(dtype).mT


def _mixed_logits(raw: Tensor, p: Tensor | None, mask: Tensor | None) -> Tensor:
    logits = mix_heads(raw, p)
    return logits if mask is None else logits.masked_fill(~mask, MASKED_LOGIT)


def _weights(logits: Tensor, mask: Tensor | None, normaliser: Tensor | None = None) -> Tensor:
    if normaliser is None:
        return _keep_where(mask, logits.softmax(-1))
    shift, inverse_sum = normaliser[..., None]
    return _keep_where(mask, (logits - shift).exp_().mul_(inverse_sum))


def _rounded(factor: Tensor, dtype: torch.dtype, enlarged: float = 1.0) -> Tensor:
    """The factor as `dtype` holds it, in its own dtype again."""
    return factor if factor.dtype == dtype else (factor * enlarged).to(dtype).to(factor.dtype) / enlarged


def _between_heads(a: Tensor, b: Tensor, like: Tensor) -> Tensor:
    """`(B, H, R, S)` twice to the shape of a mixing matrix: inner products of heads of `a` and of `b`."""
    left, right = (x.transpose(0, 1).flatten(1).split(like.shape[-1]) for x in (a, b))
    # Group by group: batched, small products are added up number by number, and long sums lose digits.
    return torch.stack([x @ y.mT for x, y in zip(left, right, strict=True)]).view_as(like)


def _transposed(matrix: Tensor | None) -> Tensor | None:
    return None if matrix is None else matrix.mT


def _keep_where(mask: Tensor | None, x: Tensor) -> Tensor:
    """`x` where the mask, of its own axes, is true, and zeros elsewhere."""
    return x if mask is None else x.masked_fill(~mask, 0)


def _columns(mask: Tensor | None, b: slice, t: slice = slice(None)) -> Tensor | None:
    return None if mask is None else mask[b, None, None, t]


def _total(like: Tensor, *shape: int) -> Tensor:
    """Room for a sum, zero at first."""
    return like.new_zeros(shape, dtype=accumulation_dtype(like.dtype))


define_operator("streamed", impl="streamed", options="int? tile")
implement("streamed", forward=_forward, backward=_backward)
