"""The Triton kernels, interpreted on the CPU: the dense result with every gradient, whatever the tiles meet.

Needs TRITON_INTERPRET=1 before triton is imported; `test_triton_interpreted.py` sees to it.
"""

import os
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import combinations
from typing import Any

import pytest
import torch
from torch import Tensor

pytestmark = pytest.mark.filterwarnings("ignore:overflow encountered in exp")  # of weights masked away
if os.environ.get("TRITON_INTERPRET") != "1":
    pytest.skip("runs with TRITON_INTERPRET=1, see test_triton_interpreted.py", allow_module_level=True)

import numpy as np  # noqa: E402
import triton.language as tl  # noqa: E402
from triton._C.libtriton import ir  # noqa: E402
from triton.runtime.interpreter import InterpreterBuilder, TensorHandle  # noqa: E402

from crosshead import HeadMixing  # noqa: E402
from crosshead.attention.grid import zero_outside  # noqa: E402
from crosshead.attention.impl.fused import ops  # noqa: E402, F401  registers the operator
from crosshead.attention.impl.fused.cuda import launch, tiles  # noqa: E402
from crosshead.attention.operands import Operands  # noqa: E402
from crosshead.testing.inputs import (  # noqa: E402
    MASK_NAMES,
    MIXING_MODES,
    make_inputs,
    output_and_gradients,
)
from crosshead.testing.kernel import assert_kernel_right, draw_inputs  # noqa: E402
from crosshead.testing.oracle import dense_attention  # noqa: E402

PRECISIONS = [torch.float32, torch.bfloat16, torch.float16]
NO_MIXING = HeadMixing()


def slowly(*values):
    return pytest.param(*values, marks=pytest.mark.slow)


@pytest.fixture(autouse=True)
def arithmetic_of_a_gpu(monkeypatch) -> None:
    """The interpreter multiplies bfloat16 as integers and truncates to it, where a GPU rounds to nearest.

    And it multiplies float32 exactly where tensor cores drop all but eleven significant bits.
    """
    of_numpy = InterpreterBuilder.cast_impl

    def values(x: TensorHandle) -> np.ndarray:
        wide = x.data.astype(np.uint32) << 16 if x.dtype.scalar == tl.bfloat16 else x.data
        return wide.view(np.float32) if wide.dtype == np.uint32 else wide.astype(np.float32)

    def cut_off(x: np.ndarray) -> np.ndarray:
        return (np.ascontiguousarray(x).view(np.uint32) & np.uint32(0xFFFFE000)).view(np.float32)

    def dot(_self, a, b, total, precision, _imprecise) -> TensorHandle:
        left, right = values(a), values(b)
        if a.dtype.scalar == tl.float32 and precision == ir.INPUT_PRECISION.TF32:
            left, right = cut_off(left), cut_off(right)
        return TensorHandle(left @ right + total.data, total.dtype.scalar)

    def cast(self, x, target) -> TensorHandle:
        if x.dtype.scalar != tl.float32 or target.scalar != tl.bfloat16:
            return of_numpy(self, x, target)
        rounded = torch.from_numpy(np.ascontiguousarray(x.data)).bfloat16()
        return TensorHandle(rounded.view(torch.uint16).numpy(), tl.bfloat16)

    monkeypatch.setattr(InterpreterBuilder, "create_dot", dot)
    monkeypatch.setattr(InterpreterBuilder, "cast_impl", cast)


@pytest.fixture(autouse=True)
def one_tile_in_a_chunk(monkeypatch) -> None:
    """Every sum over tokens is one of several partial sums."""
    monkeypatch.setattr(launch, "SHORTEST_CHUNK", 1)


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    query_landmarks: Tensor,
    key_landmarks: Tensor,
    query_mixing: HeadMixing | None = None,
    key_mixing: HeadMixing | None = None,
    query_mask: Tensor | None = None,
    key_mask: Tensor | None = None,
    landmark_mask: Tensor | None = None,
) -> Tensor:
    """The operator with zeros at masked places, as the public function calls it."""
    output, *_ = torch.ops.crosshead.fused_attention_cuda(
        zero_outside(query_mask, query),
        zero_outside(key_mask, key),
        zero_outside(key_mask, value),
        zero_outside(landmark_mask, query_landmarks),
        zero_outside(landmark_mask, key_landmarks),
        *(query_mixing or NO_MIXING),
        *(key_mixing or NO_MIXING),
        key_mask,
        landmark_mask,
        query.shape[-1] ** -0.5,
    )
    return zero_outside(query_mask, output)


assert_right = partial(assert_kernel_right, attention=attend)


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("mixing", MIXING_MODES)
def test_each_mixing_in_each_precision(dtype, mixing):
    assert_right(draw_inputs(batch=1, mixing=mixing, dtype=dtype, draws=4 if dtype == torch.float32 else 2))


@pytest.mark.parametrize(
    ("heads", "queries", "keys", "landmarks", "head_dim", "value_dim"),
    [
        (1, 17, 33, 17, 17, 3),
        (3, 1, 20, 1, 5, 17),
        (8, 5, 17, 49, 16, 16),
        (17, 17, 1, 4, 3, 8),
        (24, 9, 7, 17, 16, 16),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float16, slowly(torch.bfloat16)])
def test_sizes_that_no_tile_divides(heads, queries, keys, landmarks, head_dim, value_dim, dtype):
    sizes = {"heads": heads, "queries": queries, "keys": keys, "landmarks": landmarks}
    assert_right(draw_inputs(batch=1, **sizes, head_dim=head_dim, value_dim=value_dim, dtype=dtype, draws=1))


def subsets_of_masks() -> Iterator[tuple]:
    for count in range(1, len(MASK_NAMES) + 1):
        yield from combinations(MASK_NAMES, count)


@pytest.mark.parametrize(
    ("heads", "group_size", "layout", "dtype"),
    [
        (12, 4, "strided", torch.bfloat16),
        (6, 3, "contiguous", torch.float32),
        slowly(6, 1, "contiguous", torch.float16),
        slowly(40, 20, "strided", torch.bfloat16),
    ],
)
def test_heads_that_talk_within_groups(heads, group_size, layout, dtype):
    sizes = {"heads": heads, "group_size": group_size, "queries": 20, "keys": 37, "landmarks": 18}
    assert_right(draw_inputs(**sizes, layout=layout, masks=MASK_NAMES, dtype=dtype))


@pytest.mark.parametrize("masks", subsets_of_masks(), ids="+".join)
def test_masks_alone_and_together(masks):
    assert_right(draw_inputs(masks=masks, dtype=torch.float16, draws=1))


@pytest.mark.parametrize("dtype", [torch.bfloat16, slowly(torch.float16)])
def test_masks_in_several_slices_of_landmarks(dtype):
    assert_right(draw_inputs(landmarks=18, masks=MASK_NAMES, dtype=dtype, draws=1))


@pytest.mark.parametrize("hidden", [slice(0, 16), slice(16, 32), slice(32, 37)])
@pytest.mark.parametrize("mask", ["key_mask", "landmark_mask"])
def test_tiles_in_which_everything_is_masked(hidden, mask):
    sizes = {"keys": 37} if mask == "key_mask" else {"landmarks": 37}
    draws = draw_inputs(batch=1, **sizes, masks=(mask,), dtype=torch.float16, draws=1)
    for inputs in draws:
        getattr(inputs, mask)[:] = True
        getattr(inputs, mask)[:, hidden] = False
    assert_right(draws)


@pytest.mark.parametrize("mask", ["key_mask", "landmark_mask"])
@pytest.mark.parametrize("dtype", PRECISIONS)
def test_a_sample_with_nothing_to_look_at_gives_zeros(mask, dtype):
    inputs = make_inputs(masks=(mask,), dtype=dtype)
    getattr(inputs, mask)[0] = False
    results = output_and_gradients(attend, inputs)
    assert not results["output"][0].any()
    for name, x in results.items():
        assert x.isfinite().all(), name
        if x.ndim == 4:
            assert not x[0].any(), name
            assert x[1].any(), name


@pytest.mark.parametrize("layout", ["strided", "expanded"])
@pytest.mark.parametrize("dtype", PRECISIONS)
def test_inputs_with_any_strides(layout, dtype):
    assert_right(draw_inputs(layout=layout, dtype=dtype, draws=1))


def test_masks_and_matrices_with_any_strides():
    inputs = make_inputs(batch=3, masks=MASK_NAMES, dtype=torch.float32, requires_grad=False)
    expected = attend(*inputs.arguments()[0], **inputs.arguments()[1])
    strided = {name: getattr(inputs, name).T.contiguous().T for name in MASK_NAMES}
    for name in ("query_logits", "query_weights", "key_logits", "key_weights"):
        strided[name] = getattr(inputs, name).T.contiguous().T
    args, kwargs = replace(inputs, **strided).arguments()
    assert torch.equal(attend(*args, **kwargs), expected)


def surrounded_by_nan(x: Tensor) -> Tensor:
    """The same numbers as a slice of a larger tensor, with NaN before and after them on every axis."""
    larger = torch.full([size + 2 * 3 for size in x.shape], torch.nan, dtype=x.dtype)
    inside = larger[tuple(slice(3, 3 + size) for size in x.shape)]
    inside.copy_(x.detach())
    return inside.requires_grad_(x.requires_grad)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_nothing_outside_the_inputs_is_read(dtype):
    inputs = make_inputs(batch=1, dtype=dtype)
    poisoned = replace(inputs, **{name: surrounded_by_nan(x) for name, x in inputs.floating().items()})
    expected, actual = (output_and_gradients(attend, each) for each in (inputs, poisoned))
    for name in expected:
        assert torch.equal(actual[name], expected[name]), name


def test_samples_do_not_influence_each_other():
    inputs = make_inputs(queries=18, keys=21, masks=MASK_NAMES, dtype=torch.float32, requires_grad=False)
    args, kwargs = inputs.arguments()
    expected = attend(*args, **kwargs)
    args[0][0] = args[1][0] = args[2][0] = torch.nan
    kwargs["query_landmarks"][0] = kwargs["key_landmarks"][0] = torch.nan
    assert torch.equal(attend(*args, **kwargs)[1], expected[1])


def test_repeated_runs_are_bit_identical():
    inputs = make_inputs(batch=1, keys=33, masks=MASK_NAMES, dtype=torch.bfloat16)
    first, second = (output_and_gradients(attend, inputs) for _ in range(2))
    for name in first:
        assert torch.equal(first[name], second[name]), name


@pytest.mark.parametrize(("chunk", "programs"), [(1, 528), (2, 528), (1, 1)])
def test_any_division_of_the_tokens_gives_the_same_result(monkeypatch, chunk, programs):
    monkeypatch.setattr(launch, "SHORTEST_CHUNK", chunk)
    monkeypatch.setattr(launch, "PROGRAMS", programs)
    assert_right(draw_inputs(batch=1, keys=49, masks=MASK_NAMES, dtype=torch.float16))


@pytest.mark.parametrize(("tokens", "landmarks"), [(16, 64), (32, 16), (64, 32)])
def test_any_tile_gives_the_same_result(monkeypatch, tokens, landmarks):
    tile = tiles.Tile(tokens=tokens, landmarks=landmarks, warps=4)
    monkeypatch.setattr(tiles, "choose", lambda *_, **__: tile)
    assert_right(
        draw_inputs(batch=1, queries=35, keys=39, landmarks=20, masks=MASK_NAMES, dtype=torch.bfloat16)
    )


@pytest.mark.parametrize("dtype", [torch.bfloat16, slowly(torch.float16)])
def test_matrices_wider_than_the_inputs_get_gradients_in_their_own_dtype(dtype):
    inputs = make_inputs(dtype=dtype)
    matrices = {name: x for name, x in inputs.floating().items() if x.ndim == 2}
    wide = {name: x.detach().double().requires_grad_() for name, x in matrices.items()}
    expected = output_and_gradients(attend, inputs)
    actual = output_and_gradients(attend, replace(inputs, **wide))
    for name in wide:
        gradient = actual.pop(f"grad {name}")
        assert gradient.dtype == torch.float64
        torch.testing.assert_close(gradient.to(dtype), expected.pop(f"grad {name}"), rtol=0, atol=0)
    torch.testing.assert_close(actual, expected, rtol=0, atol=0)


@pytest.mark.parametrize("size", [1e2, 1e4])
def test_logits_of_any_size_give_finite_results(size):
    inputs = make_inputs(dtype=torch.float32, requires_grad=False)
    loud = replace(inputs, query=inputs.query * size, query_landmarks=inputs.query_landmarks * size)
    for x in loud.floating().values():
        x.requires_grad_()
    results = output_and_gradients(attend, loud)
    assert all(x.isfinite().all() for x in results.values())
    exact = output_and_gradients(dense_attention, loud.to(torch.float64))
    torch.testing.assert_close(results["output"].double(), exact["output"], rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("dtype", [torch.float16, slowly(torch.bfloat16)])
@pytest.mark.parametrize("peaked", [False, True], ids=["uniform", "peaked"])
def test_half_precision_neither_overflows_nor_underflows_over_65536_keys(monkeypatch, dtype, peaked):
    monkeypatch.setattr(tiles, "choose", lambda *_, **__: tiles.Tile(tokens=8192))
    inputs = make_inputs(batch=1, heads=2, queries=5, keys=65_536, landmarks=2, head_dim=4, value_dim=3)
    # Weights of 0.7 to 1.4 times 1 / M: far below 2^-14, where the normal numbers of float16 end.
    inputs = replace(inputs, key=inputs.key.detach() * 0.1, query_landmarks=inputs.query_landmarks.detach())
    if peaked:
        inputs.key[:, :, 12_345] = 100.0 * inputs.query_landmarks.sum(2)
    for x in inputs.floating().values():
        x.requires_grad_()
    assert_right([inputs.to(dtype)])


def test_offsets_beyond_32_bits():
    inputs = make_inputs(batch=1, dtype=torch.float16, requires_grad=False)
    # Heads half a billion numbers apart; pages that nobody touches cost no memory.
    far = torch.empty(2**31 + 100, dtype=torch.float16).as_strided(inputs.key.shape, (2**31, 2**30, 5, 1))
    far.copy_(inputs.key)
    args, kwargs = inputs.arguments()
    expected = attend(*args, **kwargs)
    assert torch.equal(attend(args[0], far, args[2], **kwargs), expected)


def test_what_is_kept_for_backward_belongs_to_the_landmarks():
    inputs = make_inputs(queries=18, keys=21, dtype=torch.bfloat16, requires_grad=False)
    (q, k, v), kwargs = inputs.arguments()
    landmarks = (kwargs["query_landmarks"], kwargs["key_landmarks"])
    operands: Any = (q, k, v, *landmarks, *kwargs["query_mixing"], *kwargs["key_mixing"], None, None, 0.5)
    output, aggregate, normaliser = launch.forward(Operands(*operands))
    assert (output.shape, output.dtype) == ((2, 3, 18, 6), torch.bfloat16)
    assert (aggregate.shape, aggregate.dtype) == ((2, 3, 4, 6), torch.bfloat16)
    assert (normaliser.shape, normaliser.dtype) == ((2, 3, 4), torch.float32)


def test_masked_landmarks_gather_nothing():
    inputs = make_inputs(masks=("landmark_mask",), dtype=torch.float32, requires_grad=False)
    (q, k, v), kwargs = inputs.arguments()
    landmarks = (kwargs["query_landmarks"], kwargs["key_landmarks"])
    mask = inputs.landmark_mask
    assert mask is not None
    operands: Any = (q, k, v, *landmarks, *kwargs["query_mixing"], *kwargs["key_mixing"], None, mask, 0.5)
    _, aggregate, _ = launch.forward(Operands(*operands))
    occupied = mask[:, None, :, None].expand_as(aggregate)
    assert not aggregate[~occupied].any()
    assert aggregate[occupied].all()


@pytest.mark.parametrize("tokens", [10**4, 10**6, 10**8])
def test_partial_sums_do_not_grow_with_the_tokens(monkeypatch, tokens):
    monkeypatch.undo()
    batch, landmarks = 3, 49
    x = torch.empty(1).expand(batch, 8, tokens, 16)
    factor = launch._Factor(x, x[:, :, :landmarks], None, None, None, 1.0, 16, None, key=True)
    for kernel in (launch.forward_kernels.aggregate, launch.backward_kernels.landmark_gradients):
        chunks, tile = factor._chunks(kernel), factor._tile(kernel)
        slices = batch * -(-landmarks // tile.landmarks)
        assert chunks.programs <= launch.PROGRAMS + slices
        assert (chunks.count - 1) * chunks.tokens < tokens <= chunks.count * chunks.tokens


@pytest.mark.parametrize(("mixing", "masks"), [slowly("none", ()), ("both", MASK_NAMES)])
def test_is_a_well_behaved_operator(mixing, masks):
    inputs = make_inputs(mixing=mixing, masks=masks, dtype=torch.float32)
    args, kwargs = inputs.arguments()
    landmarks = (kwargs["query_landmarks"], kwargs["key_landmarks"])
    matrices = (*(kwargs["query_mixing"] or NO_MIXING), *(kwargs["key_mixing"] or NO_MIXING))
    operands = (*args, *landmarks, *matrices, inputs.key_mask, inputs.landmark_mask, 0.5)
    torch.library.opcheck(torch.ops.crosshead.fused_attention_cuda.default, operands)


def test_float64_is_refused_with_the_remedy():
    q = torch.empty(1, 2, 3, 4, dtype=torch.float64)
    reason = launch.refusal(q, q, None) or ""
    assert "float64" in reason
    assert "streamed" in reason


@pytest.mark.parametrize("dtype", PRECISIONS)
def test_operands_of_everyday_sizes_are_not_refused(dtype):
    for heads, dim in ((16, 32), (12, 16), (8, 64), (3, 32), (1, 128), (4, 128)):
        q = torch.empty(1, heads, 3, dim, dtype=dtype)
        assert launch.refusal(q, q, None) is None


@pytest.mark.parametrize("dtype", PRECISIONS)
def test_any_number_of_heads_is_taken_in_groups(dtype):
    q = torch.empty(1, 96, 3, 32, dtype=dtype)
    assert "at most" in (launch.refusal(q, q, None) or "")
    assert launch.refusal(q, q, 8) is None
