"""The same attention in linear memory: tiles of tokens, and a backward pass that computes the factors again.

Legend: `B` batch, `H` heads, `N` query tokens, `M` key tokens, `L` landmarks, `D` head dim,
`E` value head dim, `T` tokens of one tile; `P` and `W` the residual matrices of logit and weight mixing.

Beyond inputs and outputs nothing is kept but the aggregate `A = F_k V` (B, H, L, E) and the normaliser of the
key factor (2, B, H, L): the shift and the inverse sum of each row.

The key factor mixes heads after a softmax over all M keys, so its normaliser must be known first: one pass
over the keys for the normaliser, a second for the aggregate. For the same reason the backward pass goes over
the keys twice.

To torch this is one opaque operator, so tracers never see the loop over tiles and a new length compiles
nothing.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from crosshead.attention.impl.operator import define_operator, empty_gradients, empty_outputs, implement
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


def _forward(operands: Operands, tile: int | None) -> tuple[Tensor, Tensor, Tensor]:
    q, k, v, ql, kl, p_query, w_query, p_key, w_key, key_mask, landmark_mask, scale = operands
    output, aggregate, normaliser = empty_outputs(q, v, ql)
    for b, key_tiles, query_tiles in _turns(q, k, ql, tile):
        landmarks = _scaled(ql[b], scale)
        # Not -inf, whose distance to a logit of -inf would be NaN.
        shift = torch.full_like(normaliser[0, b], torch.finfo(normaliser.dtype).min)
        row_sum = torch.zeros_like(shift)
        for t in key_tiles:
            logits = _mixed_logits(_product(landmarks, k[b, :, t]), p_key, _columns(key_mask, b, t))
            raised = torch.maximum(shift, logits.amax(-1))
            row_sum = row_sum * (shift - raised).exp_() + (logits - raised[..., None]).exp_().sum(-1)
            shift = raised
        normaliser[0, b], normaliser[1, b] = shift, row_sum.reciprocal_()
        total = torch.zeros_like(aggregate[b], dtype=normaliser.dtype)
        for t in key_tiles:
            mask = _columns(key_mask, b, t)
            logits = _mixed_logits(_product(landmarks, k[b, :, t]), p_key, mask)
            f_k = mix_heads(_weights(logits, mask, normaliser[:, b]), w_key)
            total += _rounded(f_k, v.dtype, key_scale(v.dtype)) @ v[b, :, t].to(total.dtype)
        aggregate[b] = _keep_where(_rows(landmark_mask, b), total).to(v.dtype)
        landmarks, right, mask = (
            _scaled(kl[b], scale),
            aggregate[b].to(total.dtype),
            _columns(landmark_mask, b),
        )
        for t in query_tiles:
            logits = _mixed_logits(_product(q[b, :, t], landmarks), p_query, mask)
            f_q = mix_heads(_weights(logits, mask), w_query)
            output[b, :, t] = (_rounded(f_q, v.dtype) @ right).to(v.dtype)
    return output, aggregate, normaliser


def _backward(
    grad_output: Tensor, operands: Operands, tile: int | None, aggregate: Tensor, normaliser: Tensor
) -> list[Tensor]:
    q, k, v, ql, kl, p_query, w_query, p_key, w_key, key_mask, landmark_mask, scale = operands
    dtype = normaliser.dtype
    grads = empty_gradients(q, k, v, ql, kl, p_query, w_query, p_key, w_key)
    grad_q, grad_k, grad_v, grad_ql, grad_kl = grads[:5]
    of_query, of_key = _MixingGradient(p_query, w_query, dtype), _MixingGradient(p_key, w_key, dtype)
    for b, key_tiles, query_tiles in _turns(q, k, ql, tile):
        grad_right, grad_landmarks = (
            torch.zeros_like(aggregate[b], dtype=dtype),
            torch.zeros_like(kl[b], dtype=dtype),
        )
        landmarks, right, mask = _scaled(kl[b], scale), aggregate[b].to(dtype), _columns(landmark_mask, b)
        for t in query_tiles:
            raw = _product(q[b, :, t], landmarks)
            weights = _weights(_mixed_logits(raw, p_query, mask), mask)
            upstream = grad_output[b, :, t].to(dtype)
            grad_right += _rounded(mix_heads(weights, w_query), v.dtype).mT @ upstream
            grad_factor = upstream @ right.mT
            overlap = (mix_heads(grad_factor, _transposed(w_query)) * weights).sum(-1)
            grad_raw = of_query.through(grad_factor, weights, raw, overlap)
            grad_q[b, :, t] = grad_raw @ landmarks
            grad_landmarks += grad_raw.mT @ q[b, :, t].to(dtype)
        grad_kl[b] = grad_landmarks * scale

        grad_right = _keep_where(_rows(landmark_mask, b), grad_right)
        landmarks, overlap = _scaled(ql[b], scale), torch.zeros_like(normaliser[0, b])
        for t in key_tiles:
            mask = _columns(key_mask, b, t)
            logits = _mixed_logits(_product(landmarks, k[b, :, t]), p_key, mask)
            weights = _weights(logits, mask, normaliser[:, b])
            grad_factor = grad_right @ v[b, :, t].to(dtype).mT
            overlap += (mix_heads(grad_factor, _transposed(w_key)) * weights).sum(-1)
        grad_landmarks = torch.zeros_like(landmarks)
        for t in key_tiles:
            mask = _columns(key_mask, b, t)
            raw = _product(landmarks, k[b, :, t])
            weights = _weights(_mixed_logits(raw, p_key, mask), mask, normaliser[:, b])
            f_k = _rounded(mix_heads(weights, w_key), v.dtype, key_scale(v.dtype))
            grad_v[b, :, t] = f_k.mT @ grad_right
            grad_raw = of_key.through(grad_right @ v[b, :, t].to(dtype).mT, weights, raw, overlap)
            grad_k[b, :, t] = grad_raw.mT @ landmarks
            grad_landmarks += grad_raw @ k[b, :, t].to(dtype)
        grad_ql[b] = grad_landmarks * scale
    for grad, total in zip(grads[5:], (of_query.p, of_query.w, of_key.p, of_key.w), strict=True):
        if total is not None:
            grad.copy_(total)
    return grads


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


def _turns(
    q: Tensor, k: Tensor, landmarks: Tensor, tile: int | None
) -> Iterator[tuple[slice, list[slice], list[slice]]]:
    """Which samples, and for these which tiles of keys and of queries, are looked at together."""
    batch, heads, count, _ = landmarks.shape
    tile = tile or max(SHORTEST_TILE, TILE_ELEMENTS // (heads * count))
    samples = max(1, TILE_ELEMENTS // (heads * count * min(tile, max(q.shape[2], k.shape[2]))))
    for b in _slices(batch, samples):
        yield b, _slices(k.shape[2], tile), _slices(q.shape[2], tile)


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


def _rows(mask: Tensor | None, b: slice) -> Tensor | None:
    return None if mask is None else mask[b, None, :, None]


define_operator("streamed", impl="streamed", options="int? tile")
implement("streamed", forward=_forward, backward=_backward)
