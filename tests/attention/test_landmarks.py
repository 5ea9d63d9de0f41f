"""Pooling tokens into landmarks, against adaptive average pooling and against a loop over cells."""

from math import prod

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from crosshead import occupied_landmarks, pool_landmarks
from crosshead.testing.oracle import dense_pool

GRIDS = [
    ((12,), (4,)),
    ((13,), (4,)),
    ((5,), (5,)),
    ((1,), (1,)),
    ((97,), (64,)),
    ((8, 6), (4, 3)),
    ((7, 5), (3, 4)),
    ((1, 9), (1, 2)),
    ((11, 3), (3, 3)),
    ((4, 6, 2), (2, 3, 2)),
    ((5, 3, 7), (2, 3, 4)),
]
ADAPTIVE = {1: nn.functional.adaptive_avg_pool1d, 2: nn.functional.adaptive_avg_pool2d}
ADAPTIVE[3] = nn.functional.adaptive_avg_pool3d


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def holes(batch: int, tokens: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(batch, tokens, generator=torch.Generator().manual_seed(seed)) < 0.5


def oracle(x: torch.Tensor, mask: torch.Tensor | None = None, **sizes) -> tuple[torch.Tensor, torch.Tensor]:
    masks = [None] * len(x) if mask is None else mask
    pooled = [dense_pool(sample, mask=valid, **sizes) for sample, valid in zip(x, masks, strict=True)]
    return torch.stack([p for p, _ in pooled]), torch.stack([o for _, o in pooled])


def same_value_and_gradient(actual, expected, x: torch.Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)
    cotangent = draw(*expected.shape, seed=9)
    (got,), (needed,) = (torch.autograd.grad(y, x, cotangent) for y in (actual, expected))
    torch.testing.assert_close(got, needed, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("grid", "cells"), GRIDS)
def test_without_a_mask_it_is_adaptive_average_pooling(grid, cells):
    x = draw(2, prod(grid), 3).requires_grad_()
    image = x.transpose(1, 2).reshape(2, 3, *grid)
    expected = ADAPTIVE[len(grid)](image, cells).flatten(2).transpose(1, 2)
    same_value_and_gradient(pool_landmarks(x, grid=grid, landmarks=cells), expected, x)


@pytest.mark.parametrize(("grid", "cells"), GRIDS)
@pytest.mark.parametrize("prefix", [0, 2])
def test_with_a_mask_it_averages_the_valid_tokens(grid, cells, prefix):
    x = draw(4, prefix + prod(grid), 3).requires_grad_()
    mask = holes(4, x.shape[1])
    mask[-1] = False
    sizes = {"grid": grid, "num_prefix_tokens": prefix}
    expected, occupied = oracle(x, mask, cells=cells, **sizes)
    actual = pool_landmarks(x, landmarks=cells, mask=mask, **sizes)
    same_value_and_gradient(actual, expected, x)
    assert torch.equal(occupied_landmarks(mask, landmarks=cells, **sizes), occupied)


@given(
    tokens=st.integers(1, 40),
    landmarks=st.integers(1, 12),
    padding=st.integers(0, 20),
    prefix=st.integers(0, 2),
    seed=st.integers(0, 99),
)
def test_a_sequence_with_padding_and_holes_is_pooled_like_its_valid_tokens_alone(
    tokens, landmarks, padding, prefix, seed
):
    x = draw(1, prefix + tokens + padding, 2, seed=seed)
    mask = holes(1, x.shape[1], seed)
    mask[:, :prefix] = True
    mask[:, prefix + tokens :] = False
    mask[0, prefix] = True
    alone = x[:, mask[0]]
    valid = alone.shape[1] - prefix
    expected = pool_landmarks(alone, grid=(valid,), landmarks=landmarks, num_prefix_tokens=prefix)
    actual = pool_landmarks(
        x, grid=(tokens + padding,), landmarks=landmarks, num_prefix_tokens=prefix, mask=mask
    )
    filled = prefix + min(landmarks, valid)
    torch.testing.assert_close(actual[:, :filled], expected, rtol=1e-12, atol=1e-12)
    assert not actual[:, filled:].any()


@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=3), st.lists(st.integers(1, 9), min_size=3, max_size=3)
)
def test_any_grid_and_any_number_of_landmarks(grid, landmarks):
    wanted = tuple(landmarks[: len(grid)])
    x = draw(1, prod(grid), 2)
    expected, _ = oracle(x, grid=grid, cells=[min(pair) for pair in zip(grid, wanted, strict=True)])
    actual = pool_landmarks(x, grid=tuple(grid), landmarks=wanted)
    torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)


def test_there_are_never_more_cells_than_tokens_along_an_axis():
    x = draw(1, 15, 2)
    assert pool_landmarks(x, grid=(5, 3), landmarks=4).shape == (1, 12, 2)
    assert torch.equal(pool_landmarks(x, grid=(5, 3), landmarks=99), x)


def test_one_number_of_landmarks_counts_for_every_axis():
    x = draw(2, 48, 2)
    assert torch.equal(
        pool_landmarks(x, grid=(8, 6), landmarks=2), pool_landmarks(x, grid=(8, 6), landmarks=(2, 2))
    )


def test_prefix_tokens_are_landmarks_of_their_own_and_enter_no_cell():
    x = draw(2, 3 + 20, 4)
    pooled = pool_landmarks(x, grid=(4, 5), landmarks=2, num_prefix_tokens=3)
    assert torch.equal(pooled[:, :3], x[:, :3])
    assert torch.equal(pooled[:, 3:], pool_landmarks(x[:, 3:], grid=(4, 5), landmarks=2))


def test_given_cells_replace_the_number_that_the_mask_would_allow():
    x, mask = draw(2, 10, 3), torch.ones(2, 10, dtype=torch.bool)
    pooled = pool_landmarks(x, grid=(10,), landmarks=5, mask=mask, cells=torch.tensor([2, 5]))
    torch.testing.assert_close(pooled[:1, :2], pool_landmarks(x[:1], grid=(10,), landmarks=2))
    torch.testing.assert_close(pooled[1:], pool_landmarks(x[1:], grid=(10,), landmarks=5))
    assert not pooled[0, 2:].any()
    occupied = occupied_landmarks(mask, grid=(10,), landmarks=5, cells=torch.tensor([2, 5]))
    assert occupied.tolist() == [[True, True, False, False, False], [True] * 5]


@pytest.mark.parametrize(("grid", "cells"), [((9,), (4,)), ((3, 5), (2, 2))])
@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_what_stands_in_masked_tokens_is_never_read(grid, cells, poison):
    x, mask = draw(3, 1 + prod(grid), 2), holes(3, 1 + prod(grid))
    clean = x.masked_fill(~mask[..., None], 0).requires_grad_()
    dirty = x.masked_fill(~mask[..., None], poison).requires_grad_()
    sizes = {"grid": grid, "landmarks": cells, "mask": mask, "num_prefix_tokens": 1}
    pooled = [pool_landmarks(tokens, **sizes) for tokens in (clean, dirty)]
    assert torch.equal(*pooled)
    gradients = [
        torch.autograd.grad(p.square().sum(), t)[0] for p, t in zip(pooled, (clean, dirty), strict=True)
    ]
    assert torch.equal(*gradients)
    assert not gradients[1][~mask].any()


@pytest.mark.parametrize("masked", [False, True])
def test_leading_axes_such_as_heads_are_pooled_alike(masked):
    x = draw(2, 3, 11, 4)
    mask = holes(2, 11) if masked else None
    together = pool_landmarks(x, grid=(11,), landmarks=4, mask=mask)
    for head in range(3):
        alone = pool_landmarks(x[:, head], grid=(11,), landmarks=4, mask=mask)
        torch.testing.assert_close(together[:, head], alone, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(("grid", "cells"), [((9,), (4,)), ((3, 5), (2, 2))])
def test_it_is_differentiable_twice(grid, cells, masked):
    x = draw(2, prod(grid), 2).requires_grad_()
    mask = holes(2, prod(grid)) if masked else None

    def squared(tokens):
        return pool_landmarks(tokens, grid=grid, landmarks=cells, mask=mask).square()

    assert torch.autograd.gradcheck(squared, x)
    assert torch.autograd.gradgradcheck(squared, x)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("masked", [False, True])
def test_half_precision_sums_are_wide(dtype, masked):
    # 65,536 tokens of 1 + noise: a half-precision sum would overflow (float16) or stall at 256 (bf16).
    x = (1 + 0.1 * draw(1, 65_536, 1)).to(dtype)
    mask = torch.ones(1, 65_536, dtype=torch.bool) if masked else None
    pooled = pool_landmarks(x, grid=(65_536,), landmarks=1, mask=mask)
    assert pooled.dtype == dtype
    exact = x.double().mean()
    assert (pooled.double() - exact).abs() <= torch.finfo(dtype).eps * exact


def test_an_empty_batch_has_landmarks_of_the_right_shape():
    assert pool_landmarks(torch.ones(0, 6, 2), grid=(6,), landmarks=4).shape == (0, 4, 2)
    mask = torch.ones(0, 6, dtype=torch.bool)
    assert pool_landmarks(torch.ones(0, 6, 2), grid=(2, 3), landmarks=2, mask=mask).shape == (0, 4, 2)
    assert pool_landmarks(torch.ones(0, 6, 2), grid=(6,), landmarks=4, mask=mask).shape == (0, 4, 2)
    assert occupied_landmarks(mask, grid=(6,), landmarks=4).shape == (0, 4)


X = torch.ones(2, 12, 3)
MASK = torch.ones(2, 12, dtype=torch.bool)


@pytest.mark.parametrize(
    ("error", "arguments", "says"),
    [
        (ValueError, {"grid": (3, 5)}, ["grid", "(3, 5)", "15", "12"]),
        (ValueError, {"grid": (3, 4), "num_prefix_tokens": 1}, ["num_prefix_tokens", "13", "12"]),
        (ValueError, {"grid": (12,), "num_prefix_tokens": -1}, ["num_prefix_tokens", "-1"]),
        (ValueError, {"grid": ()}, ["grid", "()"]),
        (ValueError, {"grid": (1, 1, 3, 4)}, ["grid", "(1, 1, 3, 4)"]),
        (ValueError, {"grid": (-3, -4)}, ["grid", "(-3, -4)"]),
        (ValueError, {"landmarks": 0}, ["landmarks", "0"]),
        (ValueError, {"landmarks": -2}, ["landmarks", "-2"]),
        (ValueError, {"landmarks": (2, 0)}, ["landmarks", "(2, 0)"]),
        (ValueError, {"landmarks": (2,)}, ["landmarks", "(2,)", "(3, 4)"]),
        (ValueError, {"landmarks": (2, 2, 2)}, ["landmarks", "(2, 2, 2)", "(3, 4)"]),
        ((ValueError, TypeError), {"landmarks": 2.5}, ["landmarks", "2.5"]),
        ((ValueError, TypeError), {"landmarks": True}, ["landmarks", "True"]),
        (TypeError, {"landmarks": (2, 2.5)}, ["landmarks", "2.5", "integer"]),
        (TypeError, {"grid": (3, 4.0)}, ["grid", "4.0", "integer"]),
        (TypeError, {"mask": MASK.float()}, ["mask", "float32", "bool"]),
        (ValueError, {"mask": MASK[:, :11]}, ["mask", "(2, 12)", "(2, 11)"]),
        (ValueError, {"mask": MASK[:1]}, ["mask", "(2, 12)", "(1, 12)"]),
        (ValueError, {"mask": MASK[0]}, ["mask", "(2, 12)", "(12,)"]),
        (ValueError, {"cells": torch.tensor([2, 2])}, ["cells", "mask"]),
        (ValueError, {"grid": (12,), "mask": MASK, "cells": torch.tensor([2])}, ["cells", "(2,)", "(1,)"]),
    ],
)
def test_bad_arguments_are_named_with_what_is_needed(error, arguments, says):
    with pytest.raises(error) as caught:
        pool_landmarks(X, **{"grid": (3, 4), "landmarks": 2} | arguments)
    for word in says:
        assert word in str(caught.value)


def test_nested_tokens_are_refused():
    nested = torch.nested.nested_tensor([X[0], X[1, :5]], layout=torch.jagged)
    with pytest.raises(TypeError, match=r"(?s)x must be.*nested.*to_padded_tensor.*mask"):
        pool_landmarks(nested, grid=(12,), landmarks=2)


def test_tokens_without_a_batch_axis_are_refused():
    with pytest.raises(ValueError, match="x must"):
        pool_landmarks(torch.ones(12), grid=(12,), landmarks=2)
