"""What interactive attention is: each fact, for every implementation, against the dense oracle."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import scaled_dot_product_attention as sdpa

from crosshead import HeadMixing, attention_factors, interactive_attention
from crosshead.attention import functional
from crosshead.testing.inputs import LAYOUTS, MIXING_MODES, make_inputs, output_and_gradients
from crosshead.testing.oracle import dense_attention, dense_factor

IMPLEMENTATIONS = ("reference", "streamed")
every_implementation = pytest.mark.parametrize("impl", IMPLEMENTATIONS)
every_mixing = pytest.mark.parametrize("mixing", MIXING_MODES)


def assert_equal_to_oracle(inputs, impl: str, **options) -> None:
    expected = output_and_gradients(dense_attention, inputs, **options)
    actual = output_and_gradients(interactive_attention, inputs, impl=impl, **options)
    torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-11)


@every_implementation
@every_mixing
def test_output_and_every_gradient_equal_the_dense_oracle(impl, mixing):
    inputs = make_inputs(mixing=mixing)
    assert len(inputs.floating()) == {"none": 5, "logits": 7, "weights": 7, "both": 9}[mixing]
    assert_equal_to_oracle(inputs, impl)


@every_implementation
@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_memory_layout(impl, layout):
    inputs = make_inputs(layout=layout)
    assert inputs.query.is_contiguous() == (layout == "contiguous")
    assert_equal_to_oracle(inputs, impl)


@every_implementation
@pytest.mark.parametrize(
    "sides", [{"queries": 1}, {"keys": 1}, {"landmarks": 1}, {"heads": 1}, {"head_dim": 1}]
)
def test_sides_of_length_one(impl, sides):
    assert_equal_to_oracle(make_inputs(**sides), impl)


@every_implementation
@pytest.mark.parametrize("given_masks", [(), ("key_mask", "query_mask", "landmark_mask")])
def test_an_empty_batch_passes_through_forward_and_backward(impl, given_masks):
    inputs = make_inputs(batch=0, masks=given_masks)
    result = output_and_gradients(interactive_attention, inputs, impl=impl)
    assert result["output"].shape == (0, 3, 7, 6)
    assert result["grad query"].shape == inputs.query.shape
    assert not result["grad key_weights"].any()


@every_implementation
@pytest.mark.parametrize("missing", ["query_logits", "query_weights", "key_logits", "key_weights"])
def test_each_mixing_matrix_may_be_missing_on_its_own(impl, missing):
    assert_equal_to_oracle(replace(make_inputs(), **{missing: None}), impl)


@every_implementation
@every_mixing
@pytest.mark.parametrize(("heads", "group_size"), [(6, 2), (6, 3), (4, 1)])
def test_heads_that_talk_within_groups_equal_a_matrix_with_blocks_on_its_diagonal(
    impl, mixing, heads, group_size
):
    inputs = make_inputs(
        heads=heads, group_size=group_size, mixing=mixing, masks=["key_mask", "landmark_mask"]
    )
    matrices = [x for name, x in inputs.floating().items() if x.ndim == 3]
    assert len(matrices) == {"none": 0, "logits": 2, "weights": 2, "both": 4}[mixing]
    assert {tuple(x.shape) for x in matrices} <= {(heads // group_size, group_size, group_size)}
    assert_equal_to_oracle(inputs, impl)


@every_implementation
def test_groups_do_not_influence_each_other(impl):
    inputs = make_inputs(heads=6, group_size=3)
    found = output_and_gradients(interactive_attention, inputs, impl=impl)["output"]
    alone = {
        name: (x[1:] if x.ndim == 3 else x[:, 3:]).detach().requires_grad_()
        for name, x in inputs.floating().items()
    }
    alone |= {name: x[0] for name, x in alone.items() if x.ndim == 3}
    expected = interactive_attention(
        *(given := replace(inputs, **alone).arguments())[0], **given[1], impl=impl
    )
    torch.testing.assert_close(found[:, 3:], expected, rtol=1e-12, atol=1e-12)


@every_implementation
@given(
    batch=st.integers(1, 3),
    heads=st.integers(1, 4),
    queries=st.integers(1, 20),
    keys=st.integers(1, 20),
    landmarks=st.integers(1, 6),
    head_dim=st.integers(1, 5),
    value_dim=st.integers(1, 5),
    mixing=st.sampled_from(MIXING_MODES),
    masks=st.sets(st.sampled_from(["query_mask", "key_mask", "landmark_mask"])),
    layout=st.sampled_from(LAYOUTS),
    seed=st.integers(0, 2**16),
)
@settings(max_examples=40, deadline=None)
def test_any_shape(impl, masks, **shape):
    assert_equal_to_oracle(make_inputs(masks=sorted(masks), **shape), impl)


@every_implementation
def test_the_scale_is_one_over_the_root_of_the_head_dim_unless_given(impl):
    args, kwargs = make_inputs(head_dim=4).arguments()
    default = interactive_attention(*args, **kwargs, impl=impl)
    assert torch.equal(default, interactive_attention(*args, **kwargs, impl=impl, scale=0.5))
    other = interactive_attention(*args, **kwargs, impl=impl, scale=0.7)
    torch.testing.assert_close(other, dense_attention(*args, **kwargs, scale=0.7), rtol=1e-10, atol=1e-11)
    assert not torch.allclose(default, other)


@every_implementation
def test_without_mixing_it_is_two_softmax_attentions_in_a_row(impl):
    (q, k, v), kwargs = make_inputs(mixing="none").arguments()
    summary = sdpa(kwargs["query_landmarks"], k, v)
    expected = sdpa(q, kwargs["key_landmarks"], summary)
    actual = interactive_attention(q, k, v, **kwargs, impl=impl)
    torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-11)


@every_implementation
def test_zero_residual_matrices_change_nothing(impl):
    (q, k, v), kwargs = make_inputs(mixing="none").arguments()
    zeros = HeadMixing(logits=torch.zeros(3, 3).double(), weights=torch.zeros(3, 3).double())
    plain = interactive_attention(q, k, v, **kwargs, impl=impl)
    kwargs |= {"query_mixing": zeros, "key_mixing": zeros}
    torch.testing.assert_close(
        interactive_attention(q, k, v, **kwargs, impl=impl), plain, rtol=1e-14, atol=1e-14
    )


@pytest.mark.parametrize("mixing", ["none", "logits"])
@pytest.mark.parametrize("masks", [(), ("key_mask", "landmark_mask")])
def test_rows_of_the_map_sum_to_one_unless_weights_are_mixed(mixing, masks):
    inputs = make_inputs(mixing=mixing, masks=masks)
    (q, k, v), kwargs = inputs.arguments()
    factors = attention_factors(q, k, **kwargs)
    rows = (factors.query @ factors.key).sum(dim=-1)
    torch.testing.assert_close(rows, torch.ones_like(rows), rtol=1e-12, atol=1e-12)
    for impl in IMPLEMENTATIONS:
        ones = interactive_attention(q, k, torch.ones_like(v), **kwargs, impl=impl)
        torch.testing.assert_close(ones, torch.ones_like(ones), rtol=1e-12, atol=1e-12)


@every_mixing
def test_the_factors_are_the_two_that_the_oracle_multiplies(mixing):
    (q, k, v), kwargs = make_inputs(mixing=mixing).arguments()
    factors = attention_factors(q, k, **kwargs)
    assert factors.query.shape == (2, 3, 7, 4)
    assert factors.key.shape == (2, 3, 4, 9)
    for b in range(2):
        query_factor = dense_factor(
            q[b], kwargs["key_landmarks"][b], scale=5**-0.5, mixing=kwargs["query_mixing"]
        )
        key_factor = dense_factor(
            kwargs["query_landmarks"][b], k[b], scale=5**-0.5, mixing=kwargs["key_mixing"]
        )
        torch.testing.assert_close(factors.query[b], query_factor, rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(factors.key[b], key_factor, rtol=1e-10, atol=1e-12)
    product = factors.query @ (factors.key @ v)
    torch.testing.assert_close(product, dense_attention(q, k, v, **kwargs), rtol=1e-10, atol=1e-11)


def test_factors_of_masked_tokens_and_landmarks_are_zero():
    inputs = make_inputs(masks=("query_mask", "key_mask", "landmark_mask"))
    (q, k, _), kwargs = inputs.arguments()
    factors = attention_factors(q, k, **kwargs)
    masks = {name: kwargs[name] for name in ("query_mask", "key_mask", "landmark_mask")}
    assert all(not mask.all() for mask in masks.values())
    rows, columns, cells = (~mask for mask in masks.values())
    assert not factors.query.transpose(1, 2)[rows].any()
    assert not factors.query.permute(0, 3, 1, 2)[cells].any()
    assert not factors.key.transpose(1, 2)[cells].any()
    assert not factors.key.permute(0, 3, 1, 2)[columns].any()
    assert factors.query.any()
    assert factors.key.any()


@every_implementation
@every_mixing
def test_permuting_heads_commutes_with_conjugating_the_mixing(impl, mixing):
    inputs = make_inputs(mixing=mixing, heads=4)
    order = torch.tensor([2, 0, 3, 1])
    moved = {
        name: x[order][:, order] if x.ndim == 2 else x[:, order] for name, x in inputs.floating().items()
    }
    args, kwargs = inputs.arguments()
    there = interactive_attention(*args, **kwargs, impl=impl)[:, order]
    moved_args, moved_kwargs = replace(inputs, **moved).arguments()
    back = interactive_attention(*moved_args, **moved_kwargs, impl=impl)
    torch.testing.assert_close(back, there, rtol=1e-12, atol=1e-12)
    if mixing != "none":
        _, unmoved = inputs.arguments()
        moved_kwargs |= {name: unmoved[name] for name in ("query_mixing", "key_mixing")}
        wrong = interactive_attention(*moved_args, **moved_kwargs, impl=impl)
        assert not torch.allclose(wrong, there, rtol=1e-3)


@every_implementation
def test_permuting_keys_changes_nothing_and_permuting_queries_permutes_the_output(impl):
    (q, k, v), kwargs = make_inputs().arguments()
    expected = interactive_attention(q, k, v, **kwargs, impl=impl)
    rows, columns = (torch.randperm(n, generator=torch.Generator().manual_seed(3)) for n in (7, 9))
    actual = interactive_attention(q[:, :, rows], k[:, :, columns], v[:, :, columns], **kwargs, impl=impl)
    torch.testing.assert_close(actual, expected[:, :, rows], rtol=1e-12, atol=1e-12)


@every_implementation
@pytest.mark.parametrize("masks", [(), ("query_mask", "key_mask", "landmark_mask")])
@pytest.mark.parametrize("foreign", [1e3, float("nan"), float("inf")])
def test_samples_of_a_batch_never_influence_each_other(impl, masks, foreign):
    inputs = make_inputs(batch=3, masks=masks, queries=33, keys=41)
    poisoned = {}
    for name, x in inputs.floating().items():
        if x.ndim == 4:
            y = x.detach().clone()
            y[1] = foreign
            poisoned[name] = y.requires_grad_()
    clean, dirty = (
        output_and_gradients(interactive_attention, some, impl=impl)
        for some in (inputs, replace(inputs, **poisoned))
    )
    for name in (
        "output",
        "grad query",
        "grad key",
        "grad value",
        "grad query_landmarks",
        "grad key_landmarks",
    ):
        for sample in (0, 2):
            assert torch.equal(clean[name][sample], dirty[name][sample]), name


@every_implementation
def test_a_sample_alone_gives_what_it_gives_in_a_batch(impl):
    inputs = make_inputs(batch=3, masks=("query_mask", "key_mask", "landmark_mask"))
    args, kwargs = inputs.arguments()
    together = interactive_attention(*args, **kwargs, impl=impl)
    for b in range(3):
        alone = {name: x[b : b + 1] for name, x in kwargs.items() if isinstance(x, torch.Tensor)} | {
            name: kwargs[name] for name in ("query_mixing", "key_mixing")
        }
        sample = interactive_attention(*(x[b : b + 1] for x in args), **alone, impl=impl)
        torch.testing.assert_close(sample[0], together[b], rtol=1e-13, atol=1e-13)


@every_implementation
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_repeated_runs_are_bit_identical(impl, dtype):
    inputs = make_inputs(queries=700, keys=900, landmarks=16, dtype=dtype, masks=("key_mask",))
    first, second = (output_and_gradients(interactive_attention, inputs, impl=impl) for _ in range(2))
    for name in first:
        assert torch.equal(first[name], second[name]), name


@every_implementation
@every_mixing
@pytest.mark.parametrize("masks", [(), ("query_mask", "key_mask", "landmark_mask")])
def test_gradcheck(impl, mixing, masks):
    inputs = make_inputs(
        batch=2, heads=2, queries=3, keys=4, landmarks=2, head_dim=2, value_dim=2, mixing=mixing, masks=masks
    )
    names = list(inputs.floating())

    def attention(*tensors):
        args, kwargs = replace(inputs, **dict(zip(names, tensors, strict=True))).arguments()
        return interactive_attention(*args, **kwargs, impl=impl)

    assert torch.autograd.gradcheck(attention, list(inputs.floating().values()))


def test_the_reference_is_differentiable_twice():
    inputs = make_inputs(batch=1, heads=2, queries=3, keys=3, landmarks=2, head_dim=2, value_dim=1)
    names = list(inputs.floating())

    def attention(*tensors):
        args, kwargs = replace(inputs, **dict(zip(names, tensors, strict=True))).arguments()
        return interactive_attention(*args, **kwargs, impl="reference")

    assert torch.autograd.gradgradcheck(attention, list(inputs.floating().values()))


@every_implementation
@pytest.mark.parametrize(
    "wanted", ["query", "key", "value", "query_landmarks", "key_landmarks", "key_weights"]
)
def test_gradients_may_be_asked_for_one_input_alone(impl, wanted):
    inputs = make_inputs()
    everything = output_and_gradients(interactive_attention, inputs, impl=impl)
    frozen = {name: x.detach() for name, x in inputs.floating().items() if name != wanted}
    alone = output_and_gradients(interactive_attention, replace(inputs, **frozen), impl=impl)
    assert list(alone) == ["output", f"grad {wanted}"]
    torch.testing.assert_close(alone[f"grad {wanted}"], everything[f"grad {wanted}"], rtol=1e-13, atol=1e-13)


def test_it_does_not_tend_to_softmax_attention_as_landmarks_grow():
    (q, k, v), _ = make_inputs(queries=8, keys=8, mixing="none").arguments()
    all_landmarks = interactive_attention(q, k, v, query_landmarks=q, key_landmarks=k)
    assert (all_landmarks - sdpa(q, k, v)).abs().max() > 0.1


@every_mixing
def test_auto_takes_the_reference_below_the_documented_size_and_streams_above(mixing, monkeypatch):
    args, kwargs = make_inputs(mixing=mixing, queries=40, keys=40).arguments()
    by_name = {impl: interactive_attention(*args, **kwargs, impl=impl) for impl in IMPLEMENTATIONS}
    elements = 2 * 3 * 4 * (40 + 40)
    assert elements < functional.STREAMED_FROM
    graph = interactive_attention(*args, **kwargs).grad_fn
    assert torch.equal(interactive_attention(*args, **kwargs), by_name["reference"])
    assert "streamed" not in type(graph).__name__.lower()
    monkeypatch.setattr(functional, "STREAMED_FROM", elements)
    assert torch.equal(interactive_attention(*args, **kwargs), by_name["streamed"])
    assert "streamed" in type(interactive_attention(*args, **kwargs).grad_fn).__name__.lower()
    monkeypatch.setattr(functional, "STREAMED_FROM", elements + 1)
    assert "streamed" not in type(interactive_attention(*args, **kwargs).grad_fn).__name__.lower()
