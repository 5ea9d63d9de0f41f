"""The operators behind `impl="fused"`: one for each kind of device, of one schema.

Legend: `B` batch, `H` heads, `N` query tokens, `M` key tokens, `L` landmarks, `D` head dim,
`E` value head dim.

`crosshead::fused_attention_cpu` is computed by C++, once the library of `cpu/` is loaded;
`crosshead::fused_attention_cuda` by Triton. The second one takes tensors of any device, so that Triton's
interpreter can be tested without a GPU; users get the one that belongs to their tensors.
"""

import torch
from torch import Tensor

from crosshead.attention.impl.operator import define_operator, empty_outputs, implement
from crosshead.attention.operands import Operands

NAMES = {"cpu": "fused_attention_cpu", "cuda": "fused_attention_cuda"}


def attention(operands: Operands) -> Tensor:
    """`O = F_q (F_k V)`, with both factors in registers and caches only."""
    return getattr(torch.ops.crosshead, NAMES[operands.q.device.type])(*operands)[0]


def _forward_by_triton(operands: Operands) -> tuple[Tensor, Tensor, Tensor]:
    from crosshead.attention.impl.fused.cuda import launch

    return launch.forward(operands)


def _backward_by_triton(
    grad_output: Tensor, operands: Operands, aggregate: Tensor, normaliser: Tensor
) -> list[Tensor]:
    from crosshead.attention.impl.fused.cuda import launch

    return launch.backward(grad_output, operands, aggregate, normaliser)


def _empty_outputs_of_triton(q: Tensor, v: Tensor, ql: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The normaliser is `(B, H, L)`, a logarithm: logits of tensor cores, in eleven bits, are coarser."""
    output, aggregate, normaliser = empty_outputs(q, v, ql)
    return output, aggregate, normaliser.new_empty(normaliser.shape[1:])


define_operator(NAMES["cpu"], impl="fused")
define_operator(NAMES["cuda"], impl="fused", outputs=_empty_outputs_of_triton)
implement(NAMES["cuda"], forward=_forward_by_triton, backward=_backward_by_triton)
