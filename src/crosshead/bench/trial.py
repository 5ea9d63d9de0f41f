"""One thing to run and to measure: for attention, a provider at one length in one pass."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from crosshead.bench.catalogue import BY_NAME
from crosshead.bench.operands import Operands, Setting, make_cotangent, make_operands, make_tokens
from crosshead.bench.providers_layer import build_layer
from crosshead.bench.providers_operator import USED, build_operator


class Result(NamedTuple):
    """What one run returned; no gradients from a forward pass."""

    output: Tensor
    gradients: tuple[Tensor, ...] = ()


@dataclass(frozen=True)
class Trial:
    """A run without arguments, and the tensors that were there before it.

    Attributes:
        run: computes everything once.
        given: inputs, parameters and cotangent.
        compiles: whether the first run of a length builds a program for it.
    """

    run: Callable[[], Result]
    given: Sequence[Tensor]
    compiles: bool = False


def attention_trial(
    name: str, setting: Setting, tokens: int, *, backward: bool, operands: Operands | Tensor | None = None
) -> Trial:
    """Prepares a provider.

    Args:
        name: the provider.
        setting: sizes, dtype and device.
        tokens: `N`.
        backward: whether gradients of all that the provider looks at are computed too.
        operands: what to compute on, if it is there already: `Operands` for an operator, tokens for a layer.

    Raises:
        ImportError: If its package is not installed.
    """
    if BY_NAME[name].level == "layer":
        x = operands if isinstance(operands, Tensor) else make_tokens(setting, tokens, requires_grad=backward)
        layer = build_layer(name, setting, tokens)
        return run_of(lambda: layer(x), [x, *layer.parameters()], setting, tokens, backward=backward)
    given = (
        operands if isinstance(operands, Operands) else make_operands(setting, tokens, requires_grad=backward)
    )
    attend = build_operator(name, setting)
    leaves = list(given.named(USED.get(name, ())).values())
    trial = run_of(lambda: attend(given), leaves, setting, tokens, backward=backward)
    return Trial(trial.run, trial.given, compiles=name == "compiled")


def run_of(
    compute: Callable[[], Tensor], leaves: list[Tensor], setting: Setting, tokens: int, *, backward: bool
) -> Trial:
    """A computation with or without its gradients."""
    if not backward:

        def forward() -> Result:
            with torch.no_grad():
                return Result(compute())

        return Trial(forward, leaves)

    operator = leaves[0].ndim == 4
    shape = (setting.heads, tokens, setting.head_dim) if operator else (tokens, setting.channels)
    cotangent = make_cotangent(setting, setting.batch, *shape)

    def forward_and_backward() -> Result:
        output = compute()
        # Some packages hold parameters that their output does not depend on.
        found = torch.autograd.grad(output, leaves, cotangent, allow_unused=True)
        return Result(output.detach(), tuple(x for x in found if x is not None))

    return Trial(forward_and_backward, [*leaves, cotangent])
