"""One training: exactly the samples that were asked for, the same bits every time, and how heads differ."""

import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from crosshead import InteractiveAttention
from crosshead.rivals.softmax import SoftmaxAttention
from crosshead.study import training
from crosshead.study.execution import Place, run_study
from crosshead.study.options import RivalsOptions
from crosshead.study.plans import Candidate
from crosshead.study.sources import load_samples
from crosshead.study.training import (
    STRETCHES,
    StretchLoaders,
    head_diversity,
    run_trial,
)
from crosshead.study.trial import Ledger


@pytest.fixture(scope="module")
def samples():
    return load_samples("digits", split="validation", size=8, data_dir=None)


@pytest.fixture
def stretches(samples, make_trial):
    """The images that each stretch of a training reads, in order, from its loaders."""

    def read(**changes) -> tuple[list[list[int]], int]:
        loaders = StretchLoaders(samples, make_trial(**changes))
        found = []
        for stretch in range(STRETCHES):
            loaders.trainer = SimpleNamespace(current_epoch=stretch)  # pyright: ignore
            loader = loaders.train_dataloader()
            assert len(loader) == loaders.steps
            found.append(list(loader.dataset.indices))  # pyright: ignore
        return found, len(loader.dataset.dataset)  # pyright: ignore

    return read


@pytest.mark.parametrize(
    ("asked", "batch", "seen"), [(640, 16, 640), (959, 16, 640), (960, 16, 960), (1, 16, 320), (1000, 7, 980)]
)
def test_samples_are_those_asked_for_rounded_down_to_whole_steps_of_all_stretches(
    stretches, asked, batch, seen
):
    found, _ = stretches(samples=asked, batch_size=batch)
    assert [len(stretch) for stretch in found] == [seen // STRETCHES] * STRETCHES


def test_every_pass_sees_every_image_once_in_another_order(stretches):
    found, images = stretches(samples=5_000, batch_size=25)
    stream = [image for stretch in found for image in stretch]
    assert len(stream) == 5_000
    passes = [stream[start : start + images] for start in range(0, len(stream), images)]
    assert len(passes) == 4
    assert all(sorted(one) == list(range(images)) for one in passes[:3])
    assert len(set(passes[3])) == len(passes[3])
    assert passes[0] != passes[1] != passes[2]


def test_a_stretch_longer_than_the_data_still_sees_every_image_equally_often(stretches):
    found, images = stretches(samples=STRETCHES * 3_000, batch_size=100)
    counts = torch.bincount(torch.tensor([image for stretch in found for image in stretch]))
    assert len(counts) == images
    assert counts.max() - counts.min() <= 1


def test_the_order_is_a_function_of_the_seed(stretches):
    one, again, other = stretches(seed=0), stretches(seed=0), stretches(seed=1)
    assert one == again
    assert one != other


def test_candidates_with_one_seed_see_the_same_batches(monkeypatch, make_trial):
    seen: dict[str, list[tuple]] = {}
    step = training.Classifier.training_step

    def look(module, batch, batch_idx):
        seen[name].append((batch[0].clone(), batch[1].clone()))
        return step(module, batch, batch_idx)

    monkeypatch.setattr(training.Classifier, "training_step", look)
    for name in ("interactive:mixing=both", "interactive:mixing=none"):
        seen[name] = []
        run_trial(make_trial(attention=name, samples=320, seed=3))
    both, none = seen.values()
    assert len(both) == len(none) == 20
    for (images, labels), (others, other_labels) in zip(both, none, strict=True):
        assert torch.equal(images, others)
        assert torch.equal(labels, other_labels)


@pytest.fixture(scope="module")
def straight(make_trial):
    told = []
    return run_trial(make_trial(split="validation"), tell=told.append), told


def without_clock(result):
    return {name: value for name, value in result.items() if name != "train_seconds"}


@pytest.mark.parametrize("workers", [0, 1])
def test_the_same_trial_gives_the_same_bits_with_any_number_of_workers(straight, make_trial, workers):
    torch.rand(5)
    result = run_trial(make_trial(split="validation"), workers=workers)
    assert without_clock(result) == without_clock(straight[0])


def test_another_seed_gives_another_result(straight, make_trial):
    assert run_trial(make_trial(split="validation", seed=1))["loss"] != straight[0]["loss"]


def test_a_result_is_complete_and_progress_adds_up(straight):
    result, told = straight
    assert told == [32] * STRETCHES
    assert 0 <= result["accuracy"] <= 1
    assert result["loss"] > 0
    assert 0 < result["head_diversity"] < 1
    assert result["parameters"] == 2760


def test_it_learns(make_trial):
    result = run_trial(make_trial(samples=3_200, batch_size=40, learning_rate=0.01))
    assert result["accuracy"] > 0.3
    assert result["loss"] < math.log(10)


def test_a_training_that_diverges_has_a_row_without_accuracy_and_the_study_goes_on(
    tmp_path, tiny, place: Place, monkeypatch, trained
):
    from crosshead.study import execution

    def run(trial, place, ticks):
        trained.append(trial)
        return run_trial(trial)

    monkeypatch.setattr(execution, "_run", run)
    options = RivalsOptions(
        data="digits", learning_rates=(1e9, 1e-3), seeds=1, samples=320, select_samples=320
    )
    ledger = Ledger(tmp_path / "results.csv")
    run_study([Candidate("softmax", tiny, options, "32-true")], ledger, place, arguments=[])
    diverged, tried, published = Ledger(ledger.path).rows
    assert (diverged["accuracy"], diverged["loss"]) == ("nan", "nan")
    assert diverged["learning_rate"] == "1000000000.0"
    assert float(tried["accuracy"]) >= 0
    assert (published["split"], published["learning_rate"]) == ("test", "0.001")
    assert float(published["loss"]) < 3


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
