"""Arithmetic in which every number is rounded at random: how wrong a result may be through rounding alone.

Legend: `R` runs, `B` batch, `H` heads, `N` query tokens, `M` key tokens, `L` landmarks, `E` value head dim.

Monte Carlo arithmetic (Parker, 1997): the equations in float64, where each number that the dtype under test
would round, forward and backward, is off by a random part of its rounding. It shows what one run of plain
arithmetic may hide: that a gradient which is exactly zero, or next to it, is a difference of terms, each of
which was rounded. For that the softmax is written out: some of these terms are inside.

Rounding has the precision of the dtype and not its range, so results beyond float16's, too, have an error.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from crosshead.attention.impl.precision import MASKED_LOGIT, accumulation_dtype
from crosshead.testing.inputs import OperatorInputs, draw_cotangent

Rounding = Callable[[Tensor], Tensor]

# Summands of a matrix product that are added one after another, before such sums are added.
CHAIN = 8


def jittered_results(
    inputs: OperatorInputs, *, runs: int = 8, scale: float | None = None, seed: int = 0
) -> list[dict[str, Tensor]]:
    """Output and every gradient as they may come out in the dtype of the inputs, several times.

    Args:
        inputs: arguments of the operator; those that require a gradient get one.
        runs: how often.
        scale: factor on the logits; `D ** -0.5` when None.
        seed: seed of the roundings.

    Returns:
        For each run what `output_and_gradients` names.

    Example:
        >>> from crosshead.testing.inputs import make_inputs
        >>> first, second = jittered_results(make_inputs(dtype=torch.float32), runs=2)
        >>> first["output"].dtype, 0 < (first["output"] - second["output"]).abs().max() < 1e-5
        (torch.float32, tensor(True))
    """
    dtype = inputs.query.dtype
    generator = torch.Generator().manual_seed(seed)
    leaves = {
        name: x.detach().double().expand(runs, *x.shape).requires_grad_(x.requires_grad)
        for name, x in inputs.floating().items()
    }
    with torch.enable_grad():
        output = _attention(leaves, inputs, scale, _Rounding(dtype, generator))
    results = {"output": output.detach().to(dtype)}
    wanted = {name: x for name, x in leaves.items() if x.requires_grad}
    if wanted:
        cotangent = draw_cotangent(output.shape[1:]).expand(output.shape)
        gradients = torch.autograd.grad(output, list(wanted.values()), cotangent)
        for name, gradient in zip(wanted, gradients, strict=True):
            results[f"grad {name}"] = gradient.to(inputs.floating()[name].dtype)
    return [{name: x[run] for name, x in results.items()} for run in range(runs)]


class _Rounding:
    """The two roundings: of sums, which each order of summation rounds elsewhere, and of what is stored."""

    def __init__(self, dtype: torch.dtype, generator: torch.Generator) -> None:
        self.generator = generator
        self.sum_eps = torch.finfo(accumulation_dtype(dtype)).eps
        # Float16, whose range is small, holds no gradients.
        self.holds_gradients = dtype != torch.float16
        # t - (t - x) with t = x (2^(53 - p) + 1) is float64's x in p bits (Veltkamp), in any range.
        self.splitter = torch.finfo(dtype).eps / torch.finfo(torch.float64).eps + 1

    def of_product(self, a: Tensor, b: Tensor) -> Tensor:
        return _Product.apply(a, b, self._product)  # type: ignore[return-value]

    def of_sum(self, x: Tensor) -> Tensor:
        return _Rounded.apply(x, self._off_by_a_part, self._off_by_a_part)  # type: ignore[return-value]

    def of_storage(self, x: Tensor) -> Tensor:
        of_gradient = self._held if self.holds_gradients else None
        return _Rounded.apply(self.of_sum(x), self._on_a_moved_grid, of_gradient)  # type: ignore[return-value]

    def _product(self, a: Tensor, b: Tensor) -> Tensor:
        """A sum that is rounded at each summand, where it is part of the whole and a random walk."""
        total, squares, summands = a @ b, a.square() @ b.square(), min(a.shape[-1], CHAIN)
        typical = (summands * (total.square() / 3 + squares / 2)).sqrt()
        part = torch.rand(total.shape, generator=self.generator).sub_(0.5).double()
        return torch.addcmul(total, typical, part, value=self.sum_eps)

    def _off_by_a_part(self, x: Tensor) -> Tensor:
        part = torch.rand(x.shape, generator=self.generator).sub_(0.5).double()
        return torch.addcmul(x, x, part, value=self.sum_eps)

    def _on_a_moved_grid(self, x: Tensor) -> Tensor:
        """What is equal stays equal, as in any dtype, and runs round it to other numbers; every second run to
        that of the dtype itself."""
        moved = 1 + torch.rand(x.shape[0], *[1] * (x.ndim - 1), generator=self.generator).double()
        moved[1::2] = 1
        larger = x * moved * self.splitter
        return (larger - (larger - x * moved)) / moved

    def _held(self, gradient: Tensor) -> Tensor:
        """A gradient that every second run keeps as it is, in a wider number."""
        held = self._on_a_moved_grid(gradient)
        held[1::2] = gradient[1::2]
        return held


class _Rounded(torch.autograd.Function):
    """A number rounded in one way, and its gradient in one, or not at all."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, rounding: Rounding, of_gradient: Rounding | None) -> Tensor:
        ctx.of_gradient = of_gradient
        return rounding(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        return ctx.of_gradient(grad) if ctx.of_gradient else grad, None, None


class _Product(torch.autograd.Function):
    """A matrix product, and its two gradients, of which each is one."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, product: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        ctx.save_for_backward(a, b)
        ctx.product = product
        return product(a, b)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor | None, None]:  # type: ignore[override]
        a, b = ctx.saved_tensors
        of_b = ctx.product(a.mT, grad) if ctx.needs_input_grad[1] else None
        return ctx.product(grad, b.mT), of_b, None


def _attention(
    x: dict[str, Tensor], inputs: OperatorInputs, scale: float | None, rounding: _Rounding
) -> Tensor:
    """`O = F_q (F_k V)` of operands (R, B, H, tokens, channels) and matrices (R, H, H)."""
    s = inputs.query.shape[-1] ** -0.5 if scale is None else scale
    q = _kept(x["query"], _rows(inputs.query_mask))
    k, v = (_kept(x[name], _rows(inputs.key_mask)) for name in ("key", "value"))
    ql, kl = (_kept(x[f"{name}_landmarks"], _rows(inputs.landmark_mask)) for name in ("query", "key"))

    def factor(rows: Tensor, columns: Tensor, name: str, mask: Tensor | None) -> Tensor:
        raw = rounding.of_product(rows, columns.mT)
        logits = _mixed(raw, x.get(f"{name}_logits"), rounding)
        if mask is not None:
            logits = logits.masked_fill(~_columns(mask), MASKED_LOGIT)
        powers = rounding.of_sum((logits - logits.detach().amax(-1, keepdim=True)).exp())
        # Each use is rounded alone: gradients meet, and cancel, where they are added.
        total = rounding.of_sum(rounding.of_sum(powers).sum(-1, keepdim=True))
        # A product with ones: on the way back, the sum of what each weight says of the total.
        inverse = rounding.of_product(rounding.of_sum(1 / total), powers.new_ones(1, powers.shape[-1]))
        weights = rounding.of_sum(powers) * inverse
        weights = _kept(rounding.of_sum(weights), None if mask is None else _columns(mask))
        return rounding.of_storage(_mixed(weights, x.get(f"{name}_weights"), rounding))

    f_q = factor(q, rounding.of_sum(s * kl), "query", inputs.landmark_mask)
    f_k = factor(rounding.of_sum(s * ql), k, "key", inputs.key_mask)
    aggregate = rounding.of_storage(_kept(rounding.of_product(f_k, v), _rows(inputs.landmark_mask)))
    return _kept(rounding.of_product(f_q, aggregate), _rows(inputs.query_mask))


def _mixed(x: Tensor, matrix: Tensor | None, rounding: _Rounding) -> Tensor:
    if matrix is None:
        return x
    blocks = matrix[:, None] if matrix.ndim == 3 else matrix
    grouped = rounding.of_sum(x).unflatten(2, (blocks.shape[1], -1))
    mixed = torch.einsum("rugh,rbuhij->rbugij", rounding.of_sum(blocks), grouped).flatten(2, 3)
    return rounding.of_sum(rounding.of_sum(x) + mixed)


def _rows(mask: Tensor | None) -> Tensor | None:
    return None if mask is None else mask[:, None, :, None]


def _columns(mask: Tensor) -> Tensor:
    return mask[:, None, None, :]


def _kept(x: Tensor, mask: Tensor | None) -> Tensor:
    return x if mask is None else x.masked_fill(~mask, 0)
