"""Compilers and tracers: one graph for all lengths, exportable, and operators that keep torch's rules."""

from collections.abc import Callable, Iterator
from math import prod
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.utils import counters
from torch.export import Dim, export

from crosshead import HeadMixing, InteractiveAttention, interactive_attention
from crosshead.attention import functional
from crosshead.testing.inputs import MASK_NAMES, MIXING_MODES, make_inputs

every_implementation = pytest.mark.parametrize("impl", ["reference", "streamed"])
LENGTHS = (16, 23, 9, 64, 31, 128, 57, 40, 99, 12)


@pytest.fixture(autouse=True)
def graphs() -> Iterator[Callable[[], int]]:
    """Starts each test with nothing compiled, and counts the graphs that it compiles."""
    torch.compiler.reset()
    counters.clear()
    yield lambda: counters["stats"]["unique_graphs"]
    torch.compiler.reset()


def compile_whole(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """One graph for every size, forward and backward traced as for inductor, without waiting for its code."""
    return torch.compile(function, fullgraph=True, dynamic=True, backend="aot_eager")


def make_layer(**options) -> InteractiveAttention:
    torch.manual_seed(0)
    layer = InteractiveAttention(8, 2, **options).double()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return layer


def draw(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def assert_same(
    compiled: Callable[..., Tensor], eager: Callable[..., Tensor], leaves: list[Tensor], *args, **kwargs
):
    results = []
    for function in (compiled, eager):
        y = function(*args, **kwargs)
        results.append([y, *torch.autograd.grad(y.square().sum(), leaves)])
    torch.testing.assert_close(*results, rtol=1e-9, atol=1e-10)


@every_implementation
def test_the_operator_over_ten_lengths_compiles_at_most_twice(impl, graphs):
    compiled = compile_whole(interactive_attention)
    for tokens in LENGTHS:
        inputs = make_inputs(queries=tokens, keys=2 * tokens + 1, masks=MASK_NAMES)
        args, kwargs = inputs.arguments()
        leaves = list(inputs.floating().values())
        assert_same(compiled, interactive_attention, leaves, *args, **kwargs, impl=impl)
    assert 1 <= graphs() <= 2


def test_auto_compiles_once_below_and_once_above_its_threshold(graphs, monkeypatch):
    monkeypatch.setattr(functional, "STREAMED_FROM", 2 * 3 * 4 * 100)
    compiled = compile_whole(interactive_attention)
    for tokens in LENGTHS:
        args, kwargs = make_inputs(queries=tokens, keys=tokens + 1, requires_grad=False).arguments()
        torch.testing.assert_close(compiled(*args, **kwargs), interactive_attention(*args, **kwargs))
    assert graphs() == 2


SEQUENCES = {
    "local term": {"landmarks": (4,), "local_kernel": 3},
    "prefix, norms": {"landmarks": (4,), "num_prefix_tokens": 1, "qk_norm": True},
}


@pytest.mark.parametrize(
    ("impl", "case", "masked"),
    [
        ("streamed", "prefix, norms", True),
        pytest.param("streamed", "local term", False, marks=pytest.mark.slow),
        pytest.param("reference", "prefix, norms", True, marks=pytest.mark.slow),
    ],
)
def test_the_layer_over_ten_lengths_compiles_at_most_twice(impl, case, masked, graphs):
    layer = make_layer(impl=impl, **SEQUENCES[case])
    compiled = compile_whole(layer)
    for tokens in LENGTHS:
        x = draw(3, layer.num_prefix_tokens + tokens, 8)
        mask = torch.rand(x.shape[:2]) < 0.7 if masked else None
        assert_same(compiled, layer, list(layer.parameters()), x, grid=(tokens,), key_mask=mask)
    assert 1 <= graphs() <= 2


@pytest.mark.parametrize(
    ("impl", "masked"), [("streamed", True), pytest.param("reference", False, marks=pytest.mark.slow)]
)
def test_the_layer_over_ten_images_compiles_at_most_twice(impl, masked, graphs):
    layer = make_layer(landmarks=(2, 3), local_kernel=3, impl=impl)
    compiled = compile_whole(layer)
    for height, width in [
        (4, 6),
        (5, 7),
        (9, 3),
        (8, 8),
        (6, 11),
        (3, 14),
        (10, 5),
        (7, 4),
        (12, 9),
        (5, 13),
    ]:
        x = draw(2, height * width, 8)
        mask = torch.rand(x.shape[:2]) < 0.7 if masked else None
        assert_same(compiled, layer, list(layer.parameters()), x, grid=(height, width), key_mask=mask)
    assert 1 <= graphs() <= 2


@pytest.mark.slow
def test_cross_attention_over_ten_lengths_compiles_at_most_twice(graphs):
    layer = make_layer(landmarks=(4,), impl="streamed")
    compiled = compile_whole(layer)
    for tokens, seen in zip(LENGTHS, reversed(LENGTHS), strict=True):
        x, context = draw(2, tokens, 8), draw(2, seen + 1, 8)
        call = {
            "context": context,
            "context_grid": (seen + 1,),
            "context_mask": torch.rand(2, seen + 1) < 0.7,
        }
        assert_same(compiled, layer, list(layer.parameters()), x, **call)
    assert 1 <= graphs() <= 2


@pytest.mark.parametrize("impl", ["streamed", pytest.param("reference", marks=pytest.mark.slow)])
def test_inductor_gives_what_eager_gives(impl):
    compiled = torch.compile(interactive_attention, fullgraph=True, dynamic=True)
    inputs = make_inputs(masks=("key_mask",))
    args, kwargs = inputs.arguments()
    leaves = list(inputs.floating().values())
    assert_same(compiled, interactive_attention, leaves, *args, **kwargs, impl=impl)


@pytest.mark.parametrize(
    ("impl", "case", "masked"),
    [
        ("streamed", "local term", False),
        ("streamed", "prefix, norms", True),
        ("reference", "prefix, norms", True),
    ],
)
def test_the_layer_exports_with_dynamic_batch_and_length(impl, case, masked):
    layer = make_layer(impl=impl, **SEQUENCES[case]).eval()
    batch, length = Dim("batch", min=1, max=64), Dim("length", min=5, max=4096)
    masks: dict[str, Any] = {"key_mask": torch.ones(2, 24).bool()} if masked else {}
    shapes = {name: {0: batch, 1: length} for name in ("x", *masks)}
    program = export(layer, (draw(2, 24, 8),), masks, dynamic_shapes=shapes).module()
    for samples, tokens in [(1, 7), (3, 24), (5, 130)]:
        x = draw(samples, tokens, 8)
        masks = {"key_mask": torch.rand(samples, tokens) < 0.7} if masked else {}
        torch.testing.assert_close(program(x, **masks), layer(x, **masks), rtol=1e-10, atol=1e-11)


@pytest.mark.skipif(torch.__version__ < "2.12", reason="torch 2.11 exports no named Dim of a sequence")
def test_auto_exports_the_equations_and_not_an_operator_of_ours(monkeypatch):
    monkeypatch.setattr(functional, "STREAMED_FROM", 1)
    layer = make_layer(landmarks=(4,)).eval()
    x = draw(2, 24, 8)
    program = export(layer, (x,), dynamic_shapes={"x": {1: Dim("length", min=5, max=4096)}})
    called = " ".join(str(node.target) for node in program.graph.nodes)
    assert "softmax" in called
    assert "crosshead" not in called
    torch.testing.assert_close(program.module()(x), layer(x), rtol=1e-10, atol=1e-11)


class OnImages(nn.Module):
    """A layer that takes its grid from the picture, as a backbone does."""

    def __init__(self, **options) -> None:
        super().__init__()
        self.attention = make_layer(**options)

    def forward(self, image: Tensor) -> Tensor:
        tokens = image.flatten(2).transpose(1, 2)
        return self.attention(tokens, grid=(image.shape[2], image.shape[3]))


@every_implementation
def test_a_layer_on_images_exports_with_dynamic_sides_that_do_not_divide(impl):
    model = OnImages(landmarks=(2, 3), local_kernel=3, impl=impl).eval()
    sides = {
        0: Dim("batch", min=1, max=16),
        2: Dim("height", min=2, max=512),
        3: Dim("width", min=3, max=512),
    }
    program = export(model, (draw(2, 8, 6, 9),), dynamic_shapes=(sides,)).module()
    for samples, height, width in [(1, 2, 3), (3, 7, 5), (2, 11, 13)]:
        image = draw(samples, 8, height, width)
        torch.testing.assert_close(program(image), model(image), rtol=1e-9, atol=1e-10)


class Masked(nn.Module):
    """A layer called with what a tracer must carry through: a mask, and a grid known beforehand."""

    def __init__(self, **options) -> None:
        super().__init__()
        self.attention = make_layer(**options)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.attention(x, grid=(3, 4), key_mask=mask)


@every_implementation
def test_symbolic_tracing_gives_a_graph_that_computes_the_same(impl):
    model = OnImages(landmarks=(2, 3), local_kernel=3, qk_norm=True, impl=impl)
    traced = torch.fx.symbolic_trace(model)
    for height, width in [(4, 6), (5, 7)]:
        image = draw(2, 8, height, width)
        torch.testing.assert_close(traced(image), model(image))
    masked = Masked(landmarks=(2, 2), impl=impl)
    x, mask = draw(2, 12, 8), torch.rand(2, 12) < 0.7
    torch.testing.assert_close(torch.fx.symbolic_trace(masked)(x, mask), masked(x, mask))


BARE = {
    "images": {"landmarks": (2, 2)},
    "norms, prefix": {"landmarks": (2, 2), "qk_norm": True, "num_prefix_tokens": 1},
    "local term": {"landmarks": (2, 2), "local_kernel": 3},
    "no mixing": {"landmarks": (2, 2), "mixing": "none"},
}


@every_implementation
@pytest.mark.parametrize("case", BARE)
def test_a_trace_of_the_layer_itself_leaves_every_argument_open(impl, case):
    layer = make_layer(impl=impl, **BARE[case])
    traced = torch.fx.symbolic_trace(layer)
    traced.graph.eliminate_dead_code()
    traced.recompile()
    prefix = layer.num_prefix_tokens
    for grid in [(3, 4), (5, 2)]:
        x = draw(2, prefix + prod(grid), 8)
        mask = torch.rand(x.shape[:2]) < 0.7
        context = {"context": draw(2, prefix + 6, 8), "context_grid": (2, 3)}
        context_mask = {"context_mask": torch.rand(2, prefix + 6) < 0.7}
        calls = [{}, {"key_mask": mask}]
        if layer.local is None:
            calls += [context, {"key_mask": mask, **context}, {**context, **context_mask}]
        for call in calls:
            torch.testing.assert_close(traced(x, grid=grid, **call), layer(x, grid=grid, **call))
        if layer.local is not None:
            with pytest.raises(NotImplementedError, match="local_kernel"):
                traced(x, grid=grid, **context)


def test_a_trace_calls_the_projection_as_a_module_that_tools_can_replace():
    layer, doubled = make_layer(landmarks=(2, 2)), make_layer(landmarks=(2, 2))
    doubled.qkv.weight.data *= 2
    doubled.qkv.bias.data *= 2
    traced = torch.fx.symbolic_trace(layer)
    traced.qkv = doubled.qkv
    x = draw(2, 12, 8)
    torch.testing.assert_close(traced(x, grid=(3, 4)), doubled(x, grid=(3, 4)))


@every_implementation
def test_symbolic_tracing_of_the_layer_with_arguments_that_are_known(impl):
    layer = make_layer(landmarks=(4,), impl=impl)
    nothing = dict.fromkeys(["grid", "context", "context_grid", "context_mask"])
    traced = torch.fx.symbolic_trace(layer, concrete_args=nothing)
    for tokens in (9, 14):
        x, mask = draw(2, tokens, 8), torch.rand(2, tokens) < 0.7
        torch.testing.assert_close(traced(x), layer(x))
        torch.testing.assert_close(traced(x, key_mask=mask), layer(x, key_mask=mask))


def operator_arguments(*, mixing: str = "both", masks=(), dtype=torch.float32, requires_grad: bool = True):
    inputs = make_inputs(mixing=mixing, masks=masks, dtype=dtype, requires_grad=requires_grad)  # type: ignore[arg-type]
    (q, k, v), kwargs = inputs.arguments()
    mixings = [kwargs[name] or HeadMixing() for name in ("query_mixing", "key_mixing")]
    matrices = [matrix for mixing in mixings for matrix in (mixing.logits, mixing.weights)]
    landmarks = (kwargs["query_landmarks"], kwargs["key_landmarks"])
    return (q, k, v, *landmarks, *matrices, inputs.key_mask, inputs.landmark_mask, 0.4, None)


@pytest.mark.parametrize("mixing", MIXING_MODES)
@pytest.mark.parametrize("masks", [(), MASK_NAMES], ids=["whole", "masked"])
def test_the_streamed_operator_keeps_the_rules_of_torch(mixing, masks):
    torch.library.opcheck(
        torch.ops.crosshead.streamed.default, operator_arguments(mixing=mixing, masks=masks)
    )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_the_streamed_operator_keeps_the_rules_of_torch_in_each_dtype(dtype):
    torch.library.opcheck(torch.ops.crosshead.streamed.default, operator_arguments(dtype=dtype))


@pytest.mark.parametrize("mixing", ["none", "both"])
@pytest.mark.parametrize("masks", [(), MASK_NAMES], ids=["whole", "masked"])
def test_its_backward_operator_keeps_them_too(mixing, masks):
    arguments = operator_arguments(mixing=mixing, masks=masks, requires_grad=False)
    output, *kept = torch.ops.crosshead.streamed(*arguments)
    torch.library.opcheck(
        torch.ops.crosshead.streamed_backward.default, (torch.ones_like(output), *arguments, *kept)
    )
