"""The layer without masks: projections, landmarks on grids, prefix tokens, cross-attention, local term."""

import struct
from copy import deepcopy
from math import prod
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from crosshead import InteractiveAttention
from crosshead.attention import functional
from crosshead.testing.dense_layer import dense_layer
from crosshead.testing.inputs import MIXING_MODES

every_implementation = pytest.mark.parametrize("impl", ["reference", "streamed"])


def make_layer(dim: int = 8, heads: int = 2, *, seed: int = 0, **options) -> InteractiveAttention:
    """A float64 layer in which nothing is zero or one, as after training."""
    torch.manual_seed(seed)
    layer = InteractiveAttention(dim, heads, **options).double()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return layer


def tokens(grid, *, prefix: int = 0, batch: int = 2, dim: int = 8, seed: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, prefix + prod(grid), dim, generator=generator, dtype=torch.float64)


def assert_equal_to_dense_layer(layer: InteractiveAttention, x: torch.Tensor, **call) -> None:
    inputs = [x.requires_grad_()]
    if "context" in call:
        inputs.append(call["context"].requires_grad_())
    results = []
    for attend in (layer, lambda *args, **kwargs: dense_layer(layer, *args, **kwargs)):
        y = attend(x, **call)
        cotangent = torch.randn(y.shape, generator=torch.Generator().manual_seed(2), dtype=y.dtype)
        gradients = torch.autograd.grad(y, [*inputs, *layer.parameters()], cotangent, materialize_grads=True)
        results.append({"output": y, **dict(enumerate(gradients))})
    torch.testing.assert_close(*results, rtol=1e-9, atol=1e-10)


CASES = {
    "sequence": ({"landmarks": (3,)}, (10,)),
    "sequence with local term": ({"landmarks": (3,), "local_kernel": 5}, (10,)),
    "image": ({"landmarks": (2, 3)}, (5, 7)),
    "one number of landmarks": ({"landmarks": 2}, (5, 7)),
    "image with local term": ({"landmarks": (2, 3), "local_kernel": 3}, (5, 4)),
    "volume": ({"landmarks": (2, 1, 2)}, (3, 4, 3)),
    "volume with local term": ({"landmarks": (2, 1, 2), "local_kernel": 3}, (3, 2, 3)),
    "fewer tokens than landmarks": ({"landmarks": (4, 4)}, (2, 5)),
    "a single token": ({"landmarks": (7, 7)}, (1, 1)),
    "normalised": ({"landmarks": (2, 3), "qk_norm": True}, (5, 7)),
    "no bias": ({"landmarks": (2, 3), "qkv_bias": False, "proj_bias": False}, (5, 7)),
    "prefix": ({"landmarks": (2, 3), "num_prefix_tokens": 2}, (4, 5)),
    "prefix with local term": ({"landmarks": (3,), "num_prefix_tokens": 2, "local_kernel": 3}, (7,)),
    "everything": (
        {"landmarks": (2, 2), "num_prefix_tokens": 1, "local_kernel": 3, "qk_norm": True},
        (3, 4),
    ),
    "one head": ({"landmarks": (2, 3), "heads": 1}, (5, 7)),
    "many heads": ({"landmarks": (2, 3), "heads": 8}, (5, 4)),
}


@every_implementation
@pytest.mark.parametrize("case", CASES)
def test_output_and_gradients_equal_the_dense_layer(impl, case):
    options, grid = CASES[case]
    layer = make_layer(impl=impl, **options)
    assert_equal_to_dense_layer(layer, tokens(grid, prefix=layer.num_prefix_tokens), grid=grid)


@every_implementation
@pytest.mark.parametrize("mixing", MIXING_MODES)
def test_every_mixing_mode_equals_the_dense_layer(impl, mixing):
    layer = make_layer(dim=12, heads=3, landmarks=(2, 2), mixing=mixing, impl=impl)
    assert_equal_to_dense_layer(layer, tokens((4, 3), dim=12), grid=(4, 3))


@every_implementation
@pytest.mark.parametrize(
    ("options", "grid", "context_grid"),
    [
        ({"landmarks": (3,)}, (10,), (7,)),
        ({"landmarks": (2, 3)}, (5, 4), (3, 7)),
        ({"landmarks": (4, 4)}, (5, 2), (3, 7)),
        ({"landmarks": (2, 2, 2)}, (3, 2, 2), (1, 2, 4)),
        ({"landmarks": (3,)}, (1,), (9,)),
        ({"landmarks": (3,)}, (9,), (1,)),
        ({"landmarks": (2, 2), "qk_norm": True, "num_prefix_tokens": 2}, (3, 3), (4, 2)),
    ],
)
def test_cross_attention_equals_the_dense_layer(impl, options, grid, context_grid):
    layer = make_layer(impl=impl, **options)
    prefix = layer.num_prefix_tokens
    context = tokens(context_grid, prefix=prefix, seed=5)
    assert_equal_to_dense_layer(
        layer, tokens(grid, prefix=prefix), grid=grid, context=context, context_grid=context_grid
    )


@given(
    grid=st.lists(st.integers(1, 6), min_size=1, max_size=3),
    landmarks=st.lists(st.integers(1, 5), min_size=3, max_size=3),
    prefix=st.integers(0, 2),
    mixing=st.sampled_from(MIXING_MODES),
    qk_norm=st.booleans(),
    impl=st.sampled_from(["reference", "streamed"]),
)
@settings(max_examples=20, deadline=None)
def test_any_grid(grid, landmarks, prefix, mixing, qk_norm, impl):
    layer = make_layer(
        dim=4,
        landmarks=tuple(landmarks[: len(grid)]),
        num_prefix_tokens=prefix,
        mixing=mixing,
        qk_norm=qk_norm,
    )
    layer.impl = impl
    x = tokens(grid, prefix=prefix, batch=1, dim=4)
    torch.testing.assert_close(
        layer(x, grid=tuple(grid)), dense_layer(layer, x, grid=tuple(grid)), rtol=1e-9, atol=1e-10
    )


def test_context_that_is_the_input_itself_gives_self_attention():
    layer, x = make_layer(landmarks=(2, 3)), tokens((4, 5))
    crossed = layer(x, grid=(4, 5), context=x, context_grid=(4, 5))
    torch.testing.assert_close(crossed, layer(x, grid=(4, 5)), rtol=1e-12, atol=1e-12)


@every_implementation
def test_permuting_tokens_inside_a_cell_permutes_the_outputs(impl):
    layer, x = make_layer(landmarks=(2, 2), impl=impl), tokens((4, 6))
    order = torch.arange(24).reshape(4, 6)
    order[0, 0], order[1, 2] = (
        order[1, 2].clone(),
        order[0, 0].clone(),
    )  # both in the first cell of 2 x 3 tokens
    order[2:, 3:] = order[2:, 3:].flip(0, 1)
    order = order.flatten()
    expected = layer(x, grid=(4, 6))[:, order]
    torch.testing.assert_close(layer(x[:, order], grid=(4, 6)), expected, rtol=1e-12, atol=1e-12)
    across = torch.arange(24)
    across[[0, 23]] = across[[23, 0]]
    moved = layer(x[:, across], grid=(4, 6))
    assert not torch.allclose(moved, layer(x, grid=(4, 6))[:, across], rtol=1e-3)


def test_a_fresh_layer_is_plain_factored_attention():
    torch.manual_seed(0)
    layer = InteractiveAttention(8, 2, landmarks=2, mixing="both", local_kernel=3).double()
    plain = InteractiveAttention(8, 2, landmarks=2, mixing="none").double()
    plain.load_state_dict(
        {name: weight for name, weight in layer.state_dict().items() if name in plain.state_dict()}
    )
    x = tokens((4, 4))
    torch.testing.assert_close(layer(x, grid=(4, 4)), plain(x, grid=(4, 4)), rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("impl", ["reference", "streamed"])
@pytest.mark.parametrize("group_size", [1, 2, 3, 6])
def test_heads_that_talk_within_groups(impl, group_size):
    layer = InteractiveAttention(12, 6, landmarks=2, mixing_group_size=group_size, impl=impl).double()
    matrices = [*layer.query_mixing.parameters(), *layer.key_mixing.parameters()]
    whole = (6, 6) if group_size == 6 else (6 // group_size, group_size, group_size)
    assert {tuple(matrix.shape) for matrix in matrices} == {whole}
    for matrix in matrices:
        torch.nn.init.normal_(matrix)
    among_all = InteractiveAttention(12, 6, landmarks=2).double()
    state = layer.state_dict()
    among_all.load_state_dict({name: torch.block_diag(*x) if x.ndim == 3 else x for name, x in state.items()})
    x = torch.randn(2, 16, 12, dtype=torch.float64)
    torch.testing.assert_close(layer(x, grid=(4, 4)), among_all(x, grid=(4, 4)), rtol=1e-12, atol=1e-12)
    assert ("group" in repr(layer)) == (group_size < 6)


@pytest.mark.parametrize("mixing", MIXING_MODES)
def test_parameters_by_name_and_shape(mixing):
    layer = InteractiveAttention(12, 3, landmarks=2, mixing=mixing, qk_norm=True, local_kernel=3)
    shapes = {name: tuple(parameter.shape) for name, parameter in layer.named_parameters()}
    expected = {
        "qkv.weight": (36, 12),
        "qkv.bias": (36,),
        "q_norm.weight": (4,),
        "q_norm.bias": (4,),
        "k_norm.weight": (4,),
        "k_norm.bias": (4,),
        "proj.weight": (12, 12),
        "proj.bias": (12,),
    }
    for factor in ("query_mixing", "key_mixing"):
        expected |= {f"{factor}.{part}": (3, 3) for part in ("logits", "weights") if mixing in (part, "both")}
    assert {name: shape for name, shape in shapes.items() if not name.startswith("local")} == expected
    assert any(name.startswith("local") for name in shapes)
    for name, parameter in layer.named_parameters():
        if "mixing" in name:
            assert not parameter.any()


def test_every_parameter_gets_a_gradient_but_the_bias_of_the_keys_which_cancels():
    layer, x = make_layer(landmarks=2, qk_norm=True, local_kernel=3), tokens((4, 4))
    layer(x, grid=(4, 4)).square().sum().backward()
    for name, parameter in layer.named_parameters():
        assert parameter.grad is not None, name
        # What is added to every key adds a constant to each row of logits, and softmax does not see it.
        assert (parameter.grad.abs().max() > 1e-8) == (name != "k_norm.bias"), name


def test_dropout_after_the_projection_is_for_training_alone():
    layer, x = make_layer(landmarks=2, proj_drop=0.5), tokens((4, 4))
    assert (layer(x, grid=(4, 4)) == 0).float().mean() > 0.3
    layer.eval()
    assert (layer(x, grid=(4, 4)) != 0).all()


@every_implementation
def test_repeated_runs_are_bit_identical(impl):
    layer, x = make_layer(landmarks=(3, 5), local_kernel=3, impl=impl).float(), tokens((9, 11)).float()
    runs = []
    for _ in range(2):
        y = layer(x, grid=(9, 11))
        runs.append([y, *torch.autograd.grad(y.square().sum(), list(layer.parameters()))])
    for first, second in zip(*runs, strict=True):
        assert torch.equal(first, second)


@every_implementation
@pytest.mark.parametrize("qk_norm", [False, True])
def test_an_empty_batch(impl, qk_norm):
    layer = make_layer(landmarks=2, impl=impl, qk_norm=qk_norm, local_kernel=3)
    x = tokens((3, 4), batch=0).requires_grad_()
    y = layer(x, grid=(3, 4))
    assert y.shape == (0, 12, 8)
    (gradient,) = torch.autograd.grad(y.sum(), layer.qkv.weight)
    assert not gradient.any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_output_has_the_dtype_of_the_layer(dtype):
    layer = InteractiveAttention(8, 2, landmarks=2, dtype=dtype)
    assert {parameter.dtype for parameter in layer.parameters()} == {dtype}
    y = layer(tokens((4, 4)).to(dtype), grid=(4, 4))
    assert y.dtype == dtype
    (gradient,) = torch.autograd.grad(y.sum(), layer.qkv.weight)
    assert gradient.dtype == dtype


def test_it_can_be_built_and_run_on_the_meta_device():
    layer = InteractiveAttention(8, 2, landmarks=2, device="meta", local_kernel=3)
    assert {parameter.device.type for parameter in layer.parameters()} == {"meta"}
    assert layer(torch.empty(2, 12, 8, device="meta"), grid=(3, 4)).shape == (2, 12, 8)


def test_it_can_be_copied_and_its_state_loaded():
    layer, x = make_layer(landmarks=2, local_kernel=3), tokens((4, 4))
    other = make_layer(landmarks=2, local_kernel=3, seed=9)
    other.load_state_dict(layer.state_dict())
    for same in (deepcopy(layer), other):
        assert torch.equal(same(x, grid=(4, 4)), layer(x, grid=(4, 4)))


def test_the_grid_of_a_sequence_may_be_left_out():
    layer, x = make_layer(landmarks=(3,), num_prefix_tokens=1), tokens((10,), prefix=1)
    assert torch.equal(layer(x), layer(x, grid=(10,)))


def test_non_contiguous_and_expanded_tokens():
    layer, x = make_layer(landmarks=2), tokens((4, 4))
    assert_equal_to_dense_layer(layer, x.transpose(1, 2).contiguous().transpose(1, 2), grid=(4, 4))
    expanded = x[:1].expand(3, -1, -1)
    torch.testing.assert_close(layer(expanded, grid=(4, 4))[2], layer(x[:1], grid=(4, 4))[0])


def test_torchscript_is_refused_wherever_the_layer_stands():
    with pytest.raises(NotImplementedError, match=r"torch\.jit\.script cannot.*torch\.export"):
        torch.jit.script(torch.nn.Sequential(make_layer(landmarks=2)))


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore::FutureWarning")
def test_a_trace_holds_operators_that_others_know(monkeypatch):
    monkeypatch.setattr(functional, "STREAMED_FROM", 0)
    layer = torch.nn.Sequential(InteractiveAttention(8, 2, landmarks=(3,))).eval()
    traced: Any = torch.jit.trace(layer, torch.randn(5, 7, 8))
    found = {node.kind() for node in traced.inlined_graph.nodes()}
    assert "aten::softmax" in found
    assert "aten::mT" not in found  # torch.onnx does not know it
    assert not any(kind.startswith("crosshead::") for kind in found)


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_exporting_a_trace_to_onnx_leaves_the_batch_free(tmp_path):
    """What timm's `onnx_export.py` does. A fixed shape would stand in the file as 64-bit integers."""
    pytest.importorskip("onnx", reason="needs onnx, to which torch.onnx exports")
    layer = torch.nn.Sequential(InteractiveAttention(8, 2, landmarks=(3,))).eval()
    free = {"x": {0: "batch"}, "y": {0: "batch"}}
    options: Any = {"dynamo": False, "input_names": ["x"], "output_names": ["y"], "dynamic_axes": free}
    file = tmp_path / "layer.onnx"
    torch.onnx.export(layer, (torch.randn(5, 7, 8),), file, **options)
    for rows, columns in [(7, 3), (3, 7)]:
        assert struct.pack("<4q", 5, 2, rows, columns) not in file.read_bytes()
