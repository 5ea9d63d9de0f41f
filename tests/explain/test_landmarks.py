"""Landmarks: the two factors are those whose product is the map, and listening is what their rows say."""

import math
from typing import Any

import pytest
import torch

from crosshead.explain.cells import landmark_cells
from crosshead.explain.landmarks import landmark_readers, landmark_sources, listening

EXACT: Any = {"rtol": 1e-10, "atol": 1e-12}


def test_readers_times_sources_are_the_map_of_the_oracle(case, recorded, dense_map):
    layer, x, arguments = case
    call = recorded(layer, x, **arguments)
    found = landmark_readers(call) @ landmark_sources(call)
    torch.testing.assert_close(found, dense_map(layer, x, **arguments), **EXACT)


@pytest.mark.parametrize("name", ["logits", "no mixing", "masked prefix", "cross, masked sequences"])
def test_without_weight_mixing_both_are_distributions(name, make_case, recorded):
    layer, x, arguments = make_case(name, mixing="logits")
    call = recorded(layer, x, **arguments)
    occupied, rows = call.pooling.landmark_mask, call.pooling.row_mask
    sources, readers = landmark_sources(call), landmark_readers(call)
    assert (sources >= 0).all()
    assert (readers >= 0).all()
    for sums, holds in ((sources.sum(-1), occupied), (readers.sum(-1), rows)):
        expected = torch.ones_like(sums) if holds is None else holds[:, None].expand_as(sums).double()
        torch.testing.assert_close(sums, expected, **EXACT)


def test_a_landmark_is_named_by_its_cell_or_its_number(make_case, recorded):
    layer, x, arguments = make_case("prefix")
    call = recorded(layer, x, **arguments)
    # Two prefix tokens, then cells in 2 rows of 3.
    everything = landmark_sources(call)
    assert everything.shape == (3, 4, 8, 22)
    torch.testing.assert_close(landmark_sources(call, (1, 2), heads=3), everything[:, 3:, 7:8])
    torch.testing.assert_close(landmark_readers(call, [1, (0, 0)]), landmark_readers(call)[..., [1, 2]])
    with pytest.raises(ValueError, match=r"landmark \(2, 0\) is outside the grid .* the nearest is \(1, 0\)"):
        landmark_sources(call, (2, 0))
    with pytest.raises(ValueError, match="landmark 8 is outside the grid"):
        landmark_readers(call, 8)


def test_tokens_listen_to_the_largest_weight(case, recorded):
    layer, x, arguments = case
    call = recorded(layer, x, **arguments)
    weights, found = landmark_readers(call), listening(call)
    size = weights.abs()
    assert torch.equal(found.landmark, size.argmax(-1))
    torch.testing.assert_close(found.weight.abs(), size.amax(-1))
    torch.testing.assert_close(found.weight, weights.gather(-1, found.landmark[..., None])[..., 0])
    for b, h, n in ((0, 0, 0), (1, 3, 7), (2, 1, 5)):
        shares = [float(w) for w in size[b, h, n] / size[b, h, n].sum()] if size[b, h, n].any() else []
        entropy = -sum(share * math.log(share) for share in shares if share > 0)
        assert float(found.entropy[b, h, n]) == pytest.approx(entropy, abs=1e-12)


def test_listening_of_some_tokens_is_that_part_of_all(make_case, recorded, monkeypatch):
    layer, x, arguments = make_case("weights")
    call = recorded(layer, x, **arguments)
    whole = listening(call)
    monkeypatch.setattr("crosshead.explain.factors.TILE_ELEMENTS", 0)
    monkeypatch.setattr("crosshead.explain.factors.SHORTEST_TILE", 2)
    for part, found in zip(whole, listening(call, [9, (0, 0), 4], heads=[2, 1]), strict=True):
        torch.testing.assert_close(found, part[:, [2, 1]][..., [9, 0, 4]])


def test_one_landmark_and_all_alike_are_the_ends_of_the_entropy(make_layer, recorded):
    layer = make_layer(mixing="none", landmarks=(2, 3))
    x = torch.randn(1, 24, 8, dtype=torch.float64)
    with torch.no_grad():
        layer.qkv.weight[:8], layer.qkv.bias[:8] = 0, 0
    assert float(listening(recorded(layer, x, grid=(4, 6))).entropy.min()) == pytest.approx(math.log(6))
    with torch.no_grad():
        layer.qkv.weight[:8] = 1e4 * torch.randn(8, 8)
    assert float(listening(recorded(layer, x, grid=(4, 6))).entropy.max()) < 1e-3


def test_landmarks_are_the_means_of_their_cells(case, recorded):
    layer, x, arguments = case
    call = recorded(layer, x, **arguments)
    sides: Any = (
        ("key", call.keys(slice(None)), call.key_landmarks),
        ("query", call.queries(slice(None)), call.query_landmarks),
    )
    for side, given, pooled in sides:
        cells = landmark_cells(call, side=side)
        assert (cells >= 0).all()
        torch.testing.assert_close(cells[:, None].double() @ given, pooled, rtol=1e-5, atol=1e-6)


def test_cells_have_two_sides(make_case, recorded):
    layer, x, arguments = make_case("cross")
    call = recorded(layer, x, **arguments)
    assert landmark_cells(call).shape == (3, 6, 21)
    assert landmark_cells(call, side="query").shape == (3, 6, 20)
    with pytest.raises(ValueError, match="side must be 'key' or 'query'; got 'left'"):
        landmark_cells(call, side="left")  # pyright: ignore[reportArgumentType]
