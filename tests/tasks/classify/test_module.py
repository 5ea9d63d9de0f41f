import lightning.pytorch as pl
import pytest
import torch
from timm.loss import BinaryCrossEntropy, LabelSmoothingCrossEntropy, SoftTargetCrossEntropy
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from crosshead.tasks.classify.module import Classifier, classification_loss
from crosshead.tasks.seeding import seed_everything


def separable(count: int = 64) -> DataLoader:
    """Images whose brightest quadrant is their class."""
    labels = torch.arange(count) % 4
    images = 0.1 * torch.randn(count, 1, 2, 2)
    images.view(count, 4)[torch.arange(count), labels] += 1.0
    return DataLoader(TensorDataset(images, labels), batch_size=16)


def classifier(**options) -> Classifier:
    return Classifier(nn.Sequential(nn.Flatten(), nn.Linear(4, 4)), num_classes=4, **options)


def fit(module: Classifier, *, epochs: int, callbacks=()) -> pl.Trainer:
    trainer = pl.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=list(callbacks),
    )
    trainer.fit(module, separable(), separable())
    return trainer


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({}, nn.CrossEntropyLoss),
        ({"smoothing": 0.1}, LabelSmoothingCrossEntropy),
        ({"smoothing": 0.1, "soft_targets": True}, SoftTargetCrossEntropy),
        ({"smoothing": 0.1, "binary": True}, BinaryCrossEntropy),
        ({"smoothing": 0.1, "class_weights": (1.0, 2.0)}, nn.CrossEntropyLoss),
    ],
)
def test_the_loss_fits_the_targets(options, kind):
    assert type(classification_loss(**options)) is kind


def test_weights_of_classes_make_it_the_weighted_mean():
    logits, labels = torch.randn(6, 3), torch.tensor([0, 0, 0, 1, 1, 2])
    weights = torch.tensor([0.5, 1.0, 4.0])
    logs = logits.log_softmax(1)
    chosen = -logs[torch.arange(6), labels]
    expected = (weights[labels] * chosen).sum() / weights[labels].sum()
    loss = classification_loss(class_weights=weights.tolist())
    torch.testing.assert_close(loss(logits, labels), expected)
    # Checkpoints do not depend on it.
    assert classifier(class_weights=(1.0,) * 4).state_dict().keys() == classifier().state_dict().keys()
    # Of mixed targets each class counts with its own weight.
    mixed = torch.nn.functional.one_hot(labels, 3) * 0.7 + 0.1
    soft = classification_loss(class_weights=weights.tolist(), soft_targets=True, smoothing=0.1)
    torch.testing.assert_close(soft(logits, mixed), -(weights * mixed * logs).sum(1).mean())


def test_a_separable_set_is_learned():
    seed_everything(0)
    metrics = fit(classifier(learning_rate=0.1), epochs=10).callback_metrics
    assert metrics["val_accuracy"] == 1.0
    assert metrics["train_accuracy"] > 0.9
    assert metrics["val_loss"] < 0.5


def test_mixed_images_are_learned_as_well():
    seed_everything(0)
    module = classifier(learning_rate=0.1, mixup=0.2, cutmix=1.0, smoothing=0.1)
    assert fit(module, epochs=10).callback_metrics["val_accuracy"] > 0.9


def test_the_learning_rate_warms_up_and_then_falls_after_every_update():
    rates = []

    class Watch(pl.Callback):
        def on_train_batch_end(self, trainer, *_):
            rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    fit(classifier(learning_rate=0.1, warmup_epochs=1, min_learning_rate=0.01), epochs=4, callbacks=[Watch()])
    assert len(rates) == 16
    assert rates[:3] == sorted(rates[:3])
    assert rates[3:] == sorted(rates[3:], reverse=True)
    assert max(rates) == pytest.approx(0.1, rel=0.1)
    assert rates[-1] == pytest.approx(0.01)


def test_biases_are_kept_from_weight_decay():
    trainer = fit(classifier(weight_decay=0.5), epochs=1)
    groups = trainer.optimizers[0].param_groups
    decay = {parameter.ndim: group["weight_decay"] for group in groups for parameter in group["params"]}
    assert decay == {1: 0.0, 2: 0.5}


def test_testing_counts_ranks_classes_and_confusions():
    module = classifier()
    module.model = nn.Flatten()
    images = torch.eye(4).view(4, 1, 2, 2) * 20
    module.test_step((images, torch.tensor([0, 1, 2, 2])), 0)
    measured = module.test_metrics.compute()
    assert measured["top1"] == 0.75
    assert measured["top5"] == 1.0
    assert measured["per_class"].tolist() == [1.0, 1.0, 0.5, 0.0]
    assert measured["confusion"].tolist() == [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 1], [0, 0, 0, 0]]
    assert measured["calibration_error"] == pytest.approx(0.25, abs=1e-3)
