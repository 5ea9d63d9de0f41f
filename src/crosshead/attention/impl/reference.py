"""The equations, with both factors in memory.

Legend: `B` batch, `H` heads, `N` query tokens, `M` key tokens, `L` landmarks, `D` head dim,
`E` value head dim.

    F_q = W(softmax_L(P(s Q Kl^T)))    (B, H, N, L)    tokens look at L pooled keys
    F_k = W(softmax_M(P(s Ql K^T)))    (B, H, L, M)    L pooled queries look at all keys
    O   = F_q (F_k V)                  (B, H, N, E)    right to left: nothing is N x M

P and W are the residual head mixing of logits and of weights, one pair per factor. Source: arXiv 2402.17507,
eq. 6.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from crosshead.attention.impl.precision import MASKED_LOGIT, accumulation_dtype, cast, key_scale
from crosshead.attention.mixing import mix_heads
from crosshead.attention.operands import Operands


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
    v = operands.v
    values, enlarged = cast(v, f_k.dtype), key_scale(v.dtype)
    if enlarged == 1:
        aggregate = _rounded(f_k, v.dtype) @ values
    else:
        aggregate = _rounded(f_k * enlarged, v.dtype) @ values / enlarged
    return cast(_rounded(f_q, v.dtype) @ _rounded(aggregate, v.dtype), v.dtype)


def factors(operands: Operands) -> AttentionFactors:
    """Both factors in the accumulation dtype."""
    q, k, _, ql, kl, p_query, w_query, p_key, w_key, key_mask, landmark_mask, scale = operands
    q, k, ql, kl = (cast(x, accumulation_dtype(x.dtype)) for x in (q, k, ql, kl))
    columns = None if landmark_mask is None else landmark_mask[:, None, None, :]
    tokens = None if key_mask is None else key_mask[:, None, None, :]
    # Landmarks are the few: scaling them, and not the logits, saves a pass over each factor.
    f_q = _mixed_softmax(q @ (scale * kl).transpose(-2, -1), p_query, w_query, columns)
    f_k = _mixed_softmax((scale * ql) @ k.transpose(-2, -1), p_key, w_key, tokens)
    if landmark_mask is not None:
        f_k = f_k.masked_fill(~landmark_mask[:, None, :, None], 0)
    return AttentionFactors(f_q, f_k)


def _mixed_softmax(logits: Tensor, p: Tensor | None, w: Tensor | None, mask: Tensor | None) -> Tensor:
    logits = mix_heads(logits, p)
    if mask is None:
        return mix_heads(logits.softmax(-1), w)
    weights = logits.masked_fill(~mask, MASKED_LOGIT).softmax(-1)
    return mix_heads(weights.masked_fill(~mask, 0), w)


def _rounded(x: Tensor, dtype: torch.dtype) -> Tensor:
    """What `dtype` holds of x, in the dtype of x."""
    rounded = cast(cast(x, dtype), x.dtype)
    if dtype != torch.float16:
        return rounded
    # The same number, whose gradient is not rounded: that of a factor, dO A^T, would be infinite long before
    # any result is.
    return x + (rounded - x).detach()
