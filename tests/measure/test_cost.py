"""The cost model against torch's FLOP counter, the parameters of real layers, and what autograd keeps."""

from collections.abc import Callable
from math import prod
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from crosshead import InteractiveAttention, interactive_attention, pool_landmarks
from crosshead.measure.cost import (
    Cost,
    cells_along,
    layer_cost,
    operator_cost,
    pooling_cost,
    softmax_attention_cost,
)
from crosshead.measure.flops import flop_counter
from crosshead.testing.inputs import MIXING_MODES, make_inputs

every_implementation = pytest.mark.parametrize("impl", ["reference", "streamed"])
every_mixing = pytest.mark.parametrize("mixing", MIXING_MODES)
SIZES: dict[str, Any] = {
    "batch": 2,
    "heads": 3,
    "queries": 50,
    "keys": 70,
    "landmarks": 8,
    "head_dim": 16,
    "value_dim": 12,
}


def multiply_adds(computation: Callable[[], object]) -> float:
    with flop_counter() as counter:
        computation()
    return counter.get_total_flops() / 2


def bytes_kept(computation: Callable[[], Tensor], *, besides: list[Tensor]) -> int:
    """Bytes of distinct memory that autograd keeps, less inputs, parameters and outputs."""
    kept: dict[int, Tensor] = {}

    def keep(x: Tensor) -> Tensor:
        kept[x.untyped_storage().data_ptr()] = x
        return x

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        output = computation()
    for x in (*besides, output):
        kept.pop(x.untyped_storage().data_ptr(), None)
    return sum(x.untyped_storage().nbytes() for x in kept.values())


@every_implementation
@every_mixing
def test_the_operator_takes_the_multiply_adds_that_torch_counts(impl, mixing):
    args, kwargs = make_inputs(mixing=mixing, **SIZES).arguments()
    counted = multiply_adds(lambda: interactive_attention(*args, **kwargs, impl=impl))
    assert operator_cost(mixing=mixing, impl=impl, **SIZES).multiply_adds == counted


@every_implementation
@pytest.mark.parametrize("group_size", [1, 2, 6])
def test_heads_that_talk_within_groups_take_fewer(impl, group_size):
    sizes: dict[str, Any] = SIZES | {"heads": 6}
    args, kwargs = make_inputs(group_size=group_size, **sizes).arguments()
    counted = multiply_adds(lambda: interactive_attention(*args, **kwargs, impl=impl))
    assert operator_cost(mixing_group_size=group_size, impl=impl, **sizes).multiply_adds == counted


@every_implementation
@every_mixing
def test_the_backward_pass_takes_twice_as_many(impl, mixing):
    inputs = make_inputs(mixing=mixing, **SIZES)
    args, kwargs = inputs.arguments()
    output = interactive_attention(*args, **kwargs, impl=impl)
    leaves = list(inputs.floating().values())
    counted = multiply_adds(lambda: torch.autograd.grad(output, leaves, torch.ones_like(output)))
    assert counted == 2 * operator_cost(mixing=mixing, impl=impl, **SIZES).multiply_adds


@pytest.mark.parametrize("mixing", ["none", "both"])
def test_self_attention_follows_the_published_formula(mixing):
    n, heads, landmarks, dim = 1000, 8, 49, 32
    mixings = 4 * n * landmarks * heads**2 if mixing == "both" else 0
    expected = 2 * n * landmarks * heads * dim + 2 * n * landmarks * heads * dim + mixings
    cost = operator_cost(queries=n, heads=heads, landmarks=landmarks, head_dim=dim, mixing=mixing)
    assert cost.multiply_adds == expected


@every_implementation
@every_mixing
@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "float16"])
def test_autograd_keeps_the_activations_that_the_model_says(impl, mixing, dtype):
    inputs = make_inputs(mixing=mixing, dtype=getattr(torch, dtype), **SIZES)
    args, kwargs = inputs.arguments()
    measured = bytes_kept(
        lambda: interactive_attention(*args, **kwargs, impl=impl), besides=list(inputs.floating().values())
    )
    matrices = (
        4 * len(inputs.floating()) * SIZES["heads"] ** 2 * 8
    )  # mixing matrices plus identity, and casts
    expected = operator_cost(mixing=mixing, impl=impl, dtype=dtype, **SIZES).activation_bytes
    assert expected <= measured <= expected + matrices


def test_activations_grow_with_tokens_in_the_reference_and_not_in_streamed():
    sizes: dict[str, Any] = {"heads": 8, "landmarks": 64, "head_dim": 64}
    growths: list[tuple[Any, float]] = [("reference", 4.0), ("streamed", 1.0)]
    for impl, growth in growths:
        short, long = (operator_cost(queries=n, impl=impl, **sizes).activation_bytes for n in (2**14, 2**16))
        assert long / short == pytest.approx(growth, rel=1e-2)


@every_mixing
@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
def test_bytes_moved_are_every_operand_once_and_the_output_once(mixing, dtype):
    inputs = make_inputs(mixing=mixing, dtype=getattr(torch, dtype), **SIZES)
    args, kwargs = inputs.arguments()
    output = interactive_attention(*args, **kwargs)
    moved = sum(x.nbytes for x in inputs.floating().values()) + output.nbytes
    assert operator_cost(mixing=mixing, dtype=dtype, **SIZES).bytes_moved == moved


@pytest.mark.parametrize(("grid", "landmarks"), [((50,), 7), ((9, 11), (2, 3)), ((4, 5, 6), (2, 9, 3))])
def test_pooling_takes_the_multiply_adds_that_torch_counts(grid, landmarks):
    x = torch.randn(2, prod(grid), 5)
    pooled = pool_landmarks(x, grid=grid, landmarks=landmarks)
    counted = multiply_adds(lambda: pool_landmarks(x, grid=grid, landmarks=landmarks))
    cost = pooling_cost(grid=grid, landmarks=landmarks, channels=5, batch=2)
    assert cost.multiply_adds == counted
    assert cost.bytes_moved == x.nbytes + pooled.nbytes


LAYERS: list[dict[str, Any]] = [
    {"landmarks": (3,), "grid": (40,)},
    {"landmarks": (2, 3), "grid": (7, 9)},
    {"landmarks": 4, "grid": (7, 3), "mixing": "weights"},
    {"landmarks": 4, "grid": (7, 3), "mixing_group_size": 1},
    {"landmarks": (2, 3), "grid": (7, 9), "local_kernel": 3, "num_prefix_tokens": 2},
    {"landmarks": (2, 3), "grid": (7, 9), "qk_norm": True, "mixing": "logits"},
    {"landmarks": (2, 3), "grid": (7, 9), "qkv_bias": False, "proj_bias": False, "mixing": "none"},
    {"landmarks": (2, 2, 2), "grid": (3, 4, 5), "local_kernel": 3},
    {"landmarks": (4, 4), "grid": (7, 9), "context_grid": (3, 11)},
    {"landmarks": (4,), "grid": (17,), "context_grid": (30,), "qk_norm": True, "num_prefix_tokens": 1},
]


@every_implementation
@pytest.mark.parametrize("sizes", LAYERS)
def test_a_layer_takes_the_multiply_adds_and_parameters_that_it_has(impl, sizes):
    options = {name: value for name, value in sizes.items() if not name.endswith("grid")}
    layer = InteractiveAttention(24, 3, impl=impl, **options)
    prefix = layer.num_prefix_tokens
    call: dict[str, Any] = {"grid": sizes["grid"]}
    if "context_grid" in sizes:
        call["context"] = torch.randn(2, prefix + prod(sizes["context_grid"]), 24)
        call["context_grid"] = sizes["context_grid"]
    x = torch.randn(2, prefix + prod(sizes["grid"]), 24)
    cost = layer_cost(dim=24, heads=3, batch=2, impl=impl, **sizes)
    assert cost.multiply_adds == multiply_adds(lambda: layer(x, **call))
    assert cost.parameters == sum(parameter.numel() for parameter in layer.parameters())


@every_implementation
def test_a_layer_keeps_the_activations_that_the_model_says(impl):
    layer = InteractiveAttention(24, 3, landmarks=(3, 3), impl=impl)
    x = torch.randn(2, 20 * 20, 24)
    kept = bytes_kept(lambda: layer(x, grid=(20, 20)), besides=[x, *layer.parameters()])
    expected = layer_cost(dim=24, heads=3, grid=(20, 20), landmarks=3, batch=2, impl=impl).activation_bytes
    assert kept == pytest.approx(expected, rel=0.02)  # pooled tokens and averaging matrices besides


def test_exact_attention_takes_the_multiply_adds_that_torch_counts():
    q, k, v = (torch.randn(2, 3, n, d) for n, d in ((50, 16), (70, 16), (70, 12)))
    counted = multiply_adds(lambda: (q @ k.mT).softmax(-1) @ v)
    sizes = {name: size for name, size in SIZES.items() if name != "landmarks"}
    exact = softmax_attention_cost(**sizes)
    assert exact.multiply_adds == counted
    assert exact.bytes_moved == sum(x.nbytes for x in (q, k, v, scaled_dot_product_attention(q, k, v)))
    mixed = softmax_attention_cost(talking_heads=True, **sizes)
    assert mixed.multiply_adds == counted + 2 * 2 * 3**2 * 50 * 70
    assert mixed.activation_bytes == 3 * 2 * 3 * 50 * 70 * 4


def test_costs_add_up_field_by_field():
    one = Cost(multiply_adds=1, bytes_moved=20, activation_bytes=300, parameters=4000)
    assert one + one == Cost(multiply_adds=2, bytes_moved=40, activation_bytes=600, parameters=8000)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"queries": 0}, ["queries", "0"]),
        ({"keys": -1}, ["keys", "-1"]),
        ({"landmarks": 0}, ["landmarks", "0"]),
        ({"heads": 0}, ["heads", "0"]),
        ({"mixing": "all"}, ["mixing", "all", "none", "both"]),
        ({"mixing_group_size": 2}, ["mixing_group_size", "heads=3", "2"]),
        ({"mixing_group_size": 0}, ["mixing_group_size", "heads=3", "0"]),
        ({"impl": "fused"}, ["impl", "fused", "reference", "streamed"]),
        ({"dtype": "int8"}, ["dtype", "int8", "float32"]),
    ],
)
def test_bad_sizes_are_named(changes, says):
    with pytest.raises(ValueError, match="must be") as caught:
        operator_cost(**SIZES | changes)
    for word in says:
        assert word in str(caught.value)


def test_sizes_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match=r"dim=10 and heads=3"):
        layer_cost(dim=10, heads=3, grid=(4, 4), landmarks=2)
    with pytest.raises(ValueError, match=r"landmarks .* got \(2,\) for \(4, 4\)"):
        cells_along((4, 4), (2,))
    with pytest.raises(ValueError, match=r"grid and landmarks .* got 0"):
        cells_along((4, 0), 2)
