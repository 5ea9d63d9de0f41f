"""Whether what is timed is right; a provider that is wrong gets no time.

The library's own operator and layer, and the exact and the landmark attention beside them, are compared with
float64: the largest error may be twice that of plain arithmetic in the same precision plus a rounding band of
eps times the largest value, as in `crosshead.measure.budgets`. Plain arithmetic of operators is run in two
orders of summation, since one may be right by luck.

The mechanisms of others have no second source here. They must return finite numbers of the right shape, and
these must agree with the same package run in float64 to half of the digits of the precision.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from math import sqrt
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from crosshead.bench.options import BY_NAME, OURS
from crosshead.bench.providers import (
    PLAIN,
    USED,
    Operands,
    Operator,
    Setting,
    build_layer,
    build_operator,
    dense,
    interactive,
    make_cotangent,
    make_operands,
    make_tokens,
)

Named = Mapping[str, Tensor]
# Elements of a float64 factor or map that a check may hold; longer cases are checked shortened.
OUTPUT_ELEMENTS, GRADIENT_ELEMENTS, MAP_ELEMENTS = 2**25, 2**21, 2**23
OURS_TOKENS, OTHERS_TOKENS = 4096, 256


class WrongResult(Exception):
    """A provider whose numbers are not right; the message says which and by how much."""


def compare(actual: Named, *, exact: Named, plain: list[Named]) -> None:
    """Requires every tensor inside its error budget.

    Args:
        actual: tensors under test.
        exact: the same in float64.
        plain: the same by plain arithmetic in the precision under test, in several orders of summation.

    Raises:
        WrongResult: if one is outside; the message names the first.
    """
    for name, x in actual.items():
        _finite(name, x)
        _same_shape(name, x, exact[name])
        errors = [_largest(other[name].double() - exact[name]) for other in plain]
        allowed = 2 * max(errors) + torch.finfo(x.dtype).eps * _largest(exact[name])
        error = _largest(x.double() - exact[name])
        if not error <= allowed:
            raise WrongResult(f"{name} is off by {error:.2e} from float64, allowed is {allowed:.2e}")
        _half_the_digits(name, x, exact[name])


@dataclass(frozen=True)
class Checker:
    """Checks providers in one setting, at one length; what they share is computed once.

    Attributes:
        setting: sizes, dtype and device.
        tokens: `N`.
        backward: whether gradients are checked too.
        known: results of the equations that implementations were compared with, by length and pass.
    """

    setting: Setting
    tokens: int
    backward: bool
    known: dict[tuple[int, bool], "_Known"] = field(default_factory=dict)

    def check(self, name: str) -> str:
        """Checks one provider.

        Returns:
            What was compared, and at which length where that is shorter.

        Raises:
            WrongResult: if the numbers are not right.
        """
        if BY_NAME[name].level == "layer":
            return self._check_layer(name)
        attend = build_operator(name, self.setting)
        if name in OURS or name == "landmarks-only":
            return self._check_factored(name, attend)
        if name in ("exact", "talking-heads"):
            return self._check_dense(name, attend)
        return self._check_other_operator(name, attend)

    def _check_factored(self, name: str, attend: Operator) -> str:
        rows = self.setting.batch * self.setting.heads * self.setting.landmarks
        room = 16 if self.setting.device == "cuda" else 1
        longest = max(64, room * OUTPUT_ELEMENTS // rows)
        longest_backward = max(64, room * GRADIENT_ELEMENTS // rows)
        tokens = min(self.tokens, longest)
        if not self.backward or tokens > longest_backward:
            self._compare_with_equations(name, attend, tokens, backward=False)
        if not self.backward:
            return "output" + self._shortened(tokens)
        shorter = min(tokens, longest_backward)
        self._compare_with_equations(name, attend, shorter, backward=True)
        return f"output{self._shortened(tokens)}, gradients{self._shortened(shorter)}"

    def _compare_with_equations(self, name: str, attend: Operator, tokens: int, *, backward: bool) -> None:
        if name == "landmarks-only":
            known = self._equations(replace(self.setting, mixing="none"), tokens, backward)
        else:
            if (tokens, backward) not in self.known:
                self.known[tokens, backward] = self._equations(self.setting, tokens, backward)
            known = self.known[tokens, backward]
        actual = self._results(attend, known.given, USED.get(name, ()), backward=backward)
        compare(actual, exact=known.exact, plain=known.plain)

    def _equations(self, setting: Setting, tokens: int, backward: bool) -> "_Known":
        given = make_operands(setting, tokens, requires_grad=backward)
        return self._known(interactive("reference"), given, (), backward=backward)

    def _check_dense(self, name: str, attend: Operator) -> str:
        rows = self.setting.batch * self.setting.heads
        tokens = min(self.tokens, max(64, int(sqrt(MAP_ELEMENTS / rows))))
        given = make_operands(self.setting, tokens, requires_grad=self.backward)
        actual = self._results(attend, given, USED[name], backward=self.backward)
        plainly = partial(dense, mixing=name == "talking-heads")
        known = self._known(plainly, given, USED[name], backward=self.backward)
        compare(actual, exact=known.exact, plain=known.plain)
        return self._said(tokens)

    def _check_other_operator(self, name: str, attend: Operator) -> str:
        tokens = min(self.tokens, OTHERS_TOKENS)
        given = make_operands(self.setting, tokens, requires_grad=self.backward)
        actual, wide = (
            self._results(attend, operands, USED[name], backward=self.backward)
            for operands in (given, given.to(torch.float64))
        )
        return self._agree(actual, wide, tokens)

    def _check_layer(self, name: str) -> str:
        ours = name == "interactive-layer"
        tokens = min(self.tokens, OURS_TOKENS if ours else OTHERS_TOKENS)
        layer: Any = build_layer(name, self.setting, tokens)
        x = make_tokens(self.setting, tokens, requires_grad=self.backward)
        plain = copy.deepcopy(layer)
        if ours:
            plain.impl = "reference"
        wide = copy.deepcopy(plain).double()
        actual = self._layer_results(layer, x)
        _same_shape("output", actual["output"], x)
        exact = self._layer_results(wide, x.detach().double().requires_grad_(self.backward))
        if not ours:
            return self._agree(actual, exact, tokens)
        compare(actual, exact=exact, plain=[self._layer_results(plain, x)])
        return self._said(tokens)

    def _layer_results(self, layer: nn.Module, x: Tensor) -> Named:
        with torch.set_grad_enabled(self.backward):
            output = layer(x)
        if not self.backward:
            return {"output": output}
        cotangent = make_cotangent(self.setting, *output.shape).to(output.dtype)
        gradient = torch.autograd.grad(output, x, cotangent)[0]
        return {"output": output.detach(), "gradient of tokens": gradient}

    def _known(self, attend: Operator, given: Operands, used: tuple[str, ...], *, backward: bool) -> "_Known":
        plain = self._results(attend, given, used, backward=backward)
        turned = self._results(attend, given.backwards(), used, backward=backward, turned=True)
        exact = self._results(attend, given.to(torch.float64), used, backward=backward)
        return _Known(given, exact, [plain, turned])

    def _results(
        self,
        attend: Operator,
        given: Operands,
        used: tuple[str, ...],
        *,
        backward: bool,
        turned: bool = False,
    ) -> Named:
        """Output and gradients; `turned` for tokens that stand in reverse order, and are put back."""
        with torch.set_grad_enabled(backward):
            output = attend(given)
        found = {"output": output.detach()}
        if backward:
            leaves = given.named(used)
            cotangent = make_cotangent(self.setting, *output.shape).to(output.dtype)
            cotangent = cotangent.flip(2) if turned else cotangent
            grads = torch.autograd.grad(output, list(leaves.values()), cotangent)
            found |= dict(zip(leaves, grads, strict=True))
        if turned:
            found |= {name: found[name].flip(2) for name in ("output", *PLAIN) if name in found}
        return {name if name == "output" else f"gradient of {name}": x for name, x in found.items()}

    def _agree(self, actual: Named, wide: Named, tokens: int) -> str:
        for name, x in actual.items():
            _same_shape(name, x, wide[name])
            _finite(name, x)
            _half_the_digits(name, x, wide[name])
        return f"finite, agrees with itself in float64{self._shortened(tokens)}"

    def _said(self, tokens: int) -> str:
        return ("output, gradients" if self.backward else "output") + self._shortened(tokens)

    def _shortened(self, tokens: int) -> str:
        return "" if tokens == self.tokens else f" at {tokens:,} tokens"


class _Known(NamedTuple):
    """What providers are compared with, and the operands that it comes from."""

    given: Operands
    exact: Named
    plain: list[Named]


def _finite(name: str, x: Tensor) -> None:
    if not x.isfinite().all():
        raise WrongResult(f"{name} is not finite")


def _same_shape(name: str, x: Tensor, expected: Tensor) -> None:
    if x.shape != expected.shape:
        raise WrongResult(f"{name} has shape {tuple(x.shape)}, needed is {tuple(expected.shape)}")


def _half_the_digits(name: str, x: Tensor, exact: Tensor) -> None:
    error = _rms(x.double() - exact) / max(_rms(exact), torch.finfo(torch.float64).tiny)
    allowed = sqrt(torch.finfo(x.dtype).eps)
    if not error <= allowed:
        raise WrongResult(f"{name} differs from float64 by {error:.1e} of its size, allowed is {allowed:.1e}")


def _largest(x: Tensor) -> float:
    return x.abs().max().item()


def _rms(x: Tensor) -> float:
    return x.double().square().mean().sqrt().item()
