import pickle

import numpy as np
import pytest
import torch
from PIL import Image

from crosshead.tasks.detect.objects import Objects
from crosshead.tasks.detect.transforms import collate, eval_transform, train_transform

# The function is a transform, and no test.
evaluation_transform = eval_transform
del eval_transform

BOXES = [(2, 3, 8, 9), (20, 10, 38, 28)]


def item(mode: str = "L", *, masks: bool = True) -> tuple[Image.Image, Objects]:
    """A black image of 40 x 30 pixels with two objects in white, the second a crowd region."""
    image = Image.new(mode, (40, 30))
    drawn = np.zeros((2, 30, 40), np.uint8)
    for mask, box in zip(drawn, BOXES, strict=True):
        image.paste(Image.new(mode, (box[2] - box[0], box[3] - box[1]), "white"), box)
        mask[box[1] : box[3], box[0] : box[2]] = 1
    return image, Objects(
        boxes=np.array(BOXES, np.float32),
        labels=np.array([1, 2]),
        masks=drawn if masks else None,
        crowd=np.array([False, True]),
        area=np.array([36.0, 324.0], np.float32),
        image_id=7,
    )


@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("RGB", 3)])
def test_a_test_changes_nothing(mode, channels):
    image, target = evaluation_transform()(*item(mode))
    assert (image.shape, image.dtype, image.max()) == ((channels, 30, 40), torch.float32, 1)
    assert {name: type(value) for name, value in target.items() if name != "image_id"} == dict.fromkeys(
        ("boxes", "labels", "crowd", "area", "masks"), torch.Tensor
    )
    assert target["boxes"].tolist() == [list(box) for box in BOXES]
    assert (target["labels"].tolist(), target["crowd"].tolist()) == ([1, 2], [False, True])
    assert (target["area"].tolist(), target["image_id"]) == ([36, 324], 7)
    assert torch.equal(target["masks"].any(0), image[0] > 0.5)


def test_without_masks_there_are_none():
    assert "masks" not in evaluation_transform()(*item(masks=False))[1]


@pytest.mark.parametrize(
    ("options", "axis", "box"),
    [
        ({"flip": 1.0}, 2, [32, 3, 38, 9]),
        ({"flip": 0.0, "vertical_flip": 1.0}, 1, [2, 21, 8, 27]),
    ],
)
def test_a_mirrored_image_has_mirrored_objects(options, axis, box):
    image, target = train_transform(**options)(*item())
    plain, unchanged = evaluation_transform()(*item())
    assert torch.equal(image, plain.flip(axis))
    assert torch.equal(target["masks"], unchanged["masks"].flip(axis))
    assert target["boxes"][0].tolist() == box


@pytest.mark.parametrize("masks", [True, False])
@pytest.mark.parametrize("options", [{"crop": 16}, {"crop": 64}, {"scale": (0.4, 2.0)}])
def test_objects_stay_with_their_pixels_and_vanish_with_them(options, masks):
    torch.manual_seed(0)
    transform = train_transform(**options)
    size = (options["crop"],) * 2 if "crop" in options else (30, 40)
    counts = set()
    for _ in range(40):
        image, target = transform(*item(masks=masks))
        assert image.shape == (1, *size)
        counts.add(len(target["boxes"]))
        drawn = torch.zeros(size)
        for left, top, right, bottom in target["boxes"].round().int().tolist():
            assert 0 <= left < right <= size[1]
            assert 0 <= top < bottom <= size[0]
            drawn[top:bottom, left:right] = 1
        # A scaled border is grey, and its box ends between two pixels.
        border = 100 if "scale" in options else 0
        assert ((image[0] > 0.5) != drawn.bool()).sum() <= border
        lengths = {len(target[name]) for name in ("boxes", "labels", "crowd", "area")}
        assert lengths == {len(target["boxes"])}
        assert [36.0 if label == 1 else 324.0 for label in target["labels"]] == target["area"].tolist()
        assert (target["labels"] == 2).tolist() == target["crowd"].tolist()
        if masks:
            assert target["masks"].shape == (len(target["boxes"]), *size)
            assert target["masks"].flatten(1).any(1).all()
    assert 2 in counts
    assert (min(counts) < 2) == (options.get("crop") != 64)


@pytest.mark.parametrize("masks", [True, False])
def test_a_scaled_object_keeps_its_shape(masks):
    torch.manual_seed(0)
    places = set()
    for _ in range(10):
        boxes = train_transform(scale=(0.5, 0.5))(*item(masks=masks))[1]["boxes"]
        sizes = boxes[:, 2:] - boxes[:, :2]
        torch.testing.assert_close(sizes, torch.tensor([[3.0, 3.0], [9.0, 9.0]]), atol=1, rtol=0)
        places.add(tuple(boxes[0].tolist()))
    assert len(places) > 5


def test_a_cropped_object_has_the_box_of_what_is_left_of_its_mask():
    corner = np.zeros((1, 30, 40), np.uint8)
    corner[0, 0, :] = corner[0, :, 0] = 1
    objects = Objects(
        boxes=np.array([[0, 0, 40, 30]], np.float32),
        labels=np.array([1]),
        masks=corner,
        crowd=np.array([False]),
        area=np.array([69.0], np.float32),
        image_id=1,
    )
    torch.manual_seed(0)
    seen = set()
    for _ in range(200):
        target = train_transform(crop=25, flip=0.0)(Image.new("L", (40, 30)), objects)[1]
        seen |= {tuple(box) for box in target["boxes"].tolist()}
    assert {(0, 0, 1, 25), (0, 0, 25, 1)} <= seen


@pytest.mark.parametrize(("mode", "colour"), [("L", 90), ("RGB", (90, 120, 150))])
def test_colours_change_and_nothing_else(mode, colour):
    torch.manual_seed(0)
    plain = Image.new(mode, (40, 30), colour)
    image, target = train_transform(flip=0.0, color_jitter=0.5)(plain, item()[1])
    before, unchanged = evaluation_transform()(plain, item()[1])
    assert not torch.equal(image, before)
    assert torch.equal(target["boxes"], unchanged["boxes"])
    assert torch.equal(target["masks"], unchanged["masks"])


def test_transforms_can_be_sent_to_workers():
    transform = train_transform(scale=(0.5, 2.0), color_jitter=0.2, crop=20)
    again = pickle.loads(pickle.dumps(transform))
    torch.manual_seed(1)
    first = transform(*item())[0]
    torch.manual_seed(1)
    assert torch.equal(again(*item())[0], first)


def test_a_batch_is_two_lists():
    items = [evaluation_transform()(*item(mode)) for mode in ("L", "L")]
    images, targets = collate(items)
    assert [image.shape for image in images] == [(1, 30, 40)] * 2
    assert [target["image_id"] for target in targets] == [7, 7]


def test_the_objects_of_the_data_set_stay_as_they_are():
    image, objects = item()
    assert objects.masks is not None
    objects.masks[0, 3] = 0
    train_transform(crop=64, flip=0.0)(image, objects)
    train_transform(scale=(1.0, 1.0 + 1e-9), flip=0.0)(image, objects)
    assert objects.boxes.tolist() == [list(box) for box in BOXES]
