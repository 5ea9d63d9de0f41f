"""The CPU's operators keep torch's rules: traced, compiled, counted, cast, and refused where they must be."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.utils import counters
from torch.export import Dim, ExportedProgram, export
from torch.fx import GraphModule
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

from crosshead import HeadMixing, InteractiveAttention, interactive_attention
from crosshead.attention.impl import fused
from crosshead.attention.impl.fused.cpu import build
from crosshead.attention.operands import Operands
from crosshead.testing.inputs import MASK_NAMES, MIXING_MODES, make_inputs, output_and_gradients

pytestmark = pytest.mark.skipif(
    build.missing() is not None, reason=f"the CPU kernel is not ready: {build.missing()}"
)

attend = partial(interactive_attention, impl="fused")
EVERY_RULE = ("test_schema", "test_autograd_registration", "test_faketensor", "test_aot_dispatch_dynamic")
LENGTHS = (16, 23, 9, 64, 31, 128, 57, 40, 99, 12)


@pytest.fixture
def graphs() -> Iterator[Callable[[], int]]:
    """Starts a test with nothing compiled, and counts the graphs that it compiles."""
    torch.compiler.reset()
    counters.clear()
    yield lambda: counters["stats"]["unique_graphs"]
    torch.compiler.reset()


def make_layer(**options) -> InteractiveAttention:
    torch.manual_seed(0)
    layer = InteractiveAttention(8, 2, landmarks=(4,), **options)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return layer


def operator_arguments(**sizes) -> tuple:
    inputs = make_inputs(**{"dtype": torch.float32, **sizes})
    (q, k, v), kwargs = inputs.arguments()
    mixings = [kwargs[name] or HeadMixing() for name in ("query_mixing", "key_mixing")]
    matrices = [matrix for mixing in mixings for matrix in mixing]
    landmarks = (kwargs["query_landmarks"], kwargs["key_landmarks"])
    return (q, k, v, *landmarks, *matrices, inputs.key_mask, inputs.landmark_mask, 0.4)


@pytest.mark.parametrize(
    "sizes",
    [
        *({"mixing": mixing} for mixing in MIXING_MODES),
        {"masks": MASK_NAMES, "layout": "strided"},
        {"masks": MASK_NAMES, "dtype": torch.bfloat16},
    ],
    ids=str,
)
def test_the_operator_keeps_the_rules_of_torch(sizes):
    operator = torch.ops.crosshead.fused_attention_cpu.default
    torch.library.opcheck(operator, operator_arguments(**sizes), test_utils=EVERY_RULE)


@pytest.mark.parametrize(
    "sizes",
    [
        {"mixing": "none"},
        {"masks": MASK_NAMES, "layout": "strided"},
        {"mixing": "logits", "dtype": torch.bfloat16},
    ],
    ids=str,
)
def test_its_backward_operator_keeps_them_too(sizes):
    arguments = operator_arguments(**sizes, requires_grad=False)
    output, *kept = torch.ops.crosshead.fused_attention_cpu(*arguments)
    operator = torch.ops.crosshead.fused_attention_cpu_backward.default
    torch.library.opcheck(operator, (torch.ones_like(output), *arguments, *kept), test_utils=EVERY_RULE)


@pytest.mark.parametrize("impl", ["fused", "auto"])
def test_ten_lengths_compile_at_most_twice_forward_and_backward(impl, graphs):
    compiled = torch.compile(interactive_attention, fullgraph=True, dynamic=True, backend="aot_eager")
    for tokens in LENGTHS:
        inputs = make_inputs(queries=tokens, keys=2 * tokens + 1, masks=MASK_NAMES, dtype=torch.float32)
        actual, expected = (output_and_gradients(f, inputs, impl=impl) for f in (compiled, attend))
        torch.testing.assert_close(actual, expected)
    assert 1 <= graphs() <= 2


def test_another_length_compiles_no_more_than_once_again(graphs):
    compiled = torch.compile(interactive_attention, fullgraph=True, backend="aot_eager")
    for tokens in LENGTHS:
        args, kwargs = make_inputs(
            queries=tokens, keys=tokens + 1, dtype=torch.float32, requires_grad=False
        ).arguments()
        torch.testing.assert_close(compiled(*args, **kwargs, impl="fused"), attend(*args, **kwargs))
    assert graphs() == 2


@pytest.mark.slow
def test_inductor_gives_what_eager_gives(graphs):
    compiled = torch.compile(interactive_attention, fullgraph=True)
    for tokens in (20, 33):
        inputs = make_inputs(queries=tokens, keys=40, masks=("key_mask",), dtype=torch.float32)
        actual, expected = (output_and_gradients(f, inputs, impl="fused") for f in (compiled, attend))
        torch.testing.assert_close(actual, expected)
    assert graphs() <= 2


def targets(program: ExportedProgram) -> str:
    """What the program calls, in the regions without autocast too, which are graphs of their own."""
    graphs = [x.graph for x in program.graph_module.modules() if isinstance(x, GraphModule)]
    return " ".join(str(node.target) for graph in graphs for node in graph.nodes)


@pytest.mark.skipif(torch.__version__ < "2.12", reason="torch 2.11 exports no named Dim of a sequence")
def test_auto_exports_the_equations_and_not_an_operator_of_ours():
    layer = make_layer().eval()
    x = torch.randn(2, 24, 8)
    program = export(layer, (x,), dynamic_shapes={"x": {1: Dim("length", min=5, max=4096)}})
    assert "softmax" in targets(program)
    assert "crosshead" not in targets(program)
    torch.testing.assert_close(program.module()(x), layer(x))


def test_fused_exports_the_operator():
    layer = make_layer(impl="fused").eval()
    program = export(
        layer, (torch.randn(2, 24, 8),), dynamic_shapes={"x": {1: Dim("length", min=5, max=4096)}}
    )
    assert "crosshead.fused_attention_cpu" in targets(program)
    longer = torch.randn(2, 130, 8)
    torch.testing.assert_close(program.module()(longer), layer(longer))


@pytest.mark.parametrize(("mixing", "matrices"), [("none", 0), ("logits", 1), ("weights", 1), ("both", 2)])
def test_the_flops_of_the_equations_are_counted(mixing, matrices):
    inputs = make_inputs(mixing=mixing, dtype=torch.float32)
    args, kwargs = inputs.arguments()
    counts = {}
    for impl in ("fused", "streamed"):
        with FlopCounterMode(display=False) as forward:
            output = interactive_attention(*args, **kwargs, impl=impl)  # type: ignore[arg-type]
        with FlopCounterMode(display=False) as backward:
            output.sum().backward()
        counts[impl] = (forward.get_total_flops(), backward.get_total_flops())
    # B = 2, H = 3, N = 7, M = 9, L = 4, D = 5, E = 6.
    needed = 2 * 2 * (3 * 4 * (7 + 9) * (5 + 6) + 3 * 3 * 4 * (7 + 9) * matrices)
    assert counts["fused"] == (needed, 2 * needed) == counts["streamed"]


def test_a_second_derivative_raises_and_says_what_to_use():
    args, kwargs = make_inputs(dtype=torch.float32).arguments()
    (gradient,) = torch.autograd.grad(attend(*args, **kwargs).square().sum(), args[0], create_graph=True)
    with pytest.raises(NotImplementedError, match=r"(?s)impl='fused'.*twice.*impl='reference'"):
        gradient.sum().backward()


def test_vmap_raises_and_says_what_to_use():
    (q, k, v), kwargs = make_inputs(dtype=torch.float32, requires_grad=False).arguments()
    with pytest.raises(NotImplementedError, match=r"(?s)impl='fused'.*vmap.*impl='reference'"):
        torch.vmap(lambda q: attend(q, k, v, **kwargs))(torch.stack([q, q]))


def test_operands_that_need_no_gradient_get_none():
    inputs = make_inputs(dtype=torch.float32)
    everything = output_and_gradients(attend, inputs)
    for name in inputs.floating():
        others = {other: x.detach() for other, x in inputs.floating().items() if other != name}
        alone = output_and_gradients(attend, replace(inputs, **others))
        assert list(alone) == ["output", f"grad {name}"]
        assert torch.equal(alone[f"grad {name}"], everything[f"grad {name}"])


def test_an_output_that_is_not_used_gives_no_gradient():
    inputs = make_inputs(dtype=torch.float32)
    args, kwargs = inputs.arguments()
    attend(*args, **kwargs)
    used = attend(*args, **kwargs)
    assert all(x.isfinite().all() for x in torch.autograd.grad(used.sum(), list(inputs.floating().values())))


def test_autocast_runs_the_kernel_in_bfloat16(monkeypatch):
    seen = []

    def spy(operands: Operands) -> Tensor:
        seen.append({x.dtype for x in operands[:5]})
        return original(operands)

    original = fused.attention
    monkeypatch.setattr(fused, "attention", spy)
    inputs = make_inputs(dtype=torch.float32)

    def under_autocast(*args, **kwargs) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return attend(*args, **kwargs)

    actual = output_and_gradients(under_autocast, inputs)
    assert seen == [{torch.bfloat16}]
    assert actual["output"].dtype == torch.bfloat16
    assert {x.dtype for name, x in actual.items() if name != "output"} == {torch.float32}
    rounded = {
        name: x.detach().bfloat16().requires_grad_() for name, x in inputs.floating().items() if x.ndim == 4
    }
    expected = output_and_gradients(attend, replace(inputs, **rounded))
    for name, x in actual.items():
        assert torch.equal(x, expected[name].to(x.dtype)), name


def test_gradient_checkpointing_of_a_layer_changes_nothing():
    layer = make_layer(impl="fused")
    x = torch.randn(2, 20, 8, requires_grad=True)
    wanted = [x, *layer.parameters()]
    plain = torch.autograd.grad(layer(x).square().sum(), wanted)
    again: Any = checkpoint(layer, x, use_reentrant=False)
    checkpointed = torch.autograd.grad(again.square().sum(), wanted)
    for first, second in zip(plain, checkpointed, strict=True):
        assert torch.equal(first, second)
