"""How alike heads are: by its definition, however it is counted."""

import pytest
import torch

from crosshead.measure.similarity import head_alignment, mean_similarity


def similarity(heads: torch.Tensor) -> torch.Tensor:
    return mean_similarity(head_alignment([heads]))


@pytest.fixture
def head():
    torch.manual_seed(0)
    return torch.randn(1, 40, 4, dtype=torch.float64)


def rotation(size: int) -> torch.Tensor:
    return torch.linalg.qr(torch.randn(size, size, dtype=torch.float64))[0]


def test_identical_heads_are_alike(head):
    assert float(similarity(head.expand(5, -1, -1))) == pytest.approx(1, abs=1e-12)


def test_orthogonal_heads_are_not():
    columns = torch.linalg.qr(torch.randn(40, 9, dtype=torch.float64) - 0)[0]
    centred = torch.cat([torch.ones(40, 1, dtype=torch.float64), columns], 1)
    # Eight directions, at right angles to each other and to the constant one.
    directions = torch.linalg.qr(centred)[0][:, 1:9]
    heads = torch.stack([directions[:, :4], directions[:, 4:]])
    assert float(similarity(heads)) == pytest.approx(0, abs=1e-12)


def test_rotations_scales_and_shifts_of_a_head_change_nothing(head):
    other = torch.randn(1, 40, 4, dtype=torch.float64)
    before = similarity(torch.cat([head, other]))
    after = similarity(torch.cat([7 * head @ rotation(4) + 3, other]))
    assert 0 < before < 1
    torch.testing.assert_close(after, before, rtol=1e-10, atol=0)


def test_similarity_is_its_definition_averaged_over_pairs(head):
    heads = torch.randn(3, 40, 4, dtype=torch.float64)
    centring = torch.eye(40, dtype=torch.float64) - 1 / 40
    grams = [centring @ x @ x.T @ centring for x in heads]

    def alignment(one, other):
        return (one * other).sum() / (one.norm() * other.norm())

    pairs = [alignment(grams[i], grams[j]) for i, j in ((0, 1), (0, 2), (1, 2))]
    torch.testing.assert_close(similarity(heads), torch.stack(pairs).mean(), rtol=1e-10, atol=0)


def test_tiles_of_tokens_give_what_all_tokens_give():
    heads = torch.randn(3, 41, 4, dtype=torch.float64) + 5
    whole, tiled = head_alignment([heads]), head_alignment(heads.split(7, dim=1))
    torch.testing.assert_close(tiled, whole, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(whole.diagonal(), torch.ones(3, dtype=torch.float64))


def test_a_constant_head_is_like_no_other(head):
    constant = torch.full((1, 40, 4), 0.1, dtype=torch.float64)
    assert float(similarity(torch.cat([head, constant, constant]))) == 0


def test_nothing_to_compare_is_told():
    with pytest.raises(ValueError, match="one token or more"):
        head_alignment([])
