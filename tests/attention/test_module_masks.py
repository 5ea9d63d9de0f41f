"""Masks of the layer: what padding and holes may not change, for values and for gradients."""

from math import prod

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from crosshead import InteractiveAttention
from crosshead.testing.dense_layer import dense_layer

every_implementation = pytest.mark.parametrize("impl", ["reference", "streamed"])

SEQUENCES = {
    "plain": {"landmarks": (4,)},
    "normalised": {"landmarks": (4,), "qk_norm": True},
    "prefix": {"landmarks": (4,), "num_prefix_tokens": 2},
    "no mixing": {"landmarks": (4,), "mixing": "none"},
}
GRIDS = {
    "image": ({"landmarks": (2, 3)}, (4, 7)),
    "volume": ({"landmarks": (2, 1, 2)}, (3, 2, 3)),
    "image with local term": ({"landmarks": (2, 3), "local_kernel": 3}, (4, 7)),
    "image with prefix": ({"landmarks": (2, 2), "num_prefix_tokens": 2, "qk_norm": True}, (3, 4)),
}


def make_layer(**options) -> InteractiveAttention:
    torch.manual_seed(0)
    layer = InteractiveAttention(8, 2, **options).double()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return layer


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def up_to(lengths: list[int], total: int) -> Tensor:
    return torch.arange(total) < torch.tensor(lengths)[:, None]


def with_holes(batch: int, total: int, *, prefix: int = 0, seed: int = 0) -> Tensor:
    mask = torch.rand(batch, total, generator=torch.Generator().manual_seed(seed)) < 0.6
    mask[:, : prefix + 1] = True
    return mask


def parameter_gradients(layer: InteractiveAttention, loss: Tensor) -> dict[str, Tensor]:
    named = dict(layer.named_parameters())
    return dict(zip(named, torch.autograd.grad(loss, list(named.values()), retain_graph=True), strict=True))


def assert_each_sample_gives_what_its_valid_tokens_give_alone(layer: InteractiveAttention, x, mask) -> None:
    """Outputs, gradients of tokens, and of parameters, where those of the batch are the sum over samples."""
    x = x.requires_grad_()
    cotangent = draw(*x.shape, seed=7)
    together = layer(x, key_mask=mask)
    loss = (together * cotangent).sum()
    (gradient,) = torch.autograd.grad(loss, x, retain_graph=True)
    batched = parameter_gradients(layer, loss)
    summed = {name: torch.zeros_like(g) for name, g in batched.items()}
    for b in range(len(x)):
        alone = x[b, mask[b]].detach()[None].requires_grad_()
        output = layer(alone)
        torch.testing.assert_close(together[b, mask[b]], output[0], rtol=1e-10, atol=1e-11)
        loss = (output[0] * cotangent[b, mask[b]]).sum()
        torch.testing.assert_close(
            gradient[b, mask[b]],
            torch.autograd.grad(loss, alone, retain_graph=True)[0][0],
            rtol=1e-9,
            atol=1e-10,
        )
        for name, g in parameter_gradients(layer, loss).items():
            summed[name] += g
    torch.testing.assert_close(batched, summed, rtol=1e-9, atol=1e-10)
    assert not together[~mask].any()
    assert not gradient[~mask].any()


@every_implementation
@pytest.mark.parametrize("case", SEQUENCES)
def test_a_padded_sequence_gives_what_it_gives_alone(impl, case):
    layer = make_layer(impl=impl, **SEQUENCES[case])
    prefix = layer.num_prefix_tokens
    lengths = [prefix + n for n in (1, 2, 3, 4, 5, 9, 17)]  # fewer tokens than landmarks, as many, and more
    x = draw(len(lengths), prefix + 17, 8)
    assert_each_sample_gives_what_its_valid_tokens_give_alone(layer, x, up_to(lengths, prefix + 17))


@every_implementation
def test_a_padded_sequence_gives_what_it_gives_alone_with_a_local_term(impl):
    layer = make_layer(landmarks=(4,), local_kernel=5, impl=impl)
    assert_each_sample_gives_what_its_valid_tokens_give_alone(layer, draw(4, 17, 8), up_to([1, 3, 9, 17], 17))


@every_implementation
@pytest.mark.parametrize("case", SEQUENCES)
def test_a_sequence_with_holes_gives_what_it_gives_without_them(impl, case):
    layer = make_layer(impl=impl, **SEQUENCES[case])
    prefix = layer.num_prefix_tokens
    mask = with_holes(4, prefix + 13, prefix=prefix)
    assert_each_sample_gives_what_its_valid_tokens_give_alone(layer, draw(4, prefix + 13, 8), mask)


@given(
    lengths=st.lists(st.integers(1, 20), min_size=1, max_size=4),
    padding=st.integers(0, 6),
    landmarks=st.integers(1, 8),
    prefix=st.integers(0, 2),
    shuffled=st.booleans(),
    impl=st.sampled_from(["reference", "streamed"]),
    seed=st.integers(0, 2**16),
)
@settings(max_examples=25, deadline=None)
def test_batching_never_changes_a_result(lengths, padding, landmarks, prefix, shuffled, impl, seed):
    layer = make_layer(landmarks=(landmarks,), num_prefix_tokens=prefix, impl=impl)
    total = max(lengths) + padding
    body = up_to(lengths, total)
    if shuffled:
        body = body[:, torch.randperm(total, generator=torch.Generator().manual_seed(seed))]
    mask = torch.cat([torch.ones(len(lengths), prefix, dtype=torch.bool), body], dim=1)
    assert_each_sample_gives_what_its_valid_tokens_give_alone(
        layer, draw(len(lengths), prefix + total, 8, seed=seed), mask
    )


@every_implementation
@pytest.mark.parametrize("case", SEQUENCES)
@pytest.mark.parametrize("holes", [False, True])
def test_in_cross_attention_each_side_is_what_its_valid_tokens_are_alone(impl, case, holes):
    layer = make_layer(impl=impl, **SEQUENCES[case])
    prefix = layer.num_prefix_tokens
    x, context = draw(5, prefix + 11, 8), draw(5, prefix + 15, 8, seed=1)
    if holes:
        mask = with_holes(5, prefix + 11, prefix=prefix, seed=3)
        context_mask = with_holes(5, prefix + 15, prefix=prefix, seed=4)
    else:
        mask = up_to([prefix + n for n in (1, 11, 3, 7, 11)], prefix + 11)
        context_mask = up_to([prefix + n for n in (15, 2, 3, 6, 15)], prefix + 15)
    together = layer(x, key_mask=mask, context=context, context_grid=(15,), context_mask=context_mask)
    for b in range(5):
        alone = x[b, mask[b]][None]
        seen = context[b, context_mask[b]][None]
        expected = layer(alone, context=seen, context_grid=(seen.shape[1] - prefix,))
        torch.testing.assert_close(together[b, mask[b]], expected[0], rtol=1e-10, atol=1e-11)
    assert not together[~mask].any()


@every_implementation
def test_in_cross_attention_either_mask_may_be_missing(impl):
    layer = make_layer(landmarks=(4,), impl=impl)
    x, context = draw(3, 6, 8), draw(3, 9, 8, seed=1)
    mask, context_mask = up_to([2, 5, 6], 6), up_to([9, 1, 5], 9)
    for masks in ({"key_mask": mask}, {"context_mask": context_mask}):
        together = layer(x, context=context, context_grid=(9,), **masks)
        expected = dense_layer(layer, x, grid=(6,), context=context, context_grid=(9,), **masks)
        torch.testing.assert_close(together, expected, rtol=1e-10, atol=1e-11)


@every_implementation
@pytest.mark.parametrize("case", GRIDS)
def test_on_grids_cells_stay_fixed_and_average_their_valid_tokens(impl, case):
    options, grid = GRIDS[case]
    layer = make_layer(impl=impl, **options)
    tokens = layer.num_prefix_tokens + prod(grid)
    x, mask = draw(3, tokens, 8).requires_grad_(), with_holes(3, tokens)
    mask[0, tokens // 2 :] = False  # whole cells are empty
    cotangent = draw(3, tokens, 8, seed=7)
    outputs = layer(x, grid=grid, key_mask=mask), dense_layer(layer, x, grid=grid, key_mask=mask)
    torch.testing.assert_close(*outputs, rtol=1e-10, atol=1e-11)
    results = [
        torch.autograd.grad(y, [x, *layer.parameters()], cotangent, materialize_grads=True) for y in outputs
    ]
    torch.testing.assert_close(*results, rtol=1e-9, atol=1e-10)


@every_implementation
def test_on_grids_cross_attention_uses_the_cells_that_hold_tokens_on_both_sides(impl):
    layer = make_layer(landmarks=(2, 2), impl=impl)
    x, context = draw(2, 12, 8), draw(2, 20, 8, seed=1)
    mask, context_mask = torch.ones(2, 3, 4).bool(), torch.ones(2, 4, 5).bool()
    mask[0, :, 2:] = False
    context_mask[0, 2:, :] = False
    masks = {"key_mask": mask.flatten(1), "context_mask": context_mask.flatten(1)}
    call = {"grid": (3, 4), "context": context, "context_grid": (4, 5), **masks}
    torch.testing.assert_close(layer(x, **call), dense_layer(layer, x, **call), rtol=1e-10, atol=1e-11)


@every_implementation
@pytest.mark.parametrize("poison", [float("nan"), float("inf"), 1e200])
@pytest.mark.parametrize(
    ("options", "grid"),
    [
        *GRIDS.values(),
        *((options, (12,)) for options in SEQUENCES.values()),
        ({"landmarks": (3,), "local_kernel": 3}, (12,)),
    ],
)
def test_what_stands_in_masked_tokens_changes_no_output_and_no_gradient(impl, poison, options, grid):
    layer = make_layer(impl=impl, **options)
    x = draw(3, layer.num_prefix_tokens + prod(grid), 8)
    mask = with_holes(3, x.shape[1], seed=5)
    mask[1] = False
    results = []
    for filling in (0.0, poison):
        tokens = x.masked_fill(~mask[..., None], filling).requires_grad_()
        y = layer(tokens, grid=grid, key_mask=mask)
        results.append([y, *torch.autograd.grad(y.square().sum(), [tokens, *layer.parameters()])])
    for clean, dirty in zip(*results, strict=True):
        assert torch.equal(clean, dirty)
    assert not results[1][1][~mask].any()


@every_implementation
def test_what_stands_in_masked_context_changes_no_output_and_no_gradient(impl):
    layer = make_layer(landmarks=(3,), qk_norm=True, impl=impl)
    x, context = draw(2, 7, 8), draw(2, 9, 8, seed=1)
    mask, context_mask = with_holes(2, 7, seed=5), with_holes(2, 9, seed=6)
    results = []
    for filling in (0.0, float("nan")):
        tokens = x.masked_fill(~mask[..., None], filling).requires_grad_()
        seen = context.masked_fill(~context_mask[..., None], filling).requires_grad_()
        y = layer(tokens, key_mask=mask, context=seen, context_grid=(9,), context_mask=context_mask)
        results.append([y, *torch.autograd.grad(y.square().sum(), [tokens, seen, *layer.parameters()])])
    for clean, dirty in zip(*results, strict=True):
        assert torch.equal(clean, dirty)


@every_implementation
@pytest.mark.parametrize(("options", "grid"), [*GRIDS.values(), ({"landmarks": (3,)}, (12,))])
def test_masked_rows_and_fully_masked_samples_are_exactly_zero_after_the_projection(impl, options, grid):
    layer = make_layer(impl=impl, **options)
    assert layer.proj.bias.all()
    x = draw(3, layer.num_prefix_tokens + prod(grid), 8).requires_grad_()
    mask = with_holes(3, x.shape[1], seed=5)
    mask[1] = False
    y = layer(x, grid=grid, key_mask=mask)
    assert not y[~mask].any()
    assert y[mask].all()
    gradients = torch.autograd.grad(y.square().sum(), [x, *layer.parameters()])
    assert not gradients[0][1].any()
    assert all(gradient.isfinite().all() for gradient in gradients)


@every_implementation
def test_a_batch_that_is_masked_altogether_gives_zeros_and_zero_gradients(impl):
    layer = make_layer(landmarks=(3,), impl=impl)
    x = draw(2, 5, 8).requires_grad_()
    y = layer(x, key_mask=torch.zeros(2, 5).bool())
    assert not y.any()
    gradients = torch.autograd.grad(y.sum(), [x, *layer.parameters()], materialize_grads=True)
    assert not any(gradient.any() for gradient in gradients)


@every_implementation
def test_a_sample_without_context_is_exactly_zero(impl):
    layer = make_layer(landmarks=(3,), impl=impl)
    context_mask = up_to([0, 4], 6)
    y = layer(draw(2, 5, 8), context=draw(2, 6, 8), context_grid=(6,), context_mask=context_mask)
    assert not y[0].any()
    assert y[1].all()


@every_implementation
def test_samples_of_a_batch_never_influence_each_other(impl):
    layer = make_layer(landmarks=(2, 2), local_kernel=3, impl=impl)
    x, mask = draw(3, 12, 8), with_holes(3, 12)
    expected = layer(x, grid=(3, 4), key_mask=mask)
    x[1] = float("nan")
    actual = layer(x, grid=(3, 4), key_mask=mask)
    assert torch.equal(actual[[0, 2]], expected[[0, 2]])


@every_implementation
@pytest.mark.parametrize(("options", "grid"), [({"landmarks": (3, 4)}, (9, 7)), ({"landmarks": (5,)}, (63,))])
def test_a_mask_of_ones_changes_nothing(impl, options, grid):
    layer = make_layer(impl=impl, **options)
    x = draw(2, 63, 8)
    masked = layer(x, grid=grid, key_mask=torch.ones(2, 63).bool())
    torch.testing.assert_close(masked, layer(x, grid=grid), rtol=1e-11, atol=1e-12)


@every_implementation
def test_repeated_runs_with_a_mask_are_bit_identical(impl):
    layer = make_layer(landmarks=(7,), impl=impl).float()
    x, mask = draw(3, 500, 8).float(), with_holes(3, 500)
    runs = []
    for _ in range(2):
        y = layer(x, key_mask=mask)
        runs.append([y, *torch.autograd.grad(y.square().sum(), list(layer.parameters()))])
    for first, second in zip(*runs, strict=True):
        assert torch.equal(first, second)


@every_implementation
def test_a_masked_prefix_token_is_no_landmark_and_no_key(impl):
    layer = make_layer(landmarks=(4,), num_prefix_tokens=2, impl=impl)
    x, mask = draw(3, 2 + 9, 8), with_holes(3, 2 + 9, prefix=2)
    mask[0, 0] = mask[1, 1] = False
    mask[2, :2] = False
    expected = dense_layer(layer, x, grid=(9,), key_mask=mask)
    torch.testing.assert_close(layer(x, grid=(9,), key_mask=mask), expected, rtol=1e-10, atol=1e-11)
