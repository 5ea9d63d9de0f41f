"""Diversity of heads before and after they talk, by the definition of the similarity."""

from itertools import combinations
from typing import Any

import pytest
import torch

from crosshead import InteractiveAttention
from crosshead.explain.diversity import head_diversity
from crosshead.explain.record import record


def similarity(one: torch.Tensor, other: torch.Tensor) -> float:
    """Of two heads, (tokens, D)."""
    one, other = one - one.mean(0), other - other.mean(0)
    return float((one.T @ other).norm() ** 2 / ((one.T @ one).norm() * (other.T @ other).norm()))


@pytest.mark.parametrize("name", ["image", "masked sequence", "groups"])
def test_diversity_is_one_minus_the_mean_similarity_of_what_heads_give(name, make_case, monkeypatch):
    monkeypatch.setattr("crosshead.explain.factors.TILE_ELEMENTS", 0)
    monkeypatch.setattr("crosshead.explain.factors.SHORTEST_TILE", 3)
    layer, x, arguments = make_case(name)
    with torch.no_grad(), record(layer, gradients=True) as recording:
        layer(x, **arguments)
        for mixer in (layer.query_mixing, layer.key_mixing):
            for matrix in mixer.parameters():
                matrix.data *= torch.eye(matrix.shape[-1]).double()
        layer(x, **arguments)
    calls: Any = recording.calls
    after, before = (call.output.transpose(0, 1)[:, _valid(call)] for call in calls)
    found = head_diversity(calls[0])
    for diversity, matrix, heads in (
        (found.before, found.similarity_before, before),
        (found.after, found.similarity_after, after),
    ):
        pairs = {(g, h): similarity(heads[g], heads[h]) for g, h in combinations(range(4), 2)}
        assert diversity == pytest.approx(1 - sum(pairs.values()) / 6)
        for (g, h), expected in pairs.items():
            assert float(matrix[g, h]) == pytest.approx(expected)
    assert found.before != pytest.approx(found.after, abs=1e-3)


def _valid(call) -> torch.Tensor:
    rows = call.pooling.row_mask
    return torch.ones(call.x.shape[:2], dtype=torch.bool) if rows is None else rows


def test_a_single_head_has_nothing_to_compare():
    layer = InteractiveAttention(8, 1, landmarks=(3,))
    with record(layer) as recording:
        layer(torch.randn(1, 9, 8))
    with pytest.raises(ValueError, match="must have two heads or more to compare; it has 1"):
        head_diversity(recording[0])
