"""The operators behind `impl="fused"`: one for each kind of device, of one schema.

Legend: `B` batch, `H` heads, `N` query tokens, `M` key tokens, `L` landmarks, `D` head dim,
`E` value head dim.

`crosshead::fused_attention_cpu` is computed by C++, once the library of `cpu/` is loaded;
`crosshead::fused_attention_cuda` by Triton. The second one takes tensors of any device, so that Triton's
interpreter can be tested without a GPU; users get the one that belongs to their tensors.
"""

from typing import Any

import torch
from torch import Tensor

from crosshead.attention.impl.operator import define_operator, empty_outputs
from crosshead.attention.mixing import HeadMixing

NAMES = {"cpu": "fused_attention_cpu", "cuda": "fused_attention_cuda"}


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    ql: Tensor,
    kl: Tensor,
    query_mixing: HeadMixing,
    key_mixing: HeadMixing,
    key_mask: Tensor | None,
    landmark_mask: Tensor | None,
    scale: float,
) -> Tensor:
    """`O = F_q (F_k V)`, with both factors in registers and caches only."""
    operator = getattr(torch.ops.crosshead, NAMES[q.device.type])
    return operator(q, k, v, ql, kl, *query_mixing, *key_mixing, key_mask, landmark_mask, scale)[0]


def _forward_by_triton(*operands: Any) -> tuple[Tensor, Tensor, Tensor]:
    from crosshead.attention.impl.fused.cuda import launch

    return launch.forward(*operands)


def _backward_by_triton(*operands: Any) -> list[Tensor]:
    from crosshead.attention.impl.fused.cuda import launch

    return launch.backward(*operands)


def _empty_outputs_of_triton(q: Tensor, v: Tensor, ql: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The normaliser is `(B, H, L)`, a logarithm: logits of tensor cores, in eleven bits, are coarser."""
    output, aggregate, normaliser = empty_outputs(q, v, ql)
    return output, aggregate, normaliser.new_empty(normaliser.shape[1:])


define_operator(NAMES["cpu"], impl="fused", options="float scale")
define_operator(NAMES["cuda"], impl="fused", options="float scale", outputs=_empty_outputs_of_triton)
torch.library.impl(f"crosshead::{NAMES['cuda']}", "CompositeExplicitAutograd", _forward_by_triton)
torch.library.impl(f"crosshead::{NAMES['cuda']}_backward", "CompositeExplicitAutograd", _backward_by_triton)
