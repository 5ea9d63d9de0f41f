import pickle
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from crosshead.tasks.segment import transforms

GREY: Any = {"mean": (0.25,), "std": (0.5,)}
COLOUR: Any = {"mean": (0.2, 0.4, 0.6), "std": (0.1, 0.2, 0.3)}
PLAIN: Any = {"mean": (0.0,), "std": (1.0,), "ignore_index": 255}


def train(**options: Any) -> transforms.Transform:
    return transforms.train_transform(**{**PLAIN, "crop": 16, "flip": 0.0, "scale": (1.0, 1.0), **options})


def squares(height: int, width: int, *, side: int = 8) -> tuple[Image.Image, np.ndarray]:
    """Squares of even brightness, an eighth of the whole range apart, whose step is their label."""
    rows, columns = np.indices((height, width)) // side
    labels = (rows + 3 * columns) % 8
    return Image.fromarray((labels * 32).astype(np.uint8)), labels.astype(np.uint8)


def test_evaluation_keeps_the_size_and_normalises():
    image = Image.new("RGB", (23, 17), (51, 102, 255))
    labels = np.arange(17 * 23, dtype=np.uint16).reshape(17, 23) + 65_000
    tensor, same = transforms.eval_transform(**COLOUR)(image, labels)
    assert (tensor.shape, tensor.dtype) == ((3, 17, 23), torch.float32)
    torch.testing.assert_close(tensor[:, 5, 5], torch.tensor([0.0, 0.0, 4 / 3]))
    assert (type(same), same.dtype) == (torch.Tensor, torch.int64)
    assert np.array_equal(same.numpy(), labels)


@pytest.mark.parametrize(("mode", "statistics"), [("L", GREY), ("RGB", COLOUR)])
def test_every_step_together_gives_finite_tensors_of_the_size_asked_for(mode, statistics):
    transform = transforms.train_transform(
        crop=24, vertical_flip=0.5, color_jitter=0.4, ignore_index=65_535, **statistics
    )
    for size in [(1, 1), (17, 23), (65, 33)]:
        tensor, labels = transform(Image.new(mode, size), np.full(size[::-1], 300, np.uint16))
        assert tensor.shape == (len(statistics["mean"]), 24, 24)
        assert tensor.isfinite().all()
        assert (labels.shape, labels.dtype) == ((24, 24), torch.int64)
        assert set(labels.unique().tolist()) <= {300, 65_535}


@pytest.mark.parametrize("factor", [0.5, 0.8, 1.3, 2.0])
def test_labels_follow_the_image_and_are_never_mixed(factor):
    image, labels = squares(48, 64)
    transform = train(crop=24, scale=(factor, factor), flip=0.5, vertical_flip=0.5)
    torch.manual_seed(0)
    for _ in range(10):
        tensor, moved = transform(image, 30 * labels)
        assert set(moved.unique().tolist()) <= set(range(0, 240, 30))
        brightness = tensor[0] * 255 / 32
        # Between two squares the image is mixed; elsewhere it says the label.
        border = sum((moved != moved.roll(shift, axis)) for shift in (-1, 1) for axis in (0, 1)) > 0
        torch.testing.assert_close(brightness[~border], moved[~border] / 30, atol=0.35, rtol=0)


def test_scaling_moves_labels_by_no_part_of_a_pixel():
    # By the rule of the upper left corner, torchvision's own for masks, the line would go elsewhere.
    labels = np.zeros((10, 10), np.uint8)
    labels[:, 3] = 1
    tensor, moved = train(crop=7, scale=(0.7, 0.7))(Image.fromarray(labels * 255), labels)
    assert tensor[0, 3].argmax() == 2
    assert (moved[3] == 1).nonzero().flatten().tolist() == [2]


def test_no_image_is_scaled_away():
    tensor, labels = train(crop=4, scale=(0.1, 0.1))(
        Image.new("L", (30, 1), 255), np.zeros((1, 30), np.uint8)
    )
    assert (labels == 0).sum() == 3
    assert (tensor == 1).sum() == 3


@pytest.mark.parametrize("vertical", [False, True])
def test_a_certain_flip_mirrors_both(vertical):
    image, labels = squares(16, 16, side=3)
    flips: Any = {"vertical_flip" if vertical else "flip": 1.0}
    plain, flipped = train()(image, labels), train(**flips)(image, labels)
    for one, other in zip(plain, flipped, strict=True):
        assert torch.equal(one.flip(-2 if vertical else -1), other)
        assert not torch.equal(one, other)


def test_outside_the_image_there_is_its_mean_and_no_label():
    image = Image.new("RGB", (8, 10), (255, 255, 255))
    transform = train(crop=16, **COLOUR)
    tensor, labels = transform(image, np.zeros((10, 8), np.uint8))
    outside = labels == 255
    assert outside.sum() == 16 * 16 - 8 * 10
    assert (labels[~outside] == 0).all()
    assert tensor[:, outside].abs().max() < 0.5 / 255 / min(COLOUR["std"])
    assert tensor[:, ~outside].min() > 1


def test_crops_reach_every_place():
    image, labels = Image.new("L", (20, 18)), np.arange(18 * 20, dtype=np.uint16).reshape(18, 20)
    corners = {train()(image, labels)[1][0, 0].item() for _ in range(200)}
    assert corners == {20 * row + column for row in range(3) for column in range(5)}


def test_colour_jitter_changes_the_image_alone():
    image, labels = squares(16, 16)
    plain, jittered = train()(image, labels), train(color_jitter=0.5)(image, labels)
    assert torch.equal(plain[1], jittered[1])
    assert not torch.allclose(plain[0], jittered[0])


def test_the_same_seed_gives_the_same_view_in_another_process():
    image, labels = squares(40, 40)
    transform = train(scale=(0.5, 2.0), flip=0.5, color_jitter=0.4)
    torch.manual_seed(3)
    view = transform(image, labels)
    torch.manual_seed(3)
    again = pickle.loads(pickle.dumps(transform))(image, labels)
    assert all(torch.equal(one, other) for one, other in zip(view, again, strict=True))
