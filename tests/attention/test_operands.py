"""What the operator refuses: each error names the argument, the value seen, the value needed, a remedy."""

import pytest
import torch

from crosshead import HeadMixing, attention_factors, interactive_attention
from crosshead.attention.impl.fused.cpu import build
from crosshead.testing.inputs import make_inputs


def call(impl: str = "reference", **changes):
    (query, key, value), kwargs = make_inputs(dtype=torch.float32).arguments()
    everything = {"query": query, "key": key, "value": value, **kwargs, "impl": impl} | changes
    return interactive_attention(**everything)


def ones(*shape: int, **options) -> torch.Tensor:
    return torch.ones(*shape, **options)


SQUARE = ones(3, 3)
NESTED = torch.nested.nested_tensor([ones(7, 3, 5), ones(4, 3, 5)], layout=torch.jagged).transpose(1, 2)
BAD_OPERANDS = [
    (ValueError, {"query": ones(3, 7, 5)}, ["query", "(3, 7, 5)", "batch", "heads"]),
    (ValueError, {"key": ones(1, 2, 3, 9, 5)}, ["key", "(1, 2, 3, 9, 5)"]),
    (ValueError, {"value": ones(18, 6)}, ["value", "(18, 6)"]),
    (ValueError, {"query_landmarks": ones(3, 4, 5)}, ["query_landmarks", "(3, 4, 5)"]),
    (ValueError, {"key_landmarks": ones(3, 4, 5)}, ["key_landmarks", "(3, 4, 5)"]),
    (ValueError, {"key": ones(1, 3, 9, 5), "value": ones(1, 3, 9, 6)}, ["key", "(2, 3)", "(1, 3)"]),
    (ValueError, {"key": ones(2, 4, 9, 5)}, ["key", "(2, 3)", "(2, 4)"]),
    (ValueError, {"value": ones(2, 1, 9, 6)}, ["value", "(2, 3)", "(2, 1)"]),
    (ValueError, {"query_landmarks": ones(2, 2, 4, 5)}, ["query_landmarks", "(2, 3)", "(2, 2)"]),
    (ValueError, {"key": ones(2, 3, 9, 4)}, ["key", "head dim", "5", "4"]),
    (ValueError, {"query_landmarks": ones(2, 3, 4, 6)}, ["query_landmarks", "head dim", "5", "6"]),
    (ValueError, {"key_landmarks": ones(2, 3, 4, 6)}, ["key_landmarks", "head dim", "5", "6"]),
    (ValueError, {"value": ones(2, 3, 8, 6)}, ["value", "key", "9", "8"]),
    (
        ValueError,
        {"query_landmarks": ones(2, 3, 3, 5)},
        ["query_landmarks", "key_landmarks", "3", "4", "pool"],
    ),
    (ValueError, {"query": ones(2, 3, 0, 5)}, ["query", "(2, 3, 0, 5)", "at least one"]),
    (
        ValueError,
        {"key": ones(2, 3, 0, 5), "value": ones(2, 3, 0, 6)},
        ["key", "(2, 3, 0, 5)", "at least one"],
    ),
    *(
        (TypeError, {name: NESTED}, [name, "nested", "to_padded_tensor", mask])
        for name, mask in (
            ("query", "query_mask"),
            ("key", "key_mask"),
            ("value", "key_mask"),
            ("query_landmarks", "landmark_mask"),
            ("key_landmarks", "landmark_mask"),
        )
    ),
    (TypeError, {"query": ones(2, 3, 7, 5, dtype=torch.int64)}, ["query", "int64", "floating"]),
    (TypeError, {"key": ones(2, 3, 9, 5).double()}, ["key", "float32", "float64", "convert"]),
    (TypeError, {"value": ones(2, 3, 9, 6).half()}, ["value", "float32", "float16", "convert"]),
    (TypeError, {"key_landmarks": ones(2, 3, 4, 5).bfloat16()}, ["key_landmarks", "float32", "bfloat16"]),
    (TypeError, {"key": ones(2, 3, 9, 5, device="meta")}, ["key", "cpu", "meta", "move"]),
    (TypeError, {"query_landmarks": ones(2, 3, 4, 5, device="meta")}, ["query_landmarks", "cpu", "meta"]),
]
BAD_MIXING = [
    (
        ValueError,
        {"query_mixing": HeadMixing(logits=ones(4, 4))},
        ["query_mixing", "logits", "(3, 3)", "(4, 4)"],
    ),
    (ValueError, {"key_mixing": HeadMixing(weights=ones(3))}, ["key_mixing", "weights", "(3, 3)", "(3,)"]),
    (ValueError, {"key_mixing": HeadMixing(logits=ones(2, 3, 3))}, ["key_mixing", "logits", "(2, 3, 3)"]),
    (ValueError, {"key_mixing": HeadMixing(logits=ones(1, 2, 2))}, ["key_mixing", "(heads / K, K, K)"]),
    (ValueError, {"key_mixing": HeadMixing(logits=ones(3, 1))}, ["key_mixing", "(3, 3)", "(3, 1)"]),
    (ValueError, {"key_mixing": HeadMixing(logits=ones(0, 0))}, ["key_mixing", "(3, 3)", "(0, 0)"]),
    (
        ValueError,
        {
            "query_mixing": HeadMixing(weights=ones(3, 3)),
            "key_mixing": HeadMixing(logits=ones(3, 1, 1)),
        },
        ["key_mixing", "logits", "groups of 3 heads", "got 1"],
    ),
    (TypeError, {"key_mixing": HeadMixing(logits=ones(3, 3, dtype=torch.int32))}, ["key_mixing", "int32"]),
    (
        TypeError,
        {"query_mixing": HeadMixing(weights=ones(3, 3, device="meta"))},
        ["query_mixing", "cpu", "meta"],
    ),
    (TypeError, {"query_mixing": SQUARE}, ["query_mixing", "HeadMixing", "Tensor"]),
]
BAD_MASKS = [
    (TypeError, {"key_mask": ones(2, 9)}, ["key_mask", "float32", "bool"]),
    (TypeError, {"query_mask": ones(2, 7, dtype=torch.uint8)}, ["query_mask", "uint8", "bool"]),
    (TypeError, {"landmark_mask": ones(2, 4).long()}, ["landmark_mask", "int64", "bool"]),
    (ValueError, {"key_mask": ones(2, 7).bool()}, ["key_mask", "(2, 9)", "(2, 7)"]),
    (ValueError, {"query_mask": ones(2, 9).bool()}, ["query_mask", "(2, 7)", "(2, 9)"]),
    (ValueError, {"landmark_mask": ones(2, 5).bool()}, ["landmark_mask", "(2, 4)", "(2, 5)"]),
    (ValueError, {"key_mask": ones(9).bool()}, ["key_mask", "(2, 9)", "(9,)"]),
    (ValueError, {"key_mask": ones(2, 1, 7, 9).bool()}, ["key_mask", "(2, 9)", "(2, 1, 7, 9)"]),
    (TypeError, {"key_mask": ones(2, 9, device="meta").bool()}, ["key_mask", "cpu", "meta"]),
]


@pytest.mark.parametrize("impl", ["reference", "streamed", "auto", "fused"])
@pytest.mark.parametrize(("error", "changes", "says"), BAD_OPERANDS + BAD_MIXING + BAD_MASKS)
def test_operands_that_do_not_belong_together(impl, error, changes, says):
    with pytest.raises(error) as caught:
        call(impl, **changes)
    for word in says:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("error", "changes", "says"),
    [case for case in BAD_OPERANDS + BAD_MIXING + BAD_MASKS if "value" not in case[1]],
)
def test_attention_factors_refuses_the_same(error, changes, says):
    (query, key, _), kwargs = make_inputs(dtype=torch.float32).arguments()
    with pytest.raises(error) as caught:
        attention_factors(**{"query": query, "key": key, **kwargs} | changes)
    for word in says:
        assert word in str(caught.value)


@pytest.mark.parametrize("name", ["attn_mask", "is_causal"])
def test_there_is_no_argument_for_what_has_no_linear_time_meaning(name):
    with pytest.raises(TypeError, match=f"unexpected keyword argument '{name}'"):
        call("auto", **{name: None})


def test_an_unknown_implementation_is_refused_with_those_that_exist():
    with pytest.raises(ValueError, match=r"impl.*auto.*reference.*streamed.*fused.*fast"):
        call("fast")


def test_an_explicit_implementation_never_falls_back(monkeypatch):
    monkeypatch.setattr(build, "_missing", None)  # as if the kernel of the CPU were ready
    (query, key, value), kwargs = make_inputs(dtype=torch.float64).arguments()
    with pytest.raises(NotImplementedError) as caught:
        interactive_attention(query, key, value, **kwargs, impl="fused")
    for word in ("impl='fused'", "float64", "float32", "bfloat16", "'auto'", "'streamed'", "'reference'"):
        assert word in str(caught.value)
