"""A map that survives the loss of all weights tells of the image alone, and the check says so."""

from typing import Any

import pytest
import torch
from scipy.stats import spearmanr
from torch import nn

from crosshead.explain.record import record
from crosshead.explain.relevance import relevance
from crosshead.explain.sanity import rank_correlation, shuffled_weights
from crosshead.vision import IViT

IMAGES = torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def net() -> nn.Module:
    torch.manual_seed(0)
    net = IViT(
        num_classes=3,
        stem_stride=2,
        depths=(1, 1, 2, 1),
        dims=(8, 8, 16, 16),
        head_dim=8,
        landmarks=2,
        kernel_size=3,
    ).eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return net


def relevance_of(net: nn.Module) -> torch.Tensor:
    with record(net, gradients=True) as recording:
        scores = net(IMAGES)
    return relevance(recording, scores[:, 1].sum())


def brightness(net: nn.Module) -> torch.Tensor:
    return IMAGES.mean(1)


def spearman(first: torch.Tensor, second: torch.Tensor) -> float:
    found: Any = spearmanr(first, second)
    return found.statistic


def survival(explain, net: nn.Module) -> float:
    return float(rank_correlation(explain(net), explain(shuffled_weights(net))).mean())


def test_a_map_that_ignores_weights_survives_and_relevance_does_not(net):
    assert survival(brightness, net) == pytest.approx(1)
    assert survival(relevance_of, net) < 0.5


def test_shuffled_weights_are_the_same_numbers_elsewhere(net):
    before = {name: weight.clone() for name, weight in net.named_parameters()}
    shuffled = dict(shuffled_weights(net).named_parameters())
    assert shuffled.keys() == before.keys()
    for name, weight in net.named_parameters():
        assert torch.equal(weight, before[name])
        assert torch.equal(shuffled[name].flatten().sort().values, weight.flatten().sort().values)
        assert weight.numel() < 8 or not torch.equal(shuffled[name], weight)
    again = shuffled_weights(net).state_dict()
    other = shuffled_weights(net, seed=1).state_dict()
    assert all(torch.equal(shuffled[name], again[name]) for name in shuffled)
    assert not torch.equal(shuffled["head.fc.weight"], other["head.fc.weight"])


def test_parts_are_shuffled_alone(net):
    shuffled = dict(shuffled_weights(net, ["head", "stages.3"]).named_parameters())
    changed = {name for name, weight in net.named_parameters() if not torch.equal(shuffled[name], weight)}
    within = {name for name in shuffled if name.startswith(("head.", "stages.3."))}
    # Two or four numbers may fall into the order that they had.
    assert {name for name in within if shuffled[name].numel() > 4} <= changed <= within


def test_a_part_that_does_not_exist(net):
    with pytest.raises(ValueError, match=r"no parameter lies in part 'stages.7'; .* stem, stages, "):
        shuffled_weights(net, "stages.7")
    with pytest.raises(ValueError, match="no parameter lies in part 'stage'"):
        shuffled_weights(net, "stage")


def test_rank_correlation_is_spearman_s():
    generator = torch.Generator().manual_seed(0)
    first, second = torch.randint(0, 6, (2, 3, 4, 5), generator=generator)  # with many equal numbers
    expected = [spearman(one.flatten(), other.flatten()) for one, other in zip(first, second, strict=True)]
    assert rank_correlation(first, second).tolist() == pytest.approx(expected)
    real = torch.randn(2, 3, 40, generator=generator)
    expected = [spearman(one, other) for one, other in zip(*real, strict=True)]
    assert rank_correlation(*real).tolist() == pytest.approx(expected, abs=1e-6)


def test_an_even_map_has_no_order():
    assert rank_correlation(torch.ones(1, 4), torch.rand(1, 4)).isnan().all()


def test_maps_of_other_shapes():
    with pytest.raises(ValueError, match=r"of one shape; got \(2, 4\) and \(2, 5\)"):
        rank_correlation(torch.ones(2, 4), torch.ones(2, 5))
