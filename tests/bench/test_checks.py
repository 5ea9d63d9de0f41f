"""What is wrong is found before it is timed: outputs, gradients, shapes, numbers that are none."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from crosshead.bench import checks
from crosshead.bench.checks import Checker, WrongResult, compare
from crosshead.bench.providers import build_operator

TOKENS = 24


class WrongBackward(torch.autograd.Function):
    """The identity, with a gradient that is a little too large."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        return grad * (1 + 1e-5)


BREAKS = {
    "slightly off": lambda x: x * (1 + 1e-5),
    "one number": lambda x: torch.cat([x[:, :, :-1], x[:, :, -1:] + 1e-4], 2),
    "tokens in another order": lambda x: x.flip(2),
    "not a number": lambda x: x * float("nan"),
    "another shape": lambda x: x[:, :, :-1],
}


def break_operators(monkeypatch, change):
    def build(name, setting):
        attend = build_operator(name, setting)
        return lambda given: change(attend(given))

    monkeypatch.setattr(checks, "build_operator", build)


@pytest.mark.parametrize("change", BREAKS.values(), ids=BREAKS)
@pytest.mark.parametrize("name", ["streamed", "landmarks-only", "exact", "talking-heads"])
def test_a_wrong_output_is_found(name, change, setting, monkeypatch):
    break_operators(monkeypatch, change)
    with pytest.raises(WrongResult, match="output"):
        Checker(setting, TOKENS, False).check(name)


@pytest.mark.parametrize("name", ["streamed", "landmarks-only", "exact", "talking-heads"])
def test_a_wrong_gradient_is_found(name, setting, monkeypatch):
    break_operators(monkeypatch, WrongBackward.apply)
    Checker(setting, TOKENS, False).check(name)
    with pytest.raises(WrongResult, match=r"gradient of \w+ is off by"):
        Checker(setting, TOKENS, True).check(name)


@pytest.mark.parametrize(
    ("broken", "message"), [("not a number", "output is not finite"), ("another shape", "output has shape")]
)
def test_the_numbers_of_others_must_be_numbers_and_as_many_as_needed(broken, message, setting, monkeypatch):
    class Broken(nn.Module):
        def forward(self, x):
            return BREAKS[broken](x[:, None])[:, 0]

    monkeypatch.setattr(checks, "build_layer", lambda *_: Broken())
    with pytest.raises(WrongResult, match=message):
        Checker(setting, TOKENS, False).check("xca-layer")


def test_others_that_lose_half_of_their_digits_are_found(setting, monkeypatch):
    class Rounding(nn.Module):
        def forward(self, x):
            return x.bfloat16().to(x.dtype) if x.dtype == torch.float32 else x

    monkeypatch.setattr(checks, "build_layer", lambda *_: Rounding())
    with pytest.raises(WrongResult, match="differs from float64 by"):
        Checker(setting, TOKENS, False).check("xca-layer")


def test_the_own_layer_is_compared_with_the_equations(setting, monkeypatch):
    build_layer = checks.build_layer

    class Slightly(nn.Module):
        def __init__(self, layer):
            super().__init__()
            self.layer, self.impl = layer, "auto"

        def forward(self, x):
            return self.layer(x) * (1 + 1e-5 * (self.impl == "auto"))

    monkeypatch.setattr(checks, "build_layer", lambda *arguments: Slightly(build_layer(*arguments)))
    with pytest.raises(WrongResult, match="output is off by"):
        Checker(setting, TOKENS, False).check("interactive-layer")


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("name", ["streamed", "exact", "interactive-layer"])
def test_half_precision_passes_its_own_budget(name, dtype, setting):
    assert Checker(replace(setting, dtype=dtype), TOKENS, True).check(name)


def test_what_is_checked_at_another_length_says_so(setting, monkeypatch):
    monkeypatch.setattr(checks, "GRADIENT_ELEMENTS", 64 * 2 * 4)
    assert Checker(setting, 64, True).check("reference") == "output, gradients"
    assert Checker(setting, 96, True).check("reference") == "output, gradients at 64 tokens"
    assert Checker(setting, 96, False).check("reference") == "output"
    monkeypatch.setattr(checks, "OUTPUT_ELEMENTS", 80 * 2 * 4)
    assert Checker(setting, 96, True).check("reference") == "output at 80 tokens, gradients at 64 tokens"
    monkeypatch.setattr(checks, "MAP_ELEMENTS", 2 * 64**2)
    assert Checker(setting, 96, False).check("exact") == "output at 64 tokens"
    assert Checker(setting, 512, False).check("xca-layer").endswith("float64 at 256 tokens")


def test_the_budget_is_twice_plain_arithmetic_and_a_rounding_of_the_largest_value():
    exact = {"output": torch.tensor([1.0, -4.0], dtype=torch.float64)}
    eps = torch.finfo(torch.float32).eps

    def off(by):
        return {"output": exact["output"].float() + torch.tensor([0.0, by])}

    compare(off(2e-5), exact=exact, plain=[off(1e-5)])
    compare(off(2e-5), exact=exact, plain=[off(0.0), off(-1e-5)])
    compare(off(3 * eps), exact=exact, plain=[off(0.0)])
    with pytest.raises(WrongResult, match=r"output is off by 2\.5"):
        compare(off(2.5e-5), exact=exact, plain=[off(1e-5)])
    with pytest.raises(WrongResult, match="differs from float64"):
        compare(off(1e-2), exact=exact, plain=[off(1e-2)])
