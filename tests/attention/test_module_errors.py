"""What the layer refuses, in its constructor and at each call: argument, value, need and remedy."""

from typing import Any

import numpy as np
import pytest
import torch

from crosshead import InteractiveAttention
from crosshead.attention.grid import as_integer


@pytest.mark.parametrize(
    ("error", "options", "says"),
    [
        (ValueError, {"dim": 10, "num_heads": 3}, ["dim", "10", "num_heads", "3"]),
        (ValueError, {"num_heads": 0}, ["num_heads", "0"]),
        (ValueError, {"num_heads": -2}, ["num_heads", "-2"]),
        (ValueError, {"dim": 0}, ["dim", "0"]),
        (ValueError, {"landmarks": 0}, ["landmarks", "0"]),
        (ValueError, {"landmarks": -3}, ["landmarks", "-3"]),
        (ValueError, {"landmarks": (2, 0)}, ["landmarks", "(2, 0)"]),
        (ValueError, {"landmarks": ()}, ["landmarks", "()"]),
        (ValueError, {"landmarks": (1, 1, 1, 1)}, ["landmarks", "(1, 1, 1, 1)"]),
        (TypeError, {"landmarks": 2.5}, ["landmarks", "2.5", "integer"]),
        (ValueError, {"mixing": "all"}, ["mixing", "all", "none", "logits", "weights", "both"]),
        (ValueError, {"mixing_group_size": 3}, ["mixing_group_size", "num_heads=2", "3"]),
        (ValueError, {"mixing_group_size": 0}, ["mixing_group_size", "0"]),
        (TypeError, {"mixing_group_size": 2.0}, ["mixing_group_size", "2.0", "integer"]),
        (ValueError, {"num_prefix_tokens": -1}, ["num_prefix_tokens", "-1"]),
        (ValueError, {"local_kernel": 4}, ["local_kernel", "4", "odd"]),
        (ValueError, {"local_kernel": -3}, ["local_kernel", "-3"]),
        (ValueError, {"impl": "fast"}, ["impl", "fast", "reference", "streamed"]),
        (ValueError, {"num_heads": 16}, ["dim=8", "num_heads=16", "multiple"]),
        (TypeError, {"dim": 8.0}, ["dim", "8.0", "integer", "int()"]),
        (TypeError, {"num_heads": "2"}, ["num_heads", "'2'", "integer"]),
        (TypeError, {"num_heads": True}, ["num_heads", "True", "integer"]),
        (TypeError, {"landmarks": True}, ["landmarks", "True", "integer"]),
        (TypeError, {"landmarks": (True, 2)}, ["landmarks", "True", "integer"]),
        (TypeError, {"landmarks": (2.0, 2.0)}, ["landmarks", "2.0", "integer"]),
        (TypeError, {"landmarks": "7"}, ["landmarks", "'7'", "integer"]),
        (TypeError, {"landmarks": None}, ["landmarks", "None", "integer"]),
        (TypeError, {"num_prefix_tokens": 1.0}, ["num_prefix_tokens", "1.0", "integer"]),
        (TypeError, {"local_kernel": 3.0}, ["local_kernel", "3.0", "integer"]),
        (NotImplementedError, {"attn_drop": 0.1}, ["attn_drop", "0.1", "proj_drop"]),
    ],
)
def test_bad_constructor_arguments(error, options, says):
    with pytest.raises(error) as caught:
        InteractiveAttention(**{"dim": 8, "num_heads": 2, "landmarks": 2} | options)
    for word in says:
        assert word in str(caught.value)


X = torch.ones(2, 12, 8)
TRUE = torch.ones(2, 12, dtype=torch.bool)
NESTED = torch.nested.nested_tensor([X[0], X[1, :5]], layout=torch.jagged)


@pytest.mark.parametrize(
    ("error", "call", "says"),
    [
        (ValueError, {"grid": (3, 5)}, ["grid", "(3, 5)", "15", "12"]),
        (ValueError, {"grid": None}, ["grid"]),
        (ValueError, {"grid": (12,)}, ["(12,)", "landmarks", "(2, 2)"]),
        (ValueError, {"grid": (1, 3, 4)}, ["(1, 3, 4)", "landmarks", "(2, 2)"]),
        (TypeError, {"grid": 12}, ["grid", "12", "(n,)", "tuple"]),
        (TypeError, {"grid": (3.0, 4.0)}, ["axis of grid", "3.0", "integer"]),
        (TypeError, {"grid": (3, True)}, ["axis of grid", "True", "integer"]),
        (TypeError, {"grid": "34"}, ["grid", "'34'", "tuple"]),
        (TypeError, {"grid": torch.tensor([3, 4])}, ["grid", "tensor([3, 4])", "tuple"]),
        (ValueError, {"grid": (3, -4)}, ["grid", "(3, -4)", "positive"]),
        (ValueError, {"grid": (1, 1, 3, 4)}, ["grid", "(1, 1, 3, 4)", "one to three"]),
        (ValueError, {"grid": ()}, ["grid", "()", "one to three"]),
        (TypeError, {"x": NESTED}, ["x", "nested", "to_padded_tensor", "key_mask"]),
        (
            TypeError,
            {"context": NESTED, "context_grid": (12,)},
            ["context", "nested", "to_padded_tensor", "context_mask"],
        ),
        (TypeError, {"x": X.tolist()}, ["x", "list", "as_tensor"]),
        (TypeError, {"x": X.numpy()}, ["x", "ndarray", "as_tensor"]),
        (TypeError, {"x": X.long()}, ["x", "int64", "floating", "x.float()"]),
        (TypeError, {"context": None, "x": None}, ["x", "NoneType"]),
        (ValueError, {"x": X[0]}, ["x", "(12, 8)"]),
        (ValueError, {"x": X[None]}, ["x", "(1, 2, 12, 8)", "flatten(2).transpose(1, 2)"]),
        (ValueError, {"x": X[..., :7]}, ["x", "8", "(2, 12, 7)"]),
        (TypeError, {"key_mask": TRUE.float()}, ["key_mask", "float32", "key_mask.bool()", "key_mask == 0"]),
        (TypeError, {"key_mask": TRUE.tolist()}, ["key_mask", "list", "as_tensor"]),
        (TypeError, {"key_mask": TRUE.numpy()}, ["key_mask", "ndarray", "as_tensor"]),
        (ValueError, {"key_mask": TRUE[0]}, ["key_mask", "(2, 12)", "(12,)"]),
        (ValueError, {"key_mask": TRUE[:, :11]}, ["key_mask", "(2, 12)", "(2, 11)"]),
        (ValueError, {"key_mask": TRUE[:1]}, ["key_mask", "(2, 12)", "(1, 12)"]),
        (ValueError, {"context_grid": (3, 4)}, ["context_grid", "context"]),
        (ValueError, {"context_mask": TRUE}, ["context_mask", "context"]),
        (ValueError, {"context": X}, ["context_grid"]),
        (ValueError, {"context": X, "context_grid": (12,)}, ["context_grid", "(12,)", "(3, 4)"]),
        (ValueError, {"context": X, "context_grid": (3, 3)}, ["context_grid", "(3, 3)", "9", "12"]),
        (ValueError, {"context": X[:1], "context_grid": (3, 4)}, ["context", "2", "1"]),
        (ValueError, {"context": X[..., :4], "context_grid": (3, 4)}, ["context", "8", "4"]),
        (
            TypeError,
            {"context": X, "context_grid": (3, 4), "context_mask": TRUE.int()},
            ["context_mask", "int32"],
        ),
        (
            ValueError,
            {"context": X, "context_grid": (3, 4), "context_mask": TRUE[:, 1:]},
            ["context_mask", "11"],
        ),
        (TypeError, {"attn_mask": None}, ["unexpected", "attn_mask"]),
        (TypeError, {"is_causal": False}, ["unexpected", "is_causal"]),
    ],
)
def test_bad_calls(error, call, says):
    layer = InteractiveAttention(8, 2, landmarks=(2, 2))
    with pytest.raises(error) as caught:
        layer(**{"x": X, "grid": (3, 4)} | call)
    for word in says:
        assert word in str(caught.value)


def test_prefix_tokens_that_are_missing_from_the_input_or_the_context():
    layer = InteractiveAttention(8, 2, landmarks=(2, 2), num_prefix_tokens=1)
    with pytest.raises(ValueError, match=r"(?s)13.*12.*num_prefix_tokens"):
        layer(X, grid=(3, 4))
    with pytest.raises(ValueError, match=r"(?s)13.*context.*12.*num_prefix_tokens"):
        layer(torch.ones(2, 13, 8), grid=(3, 4), context=X, context_grid=(3, 4))


def test_a_local_term_needs_the_axes_it_was_built_for_and_no_context():
    layer = InteractiveAttention(8, 2, landmarks=2, local_kernel=3)
    with pytest.raises(ValueError, match=r"(?s)grid.*\(12,\)"):
        layer(X, grid=(12,))
    with pytest.raises(NotImplementedError, match=r"(?s)local_kernel.*context"):
        layer(X, grid=(3, 4), context=X, context_grid=(3, 4))


@pytest.mark.parametrize(
    "grid",
    [torch.Size((3, 4)), [3, 4], (np.int64(3), np.int32(4)), (torch.tensor(3), torch.tensor(4))],
    ids=["Size", "list", "numpy", "tensors"],
)
def test_a_grid_is_any_sequence_of_integers(grid):
    layer = InteractiveAttention(8, 2, landmarks=(2, 2), local_kernel=3)
    x = torch.rand(2, 12, 8)
    assert torch.equal(layer(x, grid=grid), layer(x, grid=(3, 4)))


def test_sizes_are_any_integers():
    sizes: dict[str, Any] = {"num_prefix_tokens": np.uint8(1), "local_kernel": np.int64(3)}
    layer = InteractiveAttention(*_integers(8, 2), landmarks=_integers(2)[0], **sizes)
    usual = InteractiveAttention(8, 2, landmarks=2, num_prefix_tokens=1, local_kernel=3)
    assert repr(layer) == repr(usual)
    usual.load_state_dict(layer.state_dict())
    x = torch.rand(2, 13, 8)
    assert torch.equal(layer(x, grid=(3, 4)), usual(x, grid=(3, 4)))
    assert InteractiveAttention(8, 2, landmarks=_integers(3)).landmarks == (3,)


def _integers(*values: int) -> list[Any]:
    return [np.int64(value) for value in values]


@pytest.mark.parametrize("value", [True, torch.tensor(2.0), torch.tensor([1, 2]), 2.0, "2", None])
def test_what_is_no_integer(value):
    with pytest.raises(TypeError, match=r"size must be an integer; got .*: convert it with int\(\)"):
        as_integer("size", value)
