"""The forms of interactive attention that the ablation asks about, against definitions in float64."""

import pytest
import torch
from torch.nn import functional as F

from crosshead import InteractiveAttention
from crosshead.study.variants import (
    LowRankMixing,
    OneFactor,
    RandomMixing,
    SlowMixing,
    StridedLandmarks,
    TwoLayers,
    project,
)

DIM, HEADS, GRID = 24, 4, (6, 4)
LANDMARKS = (3, 2)


def same_weights(layer, **options) -> InteractiveAttention:
    """The library's layer with the weights of another, as far as it has them."""
    usual = InteractiveAttention(DIM, HEADS, landmarks=LANDMARKS, **options).double()
    usual.load_state_dict(layer.state_dict(), strict=False)
    return usual


def randomise(layer):
    for parameter in layer.parameters():
        parameter.data = torch.randn(parameter.shape, dtype=torch.float64) / 3
    return layer.double()


@pytest.fixture
def x():
    torch.manual_seed(1)
    return torch.randn(2, 24, DIM, dtype=torch.float64)


@pytest.mark.parametrize(("factor", "silent"), [("query", "key_mixing"), ("key", "query_mixing")])
def test_one_factor_is_the_layer_with_the_matrices_of_the_other_zero(x, factor, silent):
    layer = randomise(OneFactor(DIM, HEADS, landmarks=LANDMARKS, factor=factor))
    usual = same_weights(layer)
    for matrix in getattr(usual, silent).parameters():
        assert not matrix.any()
    torch.testing.assert_close(layer(x, grid=GRID), usual(x, grid=GRID), rtol=1e-12, atol=1e-12)
    speaking = {"query": "query_mixing", "key": "key_mixing"}[factor]
    assert len(list(getattr(layer, speaking).parameters())) == 2
    assert not list(getattr(layer, silent).parameters())
    # And the matrices it has do something.
    plain = same_weights(layer, mixing="none")
    assert (layer(x, grid=GRID) - plain(x, grid=GRID)).abs().max() > 1e-3


def test_one_factor_is_query_or_key():
    with pytest.raises(ValueError, match="factor must be query or key; got 'both'"):
        OneFactor(DIM, HEADS, landmarks=LANDMARKS, factor="both")  # pyright: ignore


def test_two_fresh_layers_are_no_mixing(x):
    layer = TwoLayers(DIM, HEADS, landmarks=LANDMARKS).double()
    torch.testing.assert_close(
        layer(x, grid=GRID), same_weights(layer, mixing="none")(x, grid=GRID), rtol=1e-12, atol=1e-12
    )
    assert all(matrix.any() for matrix in layer.inner_mixing)


def test_two_layers_are_their_dense_formula(x):
    layer = randomise(TwoLayers(DIM, HEADS, landmarks=LANDMARKS))
    q, k, v = layer.qkv(x).chunk(3, -1)
    ql, kl = (F.adaptive_avg_pool2d(y.mT.unflatten(2, GRID), LANDMARKS).flatten(2).mT for y in (q, k))
    size = DIM // HEADS

    def factor(rows, columns, number):
        weights = [
            (
                rows[..., h * size : (h + 1) * size] @ columns[..., h * size : (h + 1) * size].mT / size**0.5
            ).softmax(-1)
            for h in range(HEADS)
        ]
        inner, outer = layer.inner_mixing[number], layer.outer_mixing[number]
        hidden = [F.gelu(sum(inner[g, h] * weights[h] for h in range(HEADS))) for g in range(HEADS)]  # pyright: ignore
        return [weights[g] + sum(outer[g, h] * hidden[h] for h in range(HEADS)) for g in range(HEADS)]

    queries, keys = factor(q, kl, 0), factor(ql, k, 1)
    heads = [queries[h] @ keys[h] @ v[..., h * size : (h + 1) * size] for h in range(HEADS)]
    expected = layer.proj(torch.cat(heads, -1))
    torch.testing.assert_close(layer(x, grid=GRID), expected, rtol=1e-12, atol=1e-12)


def test_every_matrix_of_two_layers_is_learned(x):
    layer = randomise(TwoLayers(DIM, HEADS, landmarks=LANDMARKS))
    layer(x, grid=GRID).square().sum().backward()
    for matrix in (*layer.inner_mixing, *layer.outer_mixing):
        assert matrix.grad is not None
        assert matrix.grad.abs().min() > 0


def test_fresh_strided_landmarks_are_averages(x):
    layer = StridedLandmarks(DIM, HEADS, landmarks=LANDMARKS, cell=2).double()
    torch.testing.assert_close(layer(x, grid=GRID), same_weights(layer)(x, grid=GRID), rtol=1e-12, atol=1e-12)


def test_strided_landmarks_weigh_the_tokens_of_their_cell(x):
    layer = StridedLandmarks(DIM, HEADS, landmarks=LANDMARKS, cell=2).double()
    layer.pooling.data.zero_()
    layer.pooling.data[:, :, 0, 1] = 1
    # Landmarks are the upper right tokens of their cells: two more copies of these in the place of the others
    # change keys and values, but no landmark.
    plain = same_weights(layer)
    corner = x.unflatten(1, GRID)[:, ::2, 1::2]
    ql, kl, _ = project(plain, corner.flatten(1, 2))
    q, k, v = project(plain, x)
    scale = q.shape[-1] ** -0.5
    out = (q @ kl.mT * scale).softmax(-1) @ ((ql @ k.mT * scale).softmax(-1) @ v)
    expected = plain.proj(out.transpose(1, 2).flatten(2))
    torch.testing.assert_close(layer(x, grid=GRID), expected, rtol=1e-12, atol=1e-12)


def test_strided_landmarks_need_cells_of_one_size(x):
    layer = StridedLandmarks(DIM, HEADS, landmarks=LANDMARKS, cell=3).double()
    with pytest.raises(
        ValueError, match=r"cell=3 with landmarks=\(3, 2\) needs the grid \(9, 6\); got \(6, 4\)"
    ):
        layer(x, grid=GRID)


def test_random_mixing_differs_from_the_layer_in_its_start_alone(x):
    torch.manual_seed(0)
    layer = RandomMixing(DIM, HEADS, landmarks=LANDMARKS, std=0.5).double()
    usual = InteractiveAttention(DIM, HEADS, landmarks=LANDMARKS).double()
    assert layer.state_dict().keys() == usual.state_dict().keys()
    assert (layer(x, grid=GRID) - same_weights(layer, mixing="none")(x, grid=GRID)).abs().max() > 1e-3
    torch.testing.assert_close(layer(x, grid=GRID), same_weights(layer)(x, grid=GRID), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("heads", [16, 64])
def test_the_spread_of_random_mixing_falls_with_the_heads(heads):
    torch.manual_seed(0)
    layer = RandomMixing(heads, heads, landmarks=LANDMARKS, std=0.5)
    entries = torch.cat([p.flatten() for m in (layer.query_mixing, layer.key_mixing) for p in m.parameters()])
    assert len(entries) == 4 * heads**2
    assert float(entries.detach().std()) == pytest.approx(0.5 / heads**0.5, rel=0.1)


def test_slow_mixing_is_the_layer_with_scaled_matrices(x):
    layer = randomise(SlowMixing(DIM, HEADS, landmarks=LANDMARKS, scale=0.25))
    usual = same_weights(layer)
    for mixer in (usual.query_mixing, usual.key_mixing):
        for matrix in mixer.parameters():
            matrix.data *= 0.25
    torch.testing.assert_close(layer(x, grid=GRID), usual(x, grid=GRID), rtol=1e-12, atol=1e-12)
    with pytest.raises(ValueError, match="scale must be above 0; got 0"):
        SlowMixing(DIM, HEADS, landmarks=LANDMARKS, scale=0)


def test_slow_mixing_keeps_the_groups():
    layer = SlowMixing(DIM, HEADS, landmarks=LANDMARKS, scale=0.25, mixing_group_size=1)
    assert layer.key_mixing().weights.shape == (HEADS, 1, 1)


@pytest.mark.parametrize("mixing", ["logits", "both"])
def test_low_rank_mixing_is_the_layer_with_matrices_of_that_rank(x, mixing):
    layer = LowRankMixing(DIM, HEADS, landmarks=LANDMARKS, rank=2, mixing=mixing).double()
    plain = InteractiveAttention(DIM, HEADS, landmarks=LANDMARKS, mixing="none").double()
    plain.load_state_dict(
        {name: value for name, value in layer.state_dict().items() if name in plain.state_dict()}
    )
    torch.testing.assert_close(layer(x, grid=GRID), plain(x, grid=GRID), rtol=1e-12, atol=1e-12)
    randomise(layer)
    found = layer.query_mixing()
    assert (found.weights is None) == (mixing == "logits")
    assert torch.linalg.matrix_rank(found.logits) == 2
    assert (layer(x, grid=GRID) - plain(x, grid=GRID)).abs().max() > 1e-3
    with pytest.raises(ValueError, match="rank must be at least 1; got 0"):
        LowRankMixing(DIM, HEADS, landmarks=LANDMARKS, rank=0)
