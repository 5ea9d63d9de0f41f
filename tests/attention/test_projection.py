"""Linear maps of tokens: what torch's own gives, by a convolution where quicker, and who may watch."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.module import register_module_forward_hook
from torch.utils._python_dispatch import TorchDispatchMode

from crosshead import InteractiveAttention
from crosshead.attention.projection import CONVOLVED_FROM, linear, project
from crosshead.measure.budgets import assert_within_budget

CONVOLUTIONS = torch.backends.mkldnn.is_available()
needs_onednn = pytest.mark.skipif(not CONVOLUTIONS, reason="this build of torch has no oneDNN")


class Steps(TorchDispatchMode):
    """Notes the names of the operators that run."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.add(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


def draw(batch: int, tokens: int, channels: int = 12, out: int = 20, **options) -> list[Tensor]:
    torch.manual_seed(0)
    shapes = (batch, tokens, channels), (out, channels), (out,)
    return [torch.randn(shape, **options).requires_grad_() for shape in shapes]


def convolves(x: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    with Steps() as steps:
        linear(x, weight, bias)
    return "convolution" in steps.names


@pytest.mark.parametrize("sizes", [(1, 1), (3, 21), (1, 64), (2, 99), (5, 200)], ids=str)
@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("strided", [True, False])
def test_is_a_linear_layer_in_value_and_gradients(sizes, biased, strided):
    x, weight, bias = draw(*sizes)

    def results(way, dtype: torch.dtype) -> dict[str, Tensor]:
        inputs = [tensor.detach().to(dtype).requires_grad_() for tensor in (x, weight, bias)]
        tokens = inputs[0].transpose(0, 1).contiguous().transpose(0, 1) if strided else inputs[0]
        y = way(tokens, inputs[1], inputs[2] if biased else None)
        assert y.shape == (*sizes, 20)
        return {
            "y": y,
            **dict(zip("xwb", torch.autograd.grad(y.sin().sum(), inputs[: 2 + biased]), strict=False)),
        }

    actual, plain = results(linear, torch.float32), results(F.linear, torch.float32)
    assert_within_budget(actual, exact=results(F.linear, torch.float64), reference=plain)


def test_can_be_differentiated_twice():
    x, weight, bias = draw(1, 99, dtype=torch.float32)

    def twice(way) -> list[Tensor]:
        (first,) = torch.autograd.grad(way(x, weight, bias).sin().sum(), x, create_graph=True)
        return list(torch.autograd.grad(first.square().sum(), (x, weight)))

    torch.testing.assert_close(twice(linear), twice(F.linear), rtol=1e-4, atol=1e-4)


@needs_onednn
def test_convolves_many_tokens_in_float32_on_a_cpu_and_nothing_else():
    assert convolves(*draw(1, CONVOLVED_FROM))
    assert convolves(*draw(CONVOLVED_FROM // 2, 2))
    assert not convolves(*draw(1, CONVOLVED_FROM - 1))
    assert not convolves(*draw(1, 99, dtype=torch.float64))
    assert not convolves(*draw(1, 99, dtype=torch.bfloat16))
    assert not convolves(*draw(1, 99, device="meta"))
    with torch.autocast("cpu", torch.bfloat16):
        assert not convolves(*draw(1, 99))


class Projection(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(12, 20)

    def forward(self, x: Tensor) -> Tensor:
        return project(self.layer, x)


@needs_onednn
def test_tracers_and_transforms_see_a_product():
    model = Projection()
    x = draw(1, 99)[0].detach()
    traced: Any = torch.jit.trace(model, x)
    exported = torch.export.export(model, (x,))
    for graph in (traced.graph, exported.graph):
        assert "linear" in str(graph)
        assert "conv" not in str(graph)
    with Steps() as steps:
        torch.func.vmap(model)(x[:, None])
    assert "convolution" not in steps.names


def doubled(module: nn.Module, inputs: object, output: Tensor) -> Tensor:
    return 2 * output


class Doubled(nn.Linear):
    def forward(self, input: Tensor) -> Tensor:
        return 2 * super().forward(input)


def other_class(layer: nn.Linear) -> None:
    layer.__class__ = Doubled


def other_forward(layer: nn.Linear) -> None:
    usual = layer.forward
    layer.forward = lambda input: 2 * usual(input)


WATCHERS = {
    "hook": lambda layer: layer.register_forward_hook(doubled),
    "class": other_class,
    "forward of the instance": other_forward,
}


@pytest.mark.parametrize("watch", WATCHERS.values(), ids=list(WATCHERS))
def test_who_changes_the_last_projection_is_heard(watch):
    torch.manual_seed(0)
    layer = InteractiveAttention(12, 3, landmarks=(2, 2))
    x = torch.randn(1, 99, 12)
    expected = layer(x, grid=(9, 11))
    watch(layer.proj)
    torch.testing.assert_close(layer(x, grid=(9, 11)), 2 * expected)


@pytest.mark.parametrize("name", ["qkv", "proj"])
def test_hooks_on_every_module_see_the_projections(name):
    layer, seen = InteractiveAttention(12, 3, landmarks=(2, 2)), []
    handle = register_module_forward_hook(lambda module, inputs, output: seen.append(module))
    try:
        layer(torch.randn(1, 99, 12), grid=(9, 11))
    finally:
        handle.remove()
    assert seen.count(getattr(layer, name)) == 1
