"""The equations, with both factors in memory.

Legend: `B` batch, `H` heads, `N` query tokens, `M` key tokens, `L` landmarks, `D` head dim,
`E` value head dim.

    F_q = W(softmax_L(P(s Q Kl^T)))    (B, H, N, L)    tokens look at L pooled keys
    F_k = W(softmax_M(P(s Ql K^T)))    (B, H, L, M)    L pooled queries look at all keys
    O   = F_q (F_k V)                  (B, H, N, E)    right to left: nothing is N x M

P and W are the residual head mixing of logits and of weights, one pair per factor. Source: arXiv 2402.17507,
eq. 6.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from crosshead.attention.impl.precision import MASKED_LOGIT, accumulation_dtype, cast, key_scale
from crosshead.attention.mixing import mix_heads
from crosshead.attention.operands import Operands


def _softmax(logits: Tensor) -> Tensor:
    return logits.softmax(-1)


class AttentionFactors(NamedTuple):
    """The two small factors of the attention map, whose product would be the `N x M` map.

    Attributes:
        query: `(B, H, N, L)`, how much each token takes from each landmark.
        key: `(B, H, L, M)`, how much each landmark takes from each token.
    """

    query: Tensor
    key: Tensor


def attention(operands: Operands) -> Tensor:
    """`O = F_q (F_k V)`; factors are rounded to the dtype of `v` before each product, sums are not."""
    f_q, f_k = factors(operands)
    return output(f_q, aggregate(f_k, operands.v), operands.v.dtype)


def factors(operands: Operands) -> AttentionFactors:
    """Both factors in the accumulation dtype."""
    return AttentionFactors(query_factor(operands), key_factor(operands))


def query_factor(operands: Operands) -> Tensor:
    """`F_q`, `(B, H, N, L)`."""
    mask = operands.landmark_mask
    q, kl = (cast(x, accumulation_dtype(x.dtype)) for x in (operands.q, operands.kl))
    # Landmarks are the few: scaling them, and not the logits, saves a pass over each factor.
    logits = q @ (operands.scale * kl).transpose(-2, -1)
    columns = None if mask is None else mask[:, None, None, :]
    return _mixed_softmax(logits, operands.p_query, operands.w_query, columns)


def key_factor(operands: Operands, *, softmax: Callable[[Tensor], Tensor] = _softmax) -> Tensor:
    """`F_k`, `(B, H, L, M)`; `softmax` goes over the tokens."""
    landmark_mask, key_mask = operands.landmark_mask, operands.key_mask
    k, ql = (cast(x, accumulation_dtype(x.dtype)) for x in (operands.k, operands.ql))
    logits = (operands.scale * ql) @ k.transpose(-2, -1)
    tokens = None if key_mask is None else key_mask[:, None, None, :]
    f_k = _mixed_softmax(logits, operands.p_key, operands.w_key, tokens, softmax=softmax)
    return f_k if landmark_mask is None else f_k.masked_fill(~landmark_mask[:, None, :, None], 0)


def aggregate(f_k: Tensor, v: Tensor) -> Tensor:
    """`F_k V`, `(B, H, L, E)`, in the accumulation dtype."""
    values, enlarged = cast(v, f_k.dtype), key_scale(v.dtype)
    if enlarged == 1:
        return _rounded(f_k, v.dtype) @ values
    return _rounded(f_k * enlarged, v.dtype) @ values / enlarged


def output(f_q: Tensor, aggregate: Tensor, dtype: torch.dtype) -> Tensor:
    """`O`, `(B, H, N, E)`."""
    return cast(_rounded(f_q, dtype) @ _rounded(aggregate, dtype), dtype)


def _mixed_softmax(
    logits: Tensor,
    p: Tensor | None,
    w: Tensor | None,
    mask: Tensor | None,
    *,
    softmax: Callable[[Tensor], Tensor] = _softmax,
) -> Tensor:
    logits = mix_heads(logits, p)
    if mask is None:
        return mix_heads(softmax(logits), w)
    weights = softmax(logits.masked_fill(~mask, MASKED_LOGIT))
    return mix_heads(weights.masked_fill(~mask, 0), w)


def _rounded(x: Tensor, dtype: torch.dtype) -> Tensor:
    """What `dtype` holds of x, in the dtype of x."""
    rounded = cast(cast(x, dtype), x.dtype)
    if dtype != torch.float16:
        return rounded
    # The same number, whose gradient is not rounded: that of a factor, dO A^T, would be infinite long before
    # any result is.
    return x + (rounded - x).detach()
