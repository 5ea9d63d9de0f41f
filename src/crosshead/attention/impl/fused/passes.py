"""The passes of the CPU's kernel one by one, for tokens that are shared out to processes.

They are those of `streamed`, by name and by what they take and give; see there. Each is an operator
`crosshead::fused_cpu_NAME` over one side of a call.
"""

import torch
from torch import Tensor

from crosshead.attention.operands import Operands

_KEYS = (
    "Tensor k, Tensor v, Tensor ql, Tensor? p, Tensor? w, Tensor? key_mask, float scale, Tensor normaliser"
)
_QUERIES = "Tensor q, Tensor kl, Tensor? p, Tensor? w, Tensor? landmark_mask, float scale, Tensor aggregate"
_SCHEMAS = {
    "key_statistics": "(Tensor k, Tensor ql, Tensor? p, Tensor? key_mask, float scale) -> Tensor",
    "key_aggregate": f"({_KEYS}) -> Tensor",
    "query_output": f"({_QUERIES}) -> Tensor",
    "query_gradients": f"(Tensor grad_output, {_QUERIES}) -> Tensor[]",
    "key_overlap": f"(Tensor grad_right, {_KEYS}) -> Tensor",
    "key_gradients": f"(Tensor grad_right, {_KEYS}, Tensor overlap) -> Tensor[]",
}
for _name, _schema in _SCHEMAS.items():
    torch.library.define(f"crosshead::fused_cpu_{_name}", _schema)


def key_statistics(operands: Operands) -> tuple[Tensor, Tensor]:
    """Of each row of the key factor a shift near the largest logit, and the sum of weights over it."""
    k, ql, p, mask = operands.k, operands.ql, operands.p_key, operands.key_mask
    shift, inverse = torch.ops.crosshead.fused_cpu_key_statistics(k, ql, p, mask, operands.scale)
    return shift, inverse.reciprocal().masked_fill_(inverse == 0, 0)  # zero: none of the keys takes part


def key_aggregate(operands: Operands, normaliser: Tensor) -> Tensor:
    """`F_k V`, `(B, H, L, E)`, not rounded yet."""
    return torch.ops.crosshead.fused_cpu_key_aggregate(*_keys(operands), normaliser)


def query_output(operands: Operands, aggregate: Tensor) -> Tensor:
    """`O = F_q A`, `(B, H, N, E)`."""
    return torch.ops.crosshead.fused_cpu_query_output(*_queries(operands), aggregate)


def query_gradients(
    grad_output: Tensor, operands: Operands, aggregate: Tensor
) -> tuple[list[Tensor], Tensor]:
    """The gradients of q, kl, p_query and w_query, and that of the aggregate, not rounded."""
    *grads, grad_right = torch.ops.crosshead.fused_cpu_query_gradients(
        grad_output, *_queries(operands), aggregate
    )
    return grads, grad_right


def key_overlap(grad_right: Tensor, operands: Operands, normaliser: Tensor) -> Tensor:
    """What the softmax of the key factor takes from all gradients of a row, `(B, H, L)`."""
    return torch.ops.crosshead.fused_cpu_key_overlap(grad_right, *_keys(operands), normaliser)


def key_gradients(
    grad_right: Tensor, operands: Operands, normaliser: Tensor, overlap: Tensor
) -> list[Tensor]:
    """The gradients of k, v, ql, p_key and w_key."""
    return torch.ops.crosshead.fused_cpu_key_gradients(grad_right, *_keys(operands), normaliser, overlap)


def _keys(operands: Operands) -> tuple[Tensor | float | None, ...]:
    _, k, v, ql, _, _, _, p, w, key_mask, _, scale = operands
    return k, v, ql, p, w, key_mask, scale


def _queries(operands: Operands) -> tuple[Tensor | float | None, ...]:
    q, _, _, _, kl, p, w, _, _, _, landmark_mask, scale = operands
    return q, kl, p, w, landmark_mask, scale
