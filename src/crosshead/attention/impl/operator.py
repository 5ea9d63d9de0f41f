"""What makes one differentiable operator of a forward and a backward kernel, whatever computes them.

Legend: `B` batch, `H` heads, `N` query tokens, `M` key tokens, `L` landmarks, `D` head dim,
`E` value head dim.

An implementation gives kernels to an operator `crosshead::NAME` and to another, `crosshead::NAME_backward`:

    NAME(*operands, *options) -> output (B, H, N, E), aggregate (B, H, L, E), normaliser (2, B, H, L)
    NAME_backward(grad_output, *operands, *options, aggregate, normaliser)
        -> a gradient for each operand but the masks and the scale, an empty one where the operand is None

The aggregate is `F_k V`; the normaliser is what computes weights of the key factor again: each row's shift
and the inverse of its sum, as `exp(logit - shift) * inverse`. Nothing else is kept for backward. One
logarithm of the sum would be half of that, but near 16 a float is a millionth wide, and so would be the error
of every weight.

Such an operator is differentiable once, in reverse mode, by torch.autograd. What goes beyond is refused with
the reason, never computed wrong: second derivatives, forward mode, `torch.func.grad`, `vmap`. Callers who did
not choose the operator get second derivatives all the same: see `beyond_one_derivative`.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NoReturn

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from crosshead.attention.impl.precision import accumulation_dtype, without_autocast
from crosshead.attention.operands import Operands
from crosshead.attention.transforms import carry_tangents, is_batched_gradient, under_torch_func

# `Operands` in the language of schemas.
SCHEMA = (
    "Tensor q, Tensor k, Tensor v, Tensor ql, Tensor kl, Tensor? p_query, Tensor? w_query, Tensor? p_key, "
    "Tensor? w_key, Tensor? key_mask, Tensor? landmark_mask, float scale"
)
# How many of these are differentiated, how many are tensors, and how many there are.
DIFFERENTIABLE, TENSORS, ALL = 9, 11, 12

# From the operands to the output, in steps that torch can differentiate.
Equations = Callable[[Operands], Tensor]
_equations: ContextVar[Equations | None] = ContextVar("equations", default=None)

# Kept alive: what a library registered disappears with it.
_libraries: list[torch.library.Library] = []


@contextmanager
def beyond_one_derivative(equations: Equations) -> Iterator[None]:
    """Operators that are called here follow the equations where their own backward pass cannot serve.

    That is a backward pass that is itself to be differentiated (`create_graph=True`) or that is batched. It
    takes the time and memory of the equations.
    """
    token = _equations.set(equations)
    try:
        yield
    finally:
        _equations.reset(token)


def empty_outputs(q: Tensor, v: Tensor, ql: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Room for the output `(B, H, N, E)`, the aggregate `(B, H, L, E)` and the normaliser `(2, B, H, L)`."""
    return (
        v.new_empty(*q.shape[:3], v.shape[3]),
        v.new_empty(*ql.shape[:3], v.shape[3]),
        q.new_empty(2, *ql.shape[:3], dtype=accumulation_dtype(q.dtype)),
    )


def empty_gradients(*operands: Tensor | None) -> list[Tensor]:
    """Room for one for each operand; no operator may return None, so an absent operand gets an empty one."""
    like = next(x for x in operands if x is not None)
    return [like.new_empty(0) if x is None else x.new_empty(x.shape) for x in operands]


def define_operator(
    name: str,
    *,
    impl: str,
    options: str = "",
    outputs: Callable[..., tuple[Tensor, ...]] = empty_outputs,
) -> None:
    """Defines the two operators of that name: schemas, fakes, gradient, FLOP formulas, and refusals.

    Args:
        name: of the operators `crosshead::NAME` and `crosshead::NAME_backward`; their kernels come later.
        impl: what users call it, for the messages.
        options: schema of what follows the operands.
        outputs: from q, v and ql to tensors of the shapes that the operator returns.
    """
    forward, backward = f"crosshead::{name}", f"crosshead::{name}_backward"
    schema = f"{SCHEMA}, {options}" if options else SCHEMA
    torch.library.define(forward, f"({schema}) -> (Tensor, Tensor, Tensor)")
    torch.library.define(
        backward, f"(Tensor grad_output, {schema}, Tensor aggregate, Tensor normaliser) -> Tensor[]"
    )
    packets = [getattr(torch.ops.crosshead, each) for each in (name, f"{name}_backward")]

    def keep_for_backward(ctx: Any, inputs: tuple, output: tuple) -> None:
        ctx.equations = _equations.get()
        ctx.options = inputs[TENSORS:]  # the scale first
        ctx.save_for_backward(*inputs[:TENSORS], *output[1:])
        ctx.set_materialize_grads(False)

    def gradients(ctx: Any, grad_output: Tensor | None, *_unused: None) -> tuple:
        absent = (None,) * (TENSORS - DIFFERENTIABLE + len(ctx.options))
        if grad_output is None:
            return (None,) * DIFFERENTIABLE + absent
        *tensors, aggregate, normaliser = ctx.saved_tensors
        given = (*tensors, *ctx.options)
        batched = under_torch_func() or is_batched_gradient(grad_output)
        if ctx.equations is not None and (torch.is_grad_enabled() or batched):
            needed = ctx.needs_input_grad[:DIFFERENTIABLE]
            return (*_by_equations(ctx.equations, grad_output, Operands(*given[:ALL]), needed), *absent)
        if is_batched_gradient(grad_output):
            refuse_vmap()
        with without_autocast(grad_output):
            grads = packets[1](grad_output, *given, aggregate, normaliser)
        present = [None if x is None else grad for x, grad in zip(tensors, grads, strict=False)]
        return (*present, *absent)

    def refuse(what: str, why: str, remedy: str = "Use impl='reference'") -> NoReturn:
        raise NotImplementedError(f"impl={impl!r}, given or chosen by 'auto', cannot {what}: {why}. {remedy}")

    def refuse_second_derivative(*_: object) -> NoReturn:
        refuse("be differentiated twice", "its backward pass is an operator of its own that keeps no factors")

    def refuse_vmap(*_: object) -> NoReturn:
        refuse(
            "run under vmap",
            "its tiles are chosen for the batch that it sees",
            "Put the extra axis into the batch, or use impl='reference'",
        )

    def refuse_transforms(operands: Sequence[object]) -> None:
        if carry_tangents(operands):
            refuse(
                "be differentiated in forward mode (jvp, jacfwd, dual numbers)", "it has no formula for that"
            )
        differentiated = any(isinstance(x, Tensor) and x.requires_grad for x in operands)
        if under_torch_func() and torch.is_grad_enabled() and differentiated:
            refuse(
                "be differentiated by torch.func (grad, vjp, jacrev)",
                "its gradient is known to torch.autograd only",
                "Use torch.autograd.grad or backward, or impl='reference'",
            )

    library = _Guarded("crosshead", "FRAGMENT", guard=refuse_transforms)
    _libraries.append(library)
    torch.library.register_fake(forward, lambda q, k, v, ql, *_: outputs(q, v, ql))
    torch.library.register_fake(backward, lambda _grad, *rest: empty_gradients(*rest[:DIFFERENTIABLE]))
    torch.library.register_autograd(forward, gradients, setup_context=keep_for_backward, lib=library)
    torch.library.register_autograd(
        backward, refuse_second_derivative, setup_context=lambda ctx, inputs, output: None, lib=library
    )
    torch.library.register_vmap(forward, refuse_vmap)
    torch.library.register_vmap(backward, refuse_vmap)
    register_flop_formula(packets[0])(needed_flops)
    register_flop_formula(packets[1])(_needed_flops_backward)


class _Guarded(torch.library.Library):
    """Puts a guard before the gradient of each operator that is registered with it.

    Without it torch drops the tangents of operands that require no gradient, in silence.
    """

    def __init__(self, *args: str, guard: Callable[[Sequence[object]], None]) -> None:
        super().__init__(*args)
        self.guard = guard

    def impl(self, op_name: Any, fn: Callable, *args: Any, **options: Any) -> None:
        def guarded(keyset: Any, *operands: Any, **named: Any) -> Any:
            self.guard((*operands, *named.values()))
            return fn(keyset, *operands, **named)

        super().impl(op_name, guarded, *args, **options)


def implement(name: str, *, forward: Callable[..., tuple], backward: Callable[..., list[Tensor]]) -> None:
    """Gives an operator its kernels, in Python and for every device.

    Args:
        name: of the operator.
        forward: called as `forward(Operands, *options)`.
        backward: called as `backward(grad_output, Operands, *options, aggregate, normaliser)`.
    """

    def run_forward(*given: Any) -> tuple:
        return forward(Operands(*given[:ALL]), *given[ALL:])

    def run_backward(grad_output: Tensor, *given: Any) -> list[Tensor]:
        return backward(grad_output, Operands(*given[:ALL]), *given[ALL:])

    torch.library.impl(f"crosshead::{name}", "CompositeExplicitAutograd", run_forward)
    torch.library.impl(f"crosshead::{name}_backward", "CompositeExplicitAutograd", run_backward)


def _by_equations(
    equations: Equations, grad_output: Tensor, given: Operands, needed: Sequence[bool]
) -> list[Tensor | None]:
    """The gradients of the operands, in steps that torch can differentiate and batch."""
    differentiate_again = torch.is_grad_enabled()
    with torch.enable_grad(), without_autocast(grad_output):
        # Views of their own: landmarks stem from queries and keys, whose gradients would else include theirs.
        operands = [None if x is None else x.view_as(x) for x in given[:DIFFERENTIABLE]]
        output = equations(Operands._make((*operands, *given[DIFFERENTIABLE:])))
    wanted = [x for x, is_needed in zip(operands, needed, strict=True) if is_needed and x is not None]
    found = iter(
        torch.autograd.grad(output, wanted, grad_output, create_graph=differentiate_again, allow_unused=True)
    )
    return [next(found) if is_needed else None for is_needed in needed]


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
    # Heads that each head hears, summed over the matrices of a factor.
    by_query, by_key = (sum(x[-1] for x in pair if isinstance(x, Sequence)) for pair in (rest[:2], rest[2:4]))
    products = heads * l * (n + m) * (d + e)
    mixing = heads * l * (n * by_query + m * by_key)
    return 2 * batch * (products + mixing)


def _needed_flops_backward(_grad_output: object, *rest: object, **_: object) -> int:
    """Twice the forward pass, for two operands of each product; recomputation does not count."""
    return 2 * needed_flops(*rest)  # type: ignore[arg-type]
