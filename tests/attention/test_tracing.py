"""Tools that record one call and replay it: `torch.jit.trace`, ONNX, fake tensors."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.export import Dim, export
from torch.fx import GraphModule

from crosshead import InteractiveAttention

pytestmark = pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore:.torch.jit:FutureWarning")


class Call(nn.Module):
    """A layer with its arguments in their places: tracers know no keywords."""

    def __init__(self, arguments: Callable[..., dict[str, Any]], **options) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.attention = InteractiveAttention(16, 2, **options)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.3)
        self.arguments = arguments

    def forward(self, x: Tensor, *others: Tensor) -> Tensor:
        return self.attention(x, **self.arguments(*others))


def draw(batch: int, tokens: int) -> Tensor:
    return torch.randn(batch, tokens, 16, generator=torch.Generator().manual_seed(tokens))


def holes(batch: int, tokens: int) -> Tensor:
    """Masks: of everything, of a short prefix, of nothing, and with holes."""
    mask = torch.rand(batch, tokens, generator=torch.Generator().manual_seed(tokens)) < 0.6
    mask[0] = True
    mask[1:2] = torch.arange(tokens) < 3
    mask[2:3] = False
    return mask


PREFIX = {"landmarks": (4,), "num_prefix_tokens": 1, "qk_norm": True}
SEQUENCES = {
    "plain": (dict, {"landmarks": (4,)}, lambda b, n: ()),
    "local term": (dict, {"landmarks": (4,), "local_kernel": 3}, lambda b, n: ()),
    "prefix, norms": (dict, PREFIX, lambda b, n: ()),
    "mask": (lambda mask: {"key_mask": mask}, PREFIX, lambda b, n: (holes(b, n),)),
    "context": (
        lambda context, mask: {"context": context, "context_mask": mask},
        {"landmarks": (4,)},
        lambda b, n: (draw(b, n + 3), holes(b, n + 3)),
    ),
}


@pytest.mark.parametrize("impl", ["reference", "streamed"])
@pytest.mark.parametrize("case", SEQUENCES)
def test_a_trace_serves_every_length(case, impl):
    arguments, options, others = SEQUENCES[case]
    model = Call(arguments, impl=impl, **options).eval()
    traced: Any = torch.jit.trace(model, (draw(2, 9), *others(2, 9)))
    for batch, tokens in [(2, 9), (4, 23), (1, 3), (3, 2)]:
        inputs = draw(batch, tokens), *others(batch, tokens)
        torch.testing.assert_close(traced(*inputs), model(*inputs), rtol=1e-6, atol=1e-6)


def test_a_trace_with_a_given_grid_refuses_other_lengths_and_names_the_sizes():
    model = Call(lambda: {"grid": (3, 4)}, landmarks=(2, 3)).eval()
    traced: Any = torch.jit.trace(model, draw(2, 12))
    torch.testing.assert_close(traced(draw(5, 12)), model(draw(5, 12)))
    for tokens in (6, 20, 24):
        with pytest.raises(
            RuntimeError, match=rf"'\[6, 4, 16\]' is invalid for input of size {2 * tokens * 16}"
        ):
            traced(draw(2, tokens))


def test_a_masked_sequence_runs_in_onnx_at_every_length(tmp_path):
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    arguments, options, _ = SEQUENCES["mask"]
    model = Call(arguments, **options).eval()
    sides = {0: Dim("batch", min=1, max=64), 1: Dim("length", min=5, max=4096)}
    shapes = {"x": sides, "others": (sides,)}
    program = torch.onnx.export(
        model, (draw(2, 24), holes(2, 24)), dynamo=True, dynamic_shapes=shapes, verbose=False
    )
    assert program is not None
    program.save(tmp_path / "masked.onnx")
    session = runtime.InferenceSession(tmp_path / "masked.onnx")
    names = [given.name for given in session.get_inputs()]
    for batch, tokens in [(2, 24), (4, 7), (5, 130)]:
        inputs = draw(batch, tokens), holes(batch, tokens)
        (actual,) = session.run(None, {n: x.numpy() for n, x in zip(names, inputs, strict=True)})
        torch.testing.assert_close(torch.from_numpy(actual), model(*inputs), rtol=1e-5, atol=1e-5)


def graphs_of(program) -> list[GraphModule]:
    return [module for module in program.graph_module.modules() if isinstance(module, GraphModule)]


@pytest.mark.parametrize("case", ["plain", "mask"])
def test_an_export_is_one_graph_of_steps_that_onnx_has(case):
    arguments, options, others = SEQUENCES[case]
    program = export(Call(arguments, **options).eval(), (draw(2, 24), *others(2, 24)))
    (graph,) = graphs_of(program)
    called = {str(node.target) for node in graph.graph.nodes}
    assert "aten.softmax.int" in called
    assert "aten.searchsorted.Tensor" not in called


def test_an_export_under_autocast_keeps_its_sums_wide():
    arguments, options, _ = SEQUENCES["plain"]
    model = Call(arguments, **options).eval()
    x = draw(2, 24)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        program = export(model, (x,))
        torch.testing.assert_close(program.module()(x), model(x), rtol=0, atol=0)
    assert len(graphs_of(program)) > 1


def test_the_layer_is_built_and_called_without_numbers():
    with FakeTensorMode():
        layer = InteractiveAttention(16, 2, landmarks=(4,), local_kernel=3, qk_norm=True)
        y = layer(torch.empty(2, 24, 16))
    assert isinstance(y, FakeTensor)
    assert y.shape == (2, 24, 16)
