"""The CPU's kernel: the dense result with every gradient inside the error budget, whatever the tiles meet."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import combinations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from crosshead import interactive_attention
from crosshead.attention.impl.fused.cpu import build
from crosshead.testing.inputs import (
    MASK_NAMES,
    MIXING_MODES,
    OperatorInputs,
    make_inputs,
    output_and_gradients,
)
from crosshead.testing.kernel import assert_kernel_right, draw_inputs
from crosshead.testing.oracle import dense_attention

pytestmark = pytest.mark.skipif(
    build.missing() is not None, reason=f"the CPU kernel is not ready: {build.missing()}"
)

attend = partial(interactive_attention, impl="fused")
every_precision = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
MATRICES = ("query_logits", "query_weights", "key_logits", "key_weights")
OPERANDS = ("query", "key", "value", "query_landmarks", "key_landmarks")
assert_right = partial(assert_kernel_right, attention=attend)


def leaves(inputs: OperatorInputs, **changes: Tensor) -> OperatorInputs:
    """The inputs with other operands, which ask for a gradient."""
    return replace(inputs, **{name: x.detach().requires_grad_() for name, x in changes.items()})


def assert_equal(first: dict[str, Tensor], second: dict[str, Tensor]) -> None:
    torch.testing.assert_close(first, second, rtol=0, atol=0)


@every_precision
@pytest.mark.parametrize("count", range(5))
def test_each_choice_of_mixing_matrices(dtype, count):
    for present in combinations(MATRICES, count):
        absent = dict.fromkeys(set(MATRICES) - set(present))
        draws = draw_inputs(heads=4, queries=30, keys=37, landmarks=8, head_dim=16, dtype=dtype, draws=4)
        assert_right([replace(inputs, **absent) for inputs in draws])


@every_precision
@pytest.mark.parametrize("heads", [1, 2, 3, 8, 9, 12, 17, 24])
def test_any_number_of_heads(heads, dtype):
    assert_right(draw_inputs(batch=1, heads=heads, queries=19, keys=35, dtype=dtype, draws=4))


@every_precision
@pytest.mark.parametrize(("heads", "group_size"), [(8, 4), (12, 3), (6, 1), (24, 12), (32, 8), (10, 5)])
@pytest.mark.parametrize("layout", ["contiguous", "strided"])
def test_heads_that_talk_within_groups(heads, group_size, layout, dtype):
    sizes = {"heads": heads, "group_size": group_size, "queries": 37, "keys": 51, "layout": layout}
    assert_right(draw_inputs(**sizes, masks=MASK_NAMES, dtype=dtype, draws=4))


@every_precision
@pytest.mark.parametrize("group_size", [4, 8])
def test_groups_in_several_tiles_and_parts(group_size, dtype):
    assert_right(draw_inputs(batch=1, heads=16, group_size=group_size, queries=530, keys=1100, dtype=dtype))


@every_precision
@pytest.mark.parametrize("landmarks", [1, 4, 17, 49, 64])
@pytest.mark.parametrize("masks", [(), MASK_NAMES], ids=["whole", "masked"])
def test_any_number_of_landmarks(landmarks, masks, dtype):
    assert_right(draw_inputs(landmarks=landmarks, queries=20, keys=33, masks=masks, dtype=dtype))


@every_precision
@pytest.mark.parametrize(
    ("head_dim", "value_dim"),
    [(1, 1), (1, 6), (5, 1), (2, 3), (16, 16), (33, 7), (8, 33), (64, 63), (65, 64)],
)
def test_any_number_of_channels(head_dim, value_dim, dtype):
    sizes = {"queries": 18, "keys": 21, "head_dim": head_dim, "value_dim": value_dim}
    assert_right(draw_inputs(**sizes, dtype=dtype, draws=4))


@every_precision
@pytest.mark.parametrize("masks", [(), MASK_NAMES], ids=["whole", "masked"])
@pytest.mark.parametrize(
    ("queries", "keys"),
    [(1, 1), (1, 16), (16, 1), (15, 17), (31, 32), (32, 33), (33, 31), (63, 65), (257, 255), (300, 129)],
)
def test_lengths_around_the_borders_of_blocks_and_tiles(queries, keys, masks, dtype):
    # The fewer numbers there are, the more often plain arithmetic is right by luck.
    draws = 8 if queries * keys < 100 else 2
    assert_right(draw_inputs(queries=queries, keys=keys, masks=masks, dtype=dtype, draws=draws))


@every_precision
@pytest.mark.parametrize("masks", [(), MASK_NAMES], ids=["whole", "masked"])
@pytest.mark.parametrize(
    ("heads", "landmarks", "queries", "keys"), [(3, 4, 700, 1100), (8, 49, 333, 230), (24, 17, 90, 161)]
)
def test_several_tiles(heads, landmarks, queries, keys, masks, dtype):
    sizes = {"heads": heads, "landmarks": landmarks, "queries": queries, "keys": keys}
    assert_right(draw_inputs(**sizes, masks=masks, dtype=dtype, draws=1))


@every_precision
@pytest.mark.parametrize(
    "masks", [names for n in (1, 2) for names in combinations(MASK_NAMES, n)], ids="+".join
)
def test_masks_alone_and_together(masks, dtype):
    assert_right(draw_inputs(batch=3, queries=40, keys=50, masks=masks, dtype=dtype))


@every_precision
@pytest.mark.parametrize("nothing", [*((name,) for name in MASK_NAMES), MASK_NAMES], ids="+".join)
def test_a_sample_with_everything_masked_is_zero_and_leaves_the_others_alone(nothing, dtype):
    draws = draw_inputs(batch=3, queries=40, keys=50, masks=MASK_NAMES, dtype=dtype)
    for inputs in draws:
        for name in nothing:
            getattr(inputs, name)[1] = False
    assert_right(draws)
    result = output_and_gradients(attend, draws[0])
    for name, x in result.items():
        assert x.isfinite().all(), name
        if x.ndim == 4:
            assert not x[1].any(), name


@every_precision
@pytest.mark.parametrize("hidden", [slice(0, 256), slice(256, 512), slice(300, 700), slice(1, 699)])
def test_tiles_in_which_every_key_is_masked(hidden, dtype):
    draws = [make_inputs(keys=700, masks=("key_mask",), dtype=dtype, seed=seed) for seed in range(4)]
    for inputs in draws:
        assert inputs.key_mask is not None
        inputs.key_mask[:] = True
        inputs.key_mask[0, hidden] = False
    assert_right(draws)


def with_exact_logits(inputs: OperatorInputs, **loud: Tensor) -> OperatorInputs:
    """Operands of few bits, some of them times powers of two: no order of summation rounds a logit.

    Rounded logits in the hundreds would be wrong in the fifth digit of every weight, in plain arithmetic too.
    """
    few_bits = {name: (8 * x).round() / 8 for name, x in inputs.floating().items() if name != "value"}
    return leaves(inputs, **few_bits | {name: few_bits[name] * by for name, by in loud.items()})


def along_keys(inputs: OperatorInputs, logits: Tensor) -> OperatorInputs:
    """The inputs with these logits, but for small ones on top, in every row: (M,)."""
    axis = torch.tensor([1.0, 0.0, 0.0, 0.0])  # of four channels: the scale is 1 / 2
    rows = axis + inputs.query_landmarks * (1 - axis)
    steep = 2 * logits.round()[:, None] * axis + inputs.key * (1 - axis)
    return with_exact_logits(leaves(inputs, key=steep, query_landmarks=rows))


STEEP = {
    "rising": torch.linspace(-300, 300, 700),
    "falling": torch.linspace(300, -300, 700),
    "rising within a tile": torch.linspace(0, 90, 700) % 30 * 10,
    "far below zero": torch.full((700,), -500.0),
    "far above zero": torch.full((700,), 500.0),
    "one key dominates": 200.0 * (torch.arange(700) == 650),
    "one key is nothing": -200.0 * (torch.arange(700) == 0),
    "all equal": torch.zeros(700),
}


@pytest.mark.parametrize("mixing", ["none", "both"])
@pytest.mark.parametrize("shape", STEEP)
def test_rows_whose_largest_logit_moves_along_the_tokens(shape, mixing):
    draws = draw_inputs(keys=700, head_dim=4, mixing=mixing, dtype=torch.float32)
    assert_right([along_keys(inputs, STEEP[shape]) for inputs in draws])


@every_precision
@pytest.mark.parametrize("mixing", MIXING_MODES)
def test_tiles_whose_logits_differ_by_orders_of_magnitude(mixing, dtype):
    loud = torch.ones(700, 1, dtype=dtype).index_fill(0, torch.arange(300, 310), 256.0)
    draws = draw_inputs(queries=40, keys=700, head_dim=4, mixing=mixing, dtype=dtype)
    assert_right([with_exact_logits(inputs, key=loud) for inputs in draws])


@every_precision
def test_queries_whose_logits_differ_by_orders_of_magnitude(dtype):
    loud = 2.0 ** (torch.arange(40, dtype=dtype)[:, None] % 12 - 3)
    draws = draw_inputs(queries=40, keys=50, head_dim=4, dtype=dtype)
    assert_right([with_exact_logits(inputs, query=loud) for inputs in draws])


@every_precision
@pytest.mark.parametrize("scale", [0.0, -0.7, 1.9])
def test_any_scale(scale, dtype):
    assert_right(draw_inputs(queries=20, keys=40, dtype=dtype), scale=scale)


@every_precision
@pytest.mark.parametrize("batch", [1, 3, 5])
def test_any_number_of_samples(batch, dtype):
    assert_right(draw_inputs(batch=batch, queries=20, keys=40, masks=MASK_NAMES, dtype=dtype))


def in_nan(x: Tensor, *, left: int, right: int) -> Tensor:
    """A slice of a larger tensor of NaN: before, between and after the rows."""
    batch, heads, tokens, channels = x.shape
    room = x.new_full((batch, heads, tokens + 2, left + channels + right), float("nan"))
    room[:, :, 1:-1, left : left + channels] = x
    return room[:, :, 1:-1, left : left + channels]


LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "as a fused projection": lambda x: x.transpose(1, 2).contiguous().transpose(1, 2),
    "channels apart": lambda x: x.mT.contiguous().mT,
    "every second channel": lambda x: x.repeat_interleave(2, -1)[..., ::2],
    "in NaN, even rows": partial(in_nan, left=2, right=4),
    "in NaN, odd rows": partial(in_nan, left=0, right=1),
    "in NaN, off by one": partial(in_nan, left=1, right=2),
    "in NaN, far": partial(in_nan, left=33, right=64),
}


@every_precision
@pytest.mark.parametrize(("head_dim", "value_dim"), [(5, 6), (8, 16)])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_operands_and_gradients_wherever_they_lie(layout, head_dim, value_dim, dtype):
    lay = LAYOUTS[layout]

    class LaidOut(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x: Tensor) -> Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx, grad: Tensor) -> Tensor:  # type: ignore[override]
            return lay(grad)

    inputs = make_inputs(queries=37, keys=51, head_dim=head_dim, value_dim=value_dim, dtype=dtype)
    laid = leaves(inputs, **{name: lay(getattr(inputs, name).detach()) for name in OPERANDS})
    assert laid.key.stride() != inputs.key.stride()
    assert_right([laid], attention=lambda *args, **kwargs: LaidOut.apply(attend(*args, **kwargs)))


@every_precision
@pytest.mark.parametrize("axes", [(0, 1), (2,), (0, 1, 2), (3,)])
def test_operands_that_repeat_by_stride_zero(axes, dtype):
    inputs = make_inputs(queries=37, keys=51, dtype=dtype)

    def repeated(x: Tensor) -> Tensor:
        once = x.detach()[tuple(slice(1) if axis in axes else slice(None) for axis in range(4))]
        return once.expand_as(x)

    operands = {name: repeated(getattr(inputs, name)) for name in OPERANDS}
    assert_right([leaves(inputs, **operands)])


@every_precision
def test_rows_that_overlap(dtype):
    inputs = make_inputs(queries=37, keys=51, head_dim=6, dtype=dtype)
    windows = torch.randn(2, 3, 60).to(dtype).unfold(2, 6, 1)[:, :, :51]
    assert_right([leaves(inputs, key=windows, value=windows)])


@every_precision
def test_permuting_heads_permutes_the_output_and_every_gradient(dtype):
    order = torch.tensor([3, 0, 4, 1, 2])

    def permuted(*args: Tensor, **kwargs) -> Tensor:
        for factor in ("query", "key"):
            kwargs[f"{factor}_landmarks"] = kwargs[f"{factor}_landmarks"][:, order]
            mixing = kwargs[f"{factor}_mixing"]
            kwargs[f"{factor}_mixing"] = type(mixing)(*(x[order][:, order] for x in mixing))
        return attend(*(x[:, order] for x in args), **kwargs)[:, order.argsort()]

    assert_right(draw_inputs(heads=5, queries=37, keys=51, dtype=dtype), attention=permuted)


@pytest.fixture
def set_threads() -> Iterator[Callable[[int], None]]:
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@every_precision
@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("batch", [1, 2, 4])
def test_any_number_of_threads_gives_the_result_and_the_same_bits_again(threads, batch, dtype, set_threads):
    set_threads(threads)
    inputs = make_inputs(
        batch=batch, heads=4, queries=530, keys=600, landmarks=9, masks=MASK_NAMES, dtype=dtype
    )
    first = output_and_gradients(attend, inputs)
    for _ in range(2):
        assert_equal(output_and_gradients(attend, inputs), first)
    assert_right([inputs])


LENGTHS = st.one_of(st.integers(1, 40), st.integers(41, 300))


@settings(deadline=None, max_examples=25, derandomize=True)
@given(
    sizes=st.fixed_dictionaries(
        {
            "batch": st.integers(1, 3),
            "heads": st.integers(2, 10),
            "queries": LENGTHS,
            # One key is another matter: see the next test.
            "keys": LENGTHS.filter(lambda length: length > 1),
            "landmarks": st.integers(1, 20),
            "head_dim": st.integers(1, 20),
            "value_dim": st.integers(1, 20),
            "mixing": st.sampled_from(MIXING_MODES),
            "masks": st.sets(st.sampled_from(MASK_NAMES)).map(sorted),
            "layout": st.sampled_from(["contiguous", "strided", "expanded"]),
            "dtype": st.sampled_from([torch.float32, torch.bfloat16]),
        }
    )
)
def test_whatever_comes(sizes):
    # At arbitrary sizes plain arithmetic is right by luck about once in two hundred; a defect is there twice.
    try:
        assert_right(draw_inputs(**sizes, draws=4))
    except AssertionError:
        assert_right(draw_inputs(**sizes, draws=4, seed=100))


@pytest.mark.parametrize("mixing", ["none", "both"])
def test_one_key_is_what_everybody_sees(mixing):
    # All weights of the key factor are one then, all landmarks hold the same value, and without weight mixing
    # the exact gradients of logits are zero: an error has nothing to be compared with but its summands.
    for inputs in draw_inputs(queries=9, keys=1, landmarks=16, mixing=mixing, dtype=torch.float32):
        exact = output_and_gradients(dense_attention, inputs.to(torch.float64))
        summands = float(inputs.value.detach().abs().max()) * max(
            float(x.abs().max()) for x in exact.values()
        )
        for name, actual in output_and_gradients(attend, inputs).items():
            error = float((actual.double() - exact[name]).abs().max())
            assert error <= 4 * torch.finfo(torch.float32).eps * summands, name
