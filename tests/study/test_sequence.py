"""A classifier of sequences that padding does not reach."""

import pytest
import torch

from crosshead import InteractiveAttention
from crosshead.rivals.softmax import SoftmaxAttention
from crosshead.study.sequence import SequenceClassifier, sinusoids

SAMPLE = torch.tensor([[3, 7, 15, 2, 9, 9, 4]])


def build(length: int, *, ours: bool) -> SequenceClassifier:
    torch.manual_seed(0)
    grid = (length,) if ours else (1, length)
    options = {"landmarks": (4,)} if ours else {"landmarks": (1, 4), "grid": grid}
    attention = InteractiveAttention if ours else SoftmaxAttention
    model = SequenceClassifier(
        attention, options, grid=grid, dim=16, depth=2, num_heads=4, hidden=32, vocabulary=16, num_classes=10
    ).double()
    # Every parameter other than its start, mixing matrices too.
    for parameter in model.parameters():
        parameter.data = torch.randn(parameter.shape, dtype=torch.float64) / 3
    return model


def padded(sample: torch.Tensor, length: int) -> torch.Tensor:
    return torch.nn.functional.pad(sample, (0, length - sample.shape[1]))


@pytest.mark.parametrize("ours", [True, False])
def test_padding_changes_nothing(ours):
    alone, longer = build(7, ours=ours), build(20, ours=ours)
    longer.load_state_dict(alone.state_dict())
    torch.testing.assert_close(longer(padded(SAMPLE, 20)), alone(SAMPLE), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("ours", [True, False])
def test_a_sample_is_the_same_in_any_batch(ours):
    model = build(20, ours=ours)
    other = torch.randint(1, 16, (1, 20))
    batch = torch.cat([padded(SAMPLE, 20), other])
    torch.testing.assert_close(model(batch)[:1], model(padded(SAMPLE, 20)), rtol=1e-12, atol=1e-12)


def test_what_is_learned_for_padding_counts_nothing():
    model = build(20, ours=True)
    before = model(padded(SAMPLE, 20))
    model.embedding.weight.data[0] = 1e3
    torch.testing.assert_close(model(padded(SAMPLE, 20)), before, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("ours", [True, False])
def test_the_order_of_tokens_matters(ours):
    model = build(7, ours=ours)
    assert (model(SAMPLE.flip(1)) - model(SAMPLE)).abs().max() > 1e-3


def test_an_empty_sequence_gives_finite_logits():
    assert build(7, ours=True)(torch.zeros(1, 7, dtype=torch.long)).isfinite().all()


def test_positions_are_those_of_the_paper_and_do_not_depend_on_the_length():
    import math

    positions = sinusoids(5, 4)
    for place in range(5):
        expected = [math.sin(place), math.sin(place / 100), math.cos(place), math.cos(place / 100)]
        assert positions[place].tolist() == pytest.approx(expected, abs=1e-6)
    assert torch.equal(sinusoids(9, 4)[:5], positions)
