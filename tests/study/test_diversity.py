"""How different heads are: nothing between equal ones, everything between uncorrelated ones."""

import pytest
import torch
from torch import nn

from crosshead import InteractiveAttention
from crosshead.rivals.softmax import SoftmaxAttention
from crosshead.study.diversity import head_diversity, mean_similarity


@pytest.fixture
def head():
    torch.manual_seed(0)
    return torch.randn(1, 40, 4, dtype=torch.float64)


def rotation(size: int) -> torch.Tensor:
    return torch.linalg.qr(torch.randn(size, size, dtype=torch.float64))[0]


def test_identical_heads_are_alike(head):
    assert float(mean_similarity(head.expand(5, -1, -1))) == pytest.approx(1, abs=1e-12)


def test_orthogonal_heads_are_not():
    columns = torch.linalg.qr(torch.randn(40, 9, dtype=torch.float64) - 0)[0]
    centred = torch.cat([torch.ones(40, 1, dtype=torch.float64), columns], 1)
    # Eight directions, at right angles to each other and to the constant one.
    directions = torch.linalg.qr(centred)[0][:, 1:9]
    heads = torch.stack([directions[:, :4], directions[:, 4:]])
    assert float(mean_similarity(heads)) == pytest.approx(0, abs=1e-12)


def test_rotations_scales_and_shifts_of_a_head_change_nothing(head):
    other = torch.randn(1, 40, 4, dtype=torch.float64)
    before = mean_similarity(torch.cat([head, other]))
    after = mean_similarity(torch.cat([7 * head @ rotation(4) + 3, other]))
    assert 0 < before < 1
    torch.testing.assert_close(after, before, rtol=1e-10, atol=0)


def test_similarity_is_its_definition_averaged_over_pairs(head):
    heads = torch.randn(3, 40, 4, dtype=torch.float64)
    centring = torch.eye(40, dtype=torch.float64) - 1 / 40
    grams = [centring @ x @ x.T @ centring for x in heads]

    def alignment(one, other):
        return (one * other).sum() / (one.norm() * other.norm())

    pairs = [alignment(grams[i], grams[j]) for i, j in ((0, 1), (0, 2), (1, 2))]
    torch.testing.assert_close(mean_similarity(heads), torch.stack(pairs).mean(), rtol=1e-10, atol=0)


def test_a_layer_whose_heads_are_copies_has_no_diversity():
    layer = InteractiveAttention(16, 4, landmarks=(3,)).double()
    for block in layer.qkv.weight.data.unflatten(0, (3, 4, 4)):
        block[:] = block[:1].clone()
    for block in layer.qkv.bias.data.unflatten(0, (3, 4, 4)):
        block[:] = block[:1].clone()
    found = head_diversity(layer, torch.randn(2, 9, 16, dtype=torch.float64))
    assert found == pytest.approx(0, abs=1e-10)


def test_layers_count_alike_and_samples_are_seen_once():
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one = InteractiveAttention(16, 4, landmarks=(3,))
            self.other = SoftmaxAttention(16, 2, grid=(3, 3))
            self.drop = nn.Dropout(0.5)

        def forward(self, x):
            return self.other(self.drop(self.one(x)), grid=(3, 3))

    model, x = Two().train(), torch.randn(2, 9, 16)
    found = head_diversity(model, x)
    # The one before the other, so that the other sees what it gives.
    first = head_diversity(model.one, x)
    with torch.no_grad():
        hidden = model.one(x)
    second = head_diversity(_Called(model.other), hidden)
    assert first is not None
    assert second is not None
    assert found == pytest.approx((first + second) / 2)
    assert model.training
    assert head_diversity(model, x) == found


class _Called(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return self.layer(x, grid=(3, 3))


def test_where_there_are_no_two_heads_there_is_no_diversity():
    assert head_diversity(nn.Linear(4, 4), torch.randn(2, 4)) is None
    assert head_diversity(InteractiveAttention(16, 1, landmarks=(3,)), torch.randn(2, 9, 16)) is None


def test_weights_and_hooks_are_left_as_they_were():
    layer = InteractiveAttention(16, 4, landmarks=(3,))
    head_diversity(layer, torch.randn(2, 9, 16))
    assert not layer.proj._forward_pre_hooks
    assert all(parameter.grad is None for parameter in layer.parameters())
