"""What makes one differentiable operator of a forward and a backward kernel, whatever computes them.

Legend: `B` batch, `H` heads, `N` query tokens, `M` key tokens, `L` landmarks, `D` head dim,
`E` value head dim.

An implementation names an operator `crosshead::NAME` and another, `crosshead::NAME_backward`:

    NAME(q, k, v, ql, kl, p_query, w_query, p_key, w_key, key_mask, landmark_mask, *options)
        -> output (B, H, N, E), aggregate (B, H, L, E), normaliser (B, H, L) or a few of these
    NAME_backward(grad_output, *the same, aggregate, normaliser)
        -> a gradient for each of the nine operands, an empty one where the operand is None

The aggregate is `F_k V`; the normaliser is what the kernel needs to compute weights of the key factor again,
such as the logarithm of each row's sum. Nothing else is kept for backward.
"""

from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from crosshead.attention.precision import accumulation_dtype

OPERANDS = 9
MASKS = 2


def empty_outputs(q: Tensor, v: Tensor, ql: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Room for the output `(B, H, N, E)`, the aggregate `(B, H, L, E)` and the normaliser `(B, H, L)`."""
    return (
        v.new_empty(*q.shape[:3], v.shape[3]),
        v.new_empty(*ql.shape[:3], v.shape[3]),
        q.new_empty(ql.shape[:3], dtype=accumulation_dtype(q.dtype)),
    )


def empty_gradients(*operands: Tensor | None) -> list[Tensor]:
    """Room for one for each operand; no operator may return None, so an absent operand gets an empty one."""
    like = next(x for x in operands if x is not None)
    return [like.new_empty(0) if x is None else x.new_empty(x.shape) for x in operands]


def make_differentiable(
    name: str, *, impl: str, outputs: Callable[..., tuple[Tensor, ...]] = empty_outputs
) -> None:
    """Gives the two operators of that name their fakes, gradient, FLOP formulas, and refusals.

    Args:
        name: `crosshead::NAME` and `crosshead::NAME_backward` exist.
        impl: what users call it, for the messages.
        outputs: from q, v and ql to tensors of the shapes that the operator returns.
    """
    forward, backward = f"crosshead::{name}", f"crosshead::{name}_backward"
    packets = [getattr(torch.ops.crosshead, each) for each in (name, f"{name}_backward")]

    def keep_for_backward(ctx: Any, inputs: tuple, output: tuple) -> None:
        ctx.options = inputs[OPERANDS + MASKS :]
        ctx.save_for_backward(*inputs[: OPERANDS + MASKS], *output[1:])
        ctx.set_materialize_grads(False)

    def gradients(ctx: Any, grad_output: Tensor | None, *_unused: None) -> tuple:
        absent = (None,) * (MASKS + len(ctx.options))
        if grad_output is None:
            return (None,) * OPERANDS + absent
        *tensors, aggregate, normaliser = ctx.saved_tensors
        grads = packets[1](grad_output, *tensors, *ctx.options, aggregate, normaliser)
        present = [None if x is None else grad for x, grad in zip(tensors, grads, strict=False)]
        return (*present, *absent)

    def refuse_second_derivative(*_: object) -> NoReturn:
        raise NotImplementedError(
            f"impl={impl!r} cannot be differentiated twice: its backward pass is an operator of its own that "
            "keeps no factors. Use impl='reference' for second derivatives"
        )

    def refuse_vmap(*_: object) -> NoReturn:
        raise NotImplementedError(
            f"impl={impl!r} cannot run under vmap: its tiles are chosen for the batch that it sees. Put the "
            "extra axis into the batch, or use impl='reference'"
        )

    torch.library.register_fake(forward, lambda q, k, v, ql, *_: outputs(q, v, ql))
    torch.library.register_fake(backward, lambda _grad, *rest: empty_gradients(*rest[:OPERANDS]))
    torch.library.register_autograd(forward, gradients, setup_context=keep_for_backward)
    torch.library.register_autograd(
        backward, refuse_second_derivative, setup_context=lambda ctx, inputs, output: None
    )
    torch.library.register_vmap(forward, refuse_vmap)
    torch.library.register_vmap(backward, refuse_vmap)
    register_flop_formula(packets[0])(needed_flops)
    register_flop_formula(packets[1])(_needed_flops_backward)


def needed_flops(
    q: Sequence[int],
    k: Sequence[int],
    v: Sequence[int],
    ql: Sequence[int],
    _kl: object,
    *rest: object,
    **_: object,
) -> int:
    """Floating-point operations that the equations need: two for each multiply-add."""
    (batch, heads, n, d), m, e, l = q, k[2], v[3], ql[2]  # noqa: E741
    matrices_of_query, matrices_of_key = (sum(x is not None for x in pair) for pair in (rest[:2], rest[2:4]))
    products = heads * l * (n + m) * (d + e)
    mixing = heads * heads * l * (n * matrices_of_query + m * matrices_of_key)
    return 2 * batch * (products + mixing)


def _needed_flops_backward(_grad_output: object, *rest: object, **_: object) -> int:
    """Twice the forward pass, for two operands of each product; recomputation does not count."""
    return 2 * needed_flops(*rest)  # type: ignore[arg-type]
