"""Change detection: what counts, what does not, and that the metrics are those of scikit-learn."""

import math

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, cohen_kappa_score, f1_score, log_loss, roc_auc_score
from torch import Tensor, nn
from torch.testing import assert_close
from torch.utils.data import DataLoader

from crosshead.tasks.change.crops import PairCrops
from crosshead.tasks.change.data import WholePairs
from crosshead.tasks.change.evaluation import ChangeMetrics
from crosshead.tasks.change.module import ChangeDetector
from crosshead.tasks.change.net import SiameseNet
from crosshead.tasks.change.pairs import ImagePair
from crosshead.tasks.seeding import seed_everything

TWO, THREE = ("unchanged", "changed"), ("same", "grown", "shrunk")


class Difference(nn.Module):
    """Takes the difference of the dates, channel k, for the score of class k."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, before: Tensor, after: Tensor) -> Tensor:
        return (after - before) * self.scale


def noisy_pair(classes: tuple[str, ...], *, height: int = 30, width: int = 23) -> ImagePair:
    """A pair whose channels are the scores of its classes, right more often than not; half is labelled."""
    random = np.random.default_rng(0)
    truth = random.choice(
        len(classes), (height, width), p=[0.7, *[0.3 / (len(classes) - 1)] * (len(classes) - 1)]
    )
    before = random.normal(size=(len(classes), height, width)).astype(np.float32)
    after = before + random.normal(size=before.shape).astype(np.float32)
    after += np.moveaxis(np.eye(len(classes), dtype=np.float32)[truth], -1, 0)
    label = np.where(random.random((height, width)) < 0.5, truth + 1, 0).astype(np.uint8)
    return ImagePair(name="noisy", before=before, after=after, label=label, bands=classes)


def trainer(**options) -> pl.Trainer:
    return pl.Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **options,
    )


def loader(*pairs: ImagePair) -> DataLoader:
    return DataLoader(WholePairs(pairs))


def measured(*pairs: ImagePair, classes: tuple[str, ...] = TWO) -> tuple[ChangeMetrics, dict[str, float]]:
    """What `trainer.test` measures of some pairs, in windows, and what `trainer.validate` logs."""
    module = ChangeDetector(Difference(), classes=classes, tile=16)
    (logged,) = trainer().validate(module, loader(*pairs), verbose=False)
    assert module.metrics is None
    assert trainer().test(module, loader(*pairs), verbose=False) == [{}]
    assert module.metrics is not None
    return module.metrics, dict(logged)


def labelled(pair: ImagePair) -> tuple[np.ndarray, np.ndarray]:
    """Classes from 0 (n,) and probabilities (n, K) of the labelled pixels of the whole image."""
    probabilities = torch.from_numpy(pair.after - pair.before).softmax(0).numpy()
    return pair.label[pair.label > 0].astype(int) - 1, probabilities[:, pair.label > 0].T


@pytest.mark.parametrize("classes", [TWO, THREE])
def test_the_metrics_are_those_of_scikit_learn_over_all_labelled_pixels(classes):
    pair = noisy_pair(classes)
    truth, probabilities = labelled(pair)
    found, logged = measured(pair, classes=classes)
    guess = probabilities.argmax(1)
    per_class = {name: f1_score(truth == number, guess == number) for number, name in enumerate(classes)}
    scores, average = (probabilities[:, 1], "binary") if classes == TWO else (probabilities, "macro")
    expected = {
        "accuracy": accuracy_score(truth, guess),
        "kappa": cohen_kappa_score(truth, guess),
        "f1": f1_score(truth, guess, average=average),
        "auc": roc_auc_score(truth, scores, multi_class="ovr"),
    }
    assert {name: getattr(found, name) for name in expected} == pytest.approx(expected, abs=1e-6)
    assert found.per_class_f1 == pytest.approx(per_class)
    assert [sum(row) for row in found.confusion] == np.bincount(truth).tolist()
    expected = {f"val_{name}": value for name, value in expected.items()}
    assert logged == pytest.approx({**expected, "val_loss": log_loss(truth, probabilities)}, abs=1e-5)


def test_the_metrics_of_several_pairs_are_over_all_their_pixels_alike():
    small, large = noisy_pair(TWO, height=9, width=9), noisy_pair(TWO, height=40, width=33)
    found, logged = measured(small, large)
    parts = [measured(pair)[0].confusion for pair in (small, large)]
    assert found.confusion == np.sum(parts, axis=0).tolist()
    truth, probabilities = (
        np.concatenate(both) for both in zip(labelled(small), labelled(large), strict=True)
    )
    assert logged["val_loss"] == pytest.approx(log_loss(truth, probabilities), abs=1e-5)
    assert logged["val_auc"] == pytest.approx(roc_auc_score(truth, probabilities[:, 1]), abs=1e-6)


def test_a_net_that_is_sure_and_wrong_has_a_finite_loss():
    pair = noisy_pair(TWO)
    pair.after[0] += 1e4
    assert math.isfinite(measured(pair)[1]["val_loss"])


@pytest.mark.parametrize("only", [1, 2])
def test_labels_of_one_class_have_no_curve(only):
    pair = noisy_pair(TWO)
    pair.label[pair.label > 0] = only
    found, logged = measured(pair)
    assert found.auc is None
    assert math.isnan(logged["val_auc"])
    assert found.kappa == pytest.approx(0, abs=1e-12)


def test_a_set_without_labels_is_measured_without_a_crash():
    pair = noisy_pair(TWO)
    pair.label[:] = 0
    found, logged = measured(pair)
    assert found.confusion == [[0, 0], [0, 0]]
    assert math.isnan(logged["val_accuracy"])


def test_measuring_twice_counts_once():
    pair = noisy_pair(TWO)
    module = ChangeDetector(Difference(), classes=TWO)
    found = []
    for _ in range(2):
        trainer().validate(module, loader(pair), verbose=False)
        trainer().test(module, loader(pair), verbose=False)
        found.append(module.metrics)
    assert found[0] == found[1]
    assert found[0] is not None
    assert sum(map(sum, found[0].confusion)) == (pair.label > 0).sum()


def step(label: Tensor, *, poison: bool = False) -> tuple[float, Tensor]:
    """Loss and gradient of a training step with these labels (1, 2, 3)."""
    module = ChangeDetector(Difference(), classes=TWO)
    module.log = lambda *_, **__: None  # pyright: ignore[reportAttributeAccessIssue]
    before, after = torch.randn(2, 1, 2, 2, 3, generator=torch.Generator().manual_seed(0))
    if poison:
        after[(label == 0)[:, None].expand_as(after)] = 1e4
    loss = module.training_step((before, after, label), 0)["loss"]
    loss.backward()
    assert module.model.scale.grad is not None
    return loss.item(), module.model.scale.grad


def test_unlabelled_pixels_count_for_nothing():
    label = torch.tensor([[[0, 1, 2], [2, 0, 0]]])
    loss, gradient = step(label)
    same_loss, same_gradient = step(label, poison=True)
    assert loss == same_loss > 0
    assert_close(gradient, same_gradient, rtol=0, atol=0)


def test_the_loss_is_the_mean_over_labelled_pixels():
    generator = torch.Generator().manual_seed(0)
    before, after = torch.randn(2, 1, 2, 2, 3, generator=generator)
    label = torch.tensor([[[0, 1, 2], [2, 0, 0]]])
    expected = nn.functional.cross_entropy(after - before, label - 1, ignore_index=-1)
    assert step(label)[0] == pytest.approx(expected.item())


def test_a_batch_without_labels_has_no_loss_and_no_gradient():
    loss, gradient = step(torch.zeros(1, 2, 3, dtype=torch.int64))
    assert (loss, gradient.item()) == (0, 0)


def test_one_class_is_refused():
    with pytest.raises(ValueError, match="classes must be two or more"):
        ChangeDetector(Difference(), classes=("changed",))


def test_a_bright_square_that_appears_is_learned():
    seed_everything(0)
    random = np.random.default_rng(0)
    before = random.normal(scale=0.5, size=(3, 48, 40)).astype(np.float32)
    after = before + random.normal(scale=0.5, size=before.shape).astype(np.float32)
    label = np.ones((48, 40), np.uint8)
    label[12:30, 8:20] = 2
    after[:, label == 2] += 2
    label[random.random(label.shape) < 0.5] = 0
    pair = ImagePair(name="square", before=before, after=after, label=label, bands=("r", "g", "b"))
    net = SiameseNet(
        "ivit_nano", in_chans=3, dim=8, detail_dim=8, depths=(1, 1, 1, 1), dims=(8, 16, 16, 32), stem_stride=1
    )
    module = ChangeDetector(net, classes=TWO, tile=32, learning_rate=5e-3)
    fitted = trainer(max_epochs=2)
    crops = PairCrops([pair], size=24, count=80, symmetries=True)
    fitted.fit(module, DataLoader(crops, batch_size=8), loader(pair))
    metrics = fitted.callback_metrics
    assert metrics.keys() >= {*ChangeDetector.columns, "step_loss"}
    assert metrics["val_f1"] > 0.95
    assert metrics["val_auc"] > 0.99
    assert metrics["train_loss"] < 0.5
