"""The operator over tokens that are shared out to the ranks of a process group.

Legend: `B` batch, `H` heads, `N` query tokens and `M` key tokens of this rank, `L` landmarks, `D` head dim,
`E` value head dim.

Each rank has its own tokens and all landmarks. What joins the tokens are sums over the keys, of a size that
depends on landmarks alone:

    forward     the largest logit and the sum of each row of the key factor    2 (B, H, L)
                the aggregate F_k V                                            (B, H, L, E)
    backward    the gradient of the aggregate                                  (B, H, L, E)
                what the softmax takes from all gradients of a row             (B, H, L)

W mixes weights that are normalised over all keys, so it acts before the aggregates are added up, and they may
be added because it is linear. All sums are exchanged in the accumulation dtype. The gradient convention is
that of `collectives.py`.
"""

from functools import partial
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.distributed import ProcessGroup

from crosshead.attention.collectives import largest_over_ranks, sum_over_ranks
from crosshead.attention.impl import reference
from crosshead.attention.impl.precision import without_autocast
from crosshead.attention.operands import Operands


def by_equations(operands: Operands, group: ProcessGroup) -> Tensor:
    """`O = F_q (F_k V)` with both factors of this rank in memory; differentiable any number of times."""
    f_k = reference.key_factor(operands, softmax=partial(_softmax, group=group))
    aggregate = sum_over_ranks(reference.aggregate(f_k, operands.v), group)
    return reference.output(reference.query_factor(operands), aggregate, operands.v.dtype)


def by_passes(operands: Operands, group: ProcessGroup, *, passes: ModuleType) -> Tensor:
    """The same by the passes of `streamed` or `fused`, in linear memory; differentiable once."""
    return _ByPasses.apply(group, passes, operands.scale, *operands[:-1])  # pyright: ignore[reportReturnType]


def _softmax(logits: Tensor, *, group: ProcessGroup) -> Tensor:
    """Over the tokens of all ranks, which the last axis holds."""
    raised = (logits - largest_over_ranks(logits.amax(-1, keepdim=True), group)).exp()
    return raised / sum_over_ranks(raised.sum(-1, keepdim=True), group)


class _ByPasses(torch.autograd.Function):
    """Passes over this rank's tokens, and what ranks exchange between them."""

    @staticmethod
    def forward(
        ctx: Any, group: ProcessGroup, passes: ModuleType, scale: float, *tensors: Tensor | None
    ) -> Tensor:
        operands = Operands(*tensors, scale=scale)  # pyright: ignore[reportArgumentType]
        own_shift, own_sum = passes.key_statistics(operands)
        shift = largest_over_ranks(own_shift, group)
        row_sum = sum_over_ranks(own_sum * (own_shift - shift).exp(), group)
        # A sum is zero where no key takes part, and inverse sums that are infinite would make NaN of zeros.
        normaliser = torch.stack([shift, row_sum.reciprocal().masked_fill(row_sum == 0, 0)])
        # What stands in the rows of empty landmarks is finite, and no query looks at it.
        aggregate = sum_over_ranks(passes.key_aggregate(operands, normaliser), group).to(operands.v.dtype)
        ctx.group, ctx.passes, ctx.scale = group, passes, scale
        ctx.save_for_backward(*tensors, aggregate, normaliser)
        return passes.query_output(operands, aggregate)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple:  # type: ignore[override]
        if torch.is_grad_enabled():
            raise NotImplementedError(
                "tokens that are shared out to processes cannot be differentiated twice by impl='streamed' "
                "and 'fused', given or chosen by 'auto'. Use impl='reference'"
            )
        *tensors, aggregate, normaliser = ctx.saved_tensors
        operands, passes = Operands(*tensors, scale=ctx.scale), ctx.passes
        with without_autocast(grad_output):
            of_queries, grad_right = passes.query_gradients(grad_output, operands, aggregate)
            grad_right = sum_over_ranks(grad_right, ctx.group)
            overlap = sum_over_ranks(passes.key_overlap(grad_right, operands, normaliser), ctx.group)
            of_keys = passes.key_gradients(grad_right, operands, normaliser, overlap)
        (q, kl, p_query, w_query), (k, v, ql, p_key, w_key) = of_queries, of_keys
        grads = [q, k, v, ql, kl, p_query, w_query, p_key, w_key]
        present = [None if x is None else grad for x, grad in zip(tensors, grads, strict=False)]
        return None, None, None, *present, None, None
