"""The layer among other people's tools: whatever wraps, watches, rewrites or takes away its weights."""

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook
from torch.nn.utils import parametrizations, parametrize, prune
from torch.nn.utils import spectral_norm as old_spectral_norm
from torch.nn.utils import weight_norm as old_weight_norm

from crosshead import InteractiveAttention
from crosshead.attention.plain import has_hooks_on_every_module, is_plain
from crosshead.measure.flops import flop_counter

Layer = InteractiveAttention


def make_layer(seed: int = 0, **options) -> Layer:
    torch.manual_seed(seed)
    layer = Layer(8, 2, landmarks=(2, 2), **options).double()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return layer


def draw(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


X = draw(2, 12, 8)
CALLS: dict[str, dict[str, Any]] = {
    "self": {"grid": (3, 4)},
    "masked": {"grid": (3, 4), "key_mask": draw(2, 12, seed=3) < 0.7},
    "cross": {
        "grid": (3, 4),
        "context": draw(2, 15, 8, seed=2),
        "context_grid": (5, 3),
        "context_mask": draw(2, 15, seed=4) < 0.7,
    },
}
every_call = pytest.mark.parametrize("call", CALLS.values(), ids=list(CALLS))


class Tool(NamedTuple):
    """Something done to `qkv`, and what its weight and bias then amount to, worked out afresh."""

    apply: Callable[[Layer], object]
    weight: Callable[[Any], Tensor]
    bias: Callable[[Any], Tensor] = lambda qkv: qkv.bias


class LowRank(nn.Module):
    """An adapter beside the layer that it holds, as LoRA adds it."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base = base
        self.down = nn.Linear(8, 2, bias=False, dtype=torch.float64)
        self.up = nn.Linear(2, 24, bias=False, dtype=torch.float64)

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + self.up(self.down(x))


class Doubled(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return 2 * weight


def put_low_rank(layer: Layer) -> None:
    layer.qkv = LowRank(layer.qkv)  # pyright: ignore[reportAttributeAccessIssue]


def put_other_forward(layer: Layer) -> None:
    usual = layer.qkv.forward
    layer.qkv.forward = lambda input: 2 * usual(input)


def over_norm(weight: Tensor) -> Tensor:
    return weight / weight.norm(dim=1, keepdim=True)


TOOLS = {
    "forward hook": Tool(
        lambda layer: layer.qkv.register_forward_hook(lambda module, args, y: 2 * y),
        lambda qkv: 2 * qkv.weight,
        lambda qkv: 2 * qkv.bias,
    ),
    "forward pre-hook": Tool(
        lambda layer: layer.qkv.register_forward_pre_hook(lambda module, args: (2 * args[0],)),
        lambda qkv: 2 * qkv.weight,
    ),
    "forward of the instance": Tool(put_other_forward, lambda qkv: 2 * qkv.weight, lambda qkv: 2 * qkv.bias),
    "old spectral norm": Tool(
        lambda layer: old_spectral_norm(layer.qkv),
        lambda qkv: qkv.weight_orig / (qkv.weight_u @ qkv.weight_orig @ qkv.weight_v),
    ),
    "spectral norm": Tool(
        lambda layer: parametrizations.spectral_norm(layer.qkv),
        lambda qkv: over_spectral_norm(qkv.parametrizations.weight),
    ),
    "pruning": Tool(
        lambda layer: prune.l1_unstructured(layer.qkv, "weight", amount=0.4),
        lambda qkv: qkv.weight_orig * qkv.weight_mask,
    ),
    "old weight norm": Tool(
        lambda layer: old_weight_norm(layer.qkv), lambda qkv: qkv.weight_g * over_norm(qkv.weight_v)
    ),
    "weight norm": Tool(
        lambda layer: parametrizations.weight_norm(layer.qkv),
        lambda qkv: qkv.parametrizations.weight.original0 * over_norm(qkv.parametrizations.weight.original1),
    ),
    "parametrisation": Tool(
        lambda layer: parametrize.register_parametrization(layer.qkv, "weight", Doubled()),
        lambda qkv: 2 * qkv.parametrizations.weight.original,
    ),
    "adapter": Tool(
        put_low_rank,
        lambda qkv: qkv.base.weight + qkv.up.weight @ qkv.down.weight,
        lambda qkv: qkv.base.bias,
    ),
}


def over_spectral_norm(parametrization: Any) -> Tensor:
    weight, norm = parametrization.original, parametrization[0]
    return weight / (norm._u @ weight @ norm._v)


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
@every_call
@pytest.mark.parametrize("tool", TOOLS.values(), ids=list(TOOLS))
@pytest.mark.parametrize("qk_norm", [False, True])
def test_learns_as_a_plain_layer_of_the_same_weights_would(tool, call, qk_norm):
    layer, plain = make_layer(qk_norm=qk_norm), make_layer(qk_norm=qk_norm)
    tool.apply(layer)
    layer.eval()  # spectral norms keep their two vectors, so that every call sees one weight
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    for _ in range(2):
        others = {name: value for name, value in layer.named_parameters() if not name.startswith("qkv.")}
        same = {**others, "qkv.weight": tool.weight(layer.qkv), "qkv.bias": tool.bias(layer.qkv)}
        parameters = list(layer.parameters())
        results = []
        for y in (layer(X, **call), torch.func.functional_call(plain, same, (X,), call)):
            results.append([y, *torch.autograd.grad(y.square().mean(), parameters)])
        torch.testing.assert_close(*results, rtol=1e-9, atol=1e-10)
        assert all(gradient.any() for gradient in results[0])
        for parameter, gradient in zip(parameters, results[0][1:], strict=True):
            parameter.grad = gradient
        optimizer.step()


@every_call
def test_who_looks_at_the_projection_sees_every_token_once_and_the_whole_gradient(call):
    layer, seen, passed = make_layer(), [], []
    layer.qkv.register_forward_hook(lambda module, args, y: seen.append(args[0]))
    layer.qkv.register_full_backward_hook(lambda module, into, out: passed.append(out[0]))
    inputs = {"x": X, **call}
    for tokens in inputs.keys() & {"x", "context"}:
        inputs[tokens] = inputs[tokens].clone().requires_grad_()
    layer(**inputs).square().sum().backward()
    assert [x.shape for x in seen] == [(2, 12, 8)] + [(2, 15, 8)] * ("context" in call)
    assert layer.qkv.bias.grad is not None
    torch.testing.assert_close(sum(g.sum((0, 1)) for g in passed), layer.qkv.bias.grad)


@every_call
def test_hooks_on_every_module_reach_the_landmarks(call):
    layer, doubled = make_layer(), make_layer()
    doubled.qkv.weight.data *= 2
    doubled.qkv.bias.data *= 2
    handle = register_module_forward_hook(lambda module, args, y: 2 * y if module is layer.qkv else None)
    try:
        torch.testing.assert_close(layer(X, **call), doubled(X, **call))
    finally:
        handle.remove()


@every_call
@pytest.mark.parametrize("name", ["q_norm", "k_norm"])
def test_hooks_where_norms_may_stand_reach_the_landmarks(name, call):
    layer, doubled = make_layer(), make_layer()
    rows = slice(0, 8) if name == "q_norm" else slice(8, 16)
    doubled.qkv.weight.data[rows] *= 2
    doubled.qkv.bias.data[rows] *= 2
    getattr(layer, name).register_forward_hook(lambda module, args, y: 2 * y)
    torch.testing.assert_close(layer(X, **call), doubled(X, **call))


def test_what_is_plain():
    linear = nn.Linear(2, 3)
    assert is_plain(linear, nn.Linear)
    assert not is_plain(nn.Bilinear(2, 2, 3), nn.Linear)
    registrations: list[Callable] = [
        linear.register_forward_hook,
        linear.register_forward_pre_hook,
        linear.register_full_backward_hook,
        linear.register_full_backward_pre_hook,
    ]
    for register in registrations:
        handle = register(lambda *seen: None)
        assert not is_plain(linear, nn.Linear)
        handle.remove()
    assert is_plain(linear, nn.Linear)
    nested = torch.nested.nested_tensor([torch.ones(1), torch.ones(2)], layout=torch.jagged)
    linear.bias = nn.Parameter(nested)
    assert not is_plain(linear, nn.Linear)


def test_a_flop_counter_counts_what_runs_without_it():
    with flop_counter():
        assert not has_hooks_on_every_module()
        handle = register_module_forward_hook(lambda module, args, y: None)
        assert has_hooks_on_every_module()
        handle.remove()


def test_a_projection_that_gives_a_part_is_refused():
    layer = make_layer()
    layer.qkv.register_forward_hook(lambda module, args, y: y[..., :12])
    for call in CALLS.values():
        with pytest.raises(ValueError, match=r"(?s)qkv must give.*24 channels; got 12.*Replicate"):
            layer(X, **call)


@contextmanager
def offloaded(model: nn.Module) -> Iterator[None]:
    """Each module has its own parameters during its own forward pass alone, as in offloading."""
    for module in model.modules():
        kept = dict(module._parameters)
        if any(parameter is not None for parameter in kept.values()):
            _offload(module, kept)
    yield
    for module in model.modules():
        module.__dict__.pop("forward", None)


def _offload(module: nn.Module, kept: dict[str, nn.Parameter | None]) -> None:
    usual = module.forward
    away = {name: p if p is None else nn.Parameter(p.to("meta")) for name, p in kept.items()}

    def forward(*args, **kwargs):
        module._parameters.update(kept)
        try:
            return usual(*args, **kwargs)
        finally:
            module._parameters.update(away)

    module.forward = forward
    module._parameters.update(away)


@pytest.mark.parametrize(
    ("options", "call"),
    [
        ({"local_kernel": 3}, CALLS["self"]),
        ({"qk_norm": True}, CALLS["masked"]),
        ({"mixing": "weights"}, CALLS["cross"]),
    ],
    ids=["local term", "norms", "cross"],
)
def test_weights_may_be_there_for_their_own_module_alone(options, call):
    layer = make_layer(**options)
    expected = layer(X, **call)
    with offloaded(layer):
        torch.testing.assert_close(layer(X, **call), expected)


def test_parameters_may_be_shared_out_over_processes(tmp_path):
    script = Path(__file__).with_name("sharding.py")
    commands = [[sys.executable, str(script), rank, str(tmp_path / "store")] for rank in "01"]
    processes = [
        subprocess.Popen(c, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for c in commands
    ]
    try:
        printed = [process.communicate(timeout=200) for process in processes]
    finally:
        for process in processes:
            process.kill()
    for out, error in printed:
        lines = [line.split(" ", 2) for line in out.splitlines() if "in parts" not in line]
        assert [(way, call) for way, call, _ in lines] == [
            (way, call)
            for way in ("fully_sharded_data_parallel", "fully_shard", "tensor_parallel")
            for call in ("self", "cross")
        ], error
        assert all(float(difference) < 1e-5 for _, _, difference in lines), out
        assert len(re.findall(r"in parts \w+ qkv must give.*24 channels; got 12", out)) == 2, out + error
