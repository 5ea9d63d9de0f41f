from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Subset, TensorDataset

from crosshead.tasks.seeding import seed_everything
from crosshead.tasks.segment.module import Segmenter
from crosshead.tasks.segment.net import SegmentationNet

IGNORED = 255
CLASSES = ("background", "square", "stripe")
TINY = {"depths": (1, 1, 1, 1), "dims": (16, 32, 64, 64), "landmarks": (4, 4, 3, 2), "stem_stride": 1}


def shapes() -> tuple[torch.Tensor, torch.Tensor]:
    """Two grey images, each with a square and a stripe on noise, and their labels."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.zeros(2, 32, 32, dtype=torch.long)
    labels[0, 4:14, 6:18] = labels[1, 18:28, 3:12] = 1
    labels[0, 22:26] = labels[1, :, 20:25] = 2
    images = labels[:, None].float() - 1 + 0.3 * torch.randn(2, 1, 32, 32, generator=generator)
    return images, labels


def segmenter(model: nn.Module | None = None, **options: Any) -> Segmenter:
    options.setdefault("ignore_index", IGNORED)
    return Segmenter(model or nn.Conv2d(1, 3, 1), classes=CLASSES, **options)


def trainer(*, epochs: int = 1) -> pl.Trainer:
    return pl.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def loader(data: Any = None, **options) -> DataLoader:
    return DataLoader(data or TensorDataset(*shapes()), **options)


@pytest.fixture
def scores() -> torch.Tensor:
    return torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1), requires_grad=True)


def gradient(loss: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
    return torch.autograd.grad(loss, scores)[0]


def test_the_loss_is_cross_entropy_plus_the_weighted_dice_loss(scores):
    _, labels = shapes()
    fraction = scores.softmax(1)
    truth = nn.functional.one_hot(labels, 3).permute(0, 3, 1, 2)
    overlap = 2 * (fraction * truth).sum((0, 2, 3)) / (fraction + truth).sum((0, 2, 3))
    cross_entropy = nn.functional.cross_entropy(scores, labels)
    torch.testing.assert_close(segmenter(dice=0.0).loss(scores, labels), cross_entropy)
    expected = cross_entropy + 0.5 * (1 - overlap).mean()
    torch.testing.assert_close(segmenter(dice=0.5).loss(scores, labels), expected)


def test_the_loss_is_a_mean_over_labelled_pixels(scores):
    _, labels = shapes()
    labels[0, :8] = IGNORED
    expected = nn.functional.cross_entropy(scores, labels, ignore_index=IGNORED)
    torch.testing.assert_close(segmenter(dice=0.0).loss(scores, labels), expected)


def test_weights_of_classes_make_it_the_weighted_mean(scores):
    _, labels = shapes()
    labels[0, :8] = IGNORED
    weights = [0.5, 2.0, 3.0]
    expected = nn.functional.cross_entropy(scores, labels, weight=torch.tensor(weights), ignore_index=IGNORED)
    module = segmenter(dice=0.0, class_weights=weights)
    torch.testing.assert_close(module.loss(scores, labels), expected)
    assert module.loss(scores, torch.full_like(labels, IGNORED)).item() == 0
    # Checkpoints do not depend on it.
    assert module.state_dict().keys() == segmenter(dice=0.0).state_dict().keys()


@pytest.mark.parametrize("dice", [0.0, 1.0])
def test_ignored_pixels_change_neither_loss_nor_gradient(scores, dice):
    _, labels = shapes()
    labels[0, :8], labels[1, :, :5] = IGNORED, IGNORED
    ignored = (labels == IGNORED)[:, None].expand_as(scores)
    loss = segmenter(dice=dice).loss(scores, labels)
    others = torch.where(ignored, 9 * scores.detach().flip(1), scores)
    assert torch.equal(segmenter(dice=dice).loss(others, labels), loss)
    at = gradient(loss, scores)
    assert not at[ignored].any()
    assert at[~ignored].all()


@pytest.mark.parametrize("dice", [0.0, 1.0])
def test_a_batch_without_labels_has_loss_0_and_no_gradient(scores, dice):
    loss = segmenter(dice=dice).loss(scores, torch.full((2, 32, 32), IGNORED))
    assert loss == 0
    assert torch.equal(gradient(loss, scores), torch.zeros_like(scores))


def test_half_precision_scores_lose_nothing_in_the_loss(scores):
    _, labels = shapes()
    rounded = scores.detach().bfloat16()
    assert torch.equal(segmenter().loss(rounded, labels), segmenter().loss(rounded.float(), labels))


@pytest.mark.parametrize("decoder", ["upernet", "fpn"])
def test_two_images_are_learned(decoder: Any):
    torch.set_num_threads(1)
    seed_everything(0)
    net = SegmentationNet(
        decoder, "ivit_nano", num_classes=3, in_chans=1, decoder_dim=64, backbone_options=TINY
    )
    module = segmenter(net, learning_rate=3e-3)
    fitting = trainer(epochs=2)
    fitting.fit(module, loader(Subset(TensorDataset(*shapes()), [0, 1] * 15), batch_size=2), loader())
    metrics = fitting.callback_metrics
    assert set(module.columns) <= metrics.keys()
    assert metrics["val_mean_iou"] > 0.9
    assert metrics["train_pixel_accuracy"] > 0.9


class Told(nn.Module):
    """Predicts for each pixel the class that the image names."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.largest = max(getattr(self, "largest", 0), *images.shape[-2:])
        return 30 * nn.functional.one_hot(images[:, 0].long(), 3).permute(0, 3, 1, 2).float()


def of_many_sizes(*, ignored: int | None = None) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Images that name a class for each pixel, now and then another than their labels do."""
    generator = torch.Generator().manual_seed(0)
    items = []
    for number, size in enumerate([(17, 23), (27, 23), (20, 37)]):
        labels = torch.randint(2, size, generator=generator)
        predicted = torch.where(torch.rand(size, generator=generator) < 0.8, labels, number)
        if number == ignored:
            labels[:] = IGNORED
        items.append((predicted[None].float(), labels))
    return items


def counted(items: list) -> torch.Tensor:
    confusion = torch.zeros(3, 3, dtype=torch.long)
    for image, labels in items:
        for true, guess in zip(labels.flatten().tolist(), image.flatten().tolist(), strict=True):
            if true != IGNORED:
                confusion[true, int(guess)] += 1
    return confusion


@pytest.mark.parametrize("ignored", [None, 1])
def test_metrics_come_from_all_pixels_of_the_set(ignored):
    items = of_many_sizes(ignored=ignored)
    module, running = segmenter(Told()), trainer()
    (logged,) = running.validate(module, loader(items), verbose=False)
    assert module.metrics is None
    assert running.test(module, loader(items), verbose=False) == [{}]
    found = module.metrics
    assert found is not None
    assert found.confusion == counted(items).tolist()
    assert found.per_class_iou["stripe"] == 0.0
    assert logged["val_mean_iou"] == pytest.approx(found.mean_iou)
    assert logged["val_pixel_accuracy"] == pytest.approx(found.pixel_accuracy)
    assert logged["val_loss"] > 0


def test_every_epoch_counts_anew():
    items = of_many_sizes()
    module = segmenter(Told())
    for _ in range(2):
        (logged,) = trainer().validate(module, loader(items), verbose=False)
        trainer().test(module, loader(items), verbose=False)
    assert module.metrics is not None
    assert module.metrics.confusion == counted(items).tolist()
    assert logged["val_mean_iou"] == pytest.approx(module.metrics.mean_iou)


def test_images_larger_than_the_window_go_through_in_windows():
    items = of_many_sizes()
    whole, windows = segmenter(Told()), segmenter(Told(), window=16)
    (of_whole,) = trainer().validate(whole, loader(items), verbose=False)
    (of_windows,) = trainer().validate(windows, loader(items), verbose=False)
    assert (whole.model.largest, windows.model.largest) == (37, 16)
    assert of_windows == pytest.approx(of_whole, rel=1e-5)
    for module in (whole, windows):
        module.model.largest = 0
        trainer().test(module, loader(items), verbose=False)
    assert (whole.model.largest, windows.model.largest) == (37, 16)
    assert whole.metrics == windows.metrics


def test_the_validation_loss_of_a_whole_image_is_that_of_its_scores():
    module, (images, labels) = segmenter(), shapes()
    (logged,) = trainer().validate(module, loader(batch_size=2), verbose=False)
    with torch.no_grad():
        expected = module.loss(module(images), labels).item()
    assert logged["val_loss"] == pytest.approx(expected, rel=1e-5)


def test_an_ignored_label_of_a_class_is_refused():
    with pytest.raises(ValueError, match="ignore_index must be 3 or more; got 1, the label of 'square'"):
        segmenter(ignore_index=1)
