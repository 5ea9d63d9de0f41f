import pickle
from typing import Any

import numpy as np
import pytest

from crosshead.tasks.detect.scenes import fashion as module
from crosshead.tasks.detect.scenes.fashion import load_fashion_scene_labels, load_fashion_scenes


@pytest.fixture(autouse=True)
def few_measured(monkeypatch):
    monkeypatch.setattr(module, "MEASURED", 4)


@pytest.fixture
def folder(tmp_path, write_idx):
    """Ten flat items to a split, one of each class: training items darker than 200, test items not."""
    for split, first in (("train", 100), ("t10k", 200)):
        items = np.repeat(np.arange(first, first + 10, dtype=np.uint8), 28 * 28).reshape(10, 28, 28)
        write_idx(tmp_path / f"{split}-images-idx3-ubyte.gz", items)
        write_idx(tmp_path / f"{split}-labels-idx1-ubyte.gz", np.arange(10, dtype=np.uint8))
    return tmp_path


def load(folder, **options) -> Any:
    return load_fashion_scenes(folder, **{"train": 4, "test": 3, "size": 96, **options})


def same(first, second):
    (image, objects), (other, others) = first, second
    arrays = [(objects.boxes, others.boxes), (objects.labels, others.labels), (objects.masks, others.masks)]
    return image == other and all(np.array_equal(*pair) for pair in arrays)


def test_scenes_are_grey_images_with_objects_of_ten_classes(folder):
    splits = load(folder)
    assert (len(splits.train), len(splits.test)) == (4, 3)
    assert (len(splits.classes), splits.classes[9], splits.category_ids) == (
        10,
        "Ankle boot",
        tuple(range(1, 11)),
    )
    assert (splits.in_chans, splits.min_size, splits.max_size, splits.max_objects) == (1, 96, 96, 8)
    image, objects = splits.train[1]
    assert (image.mode, image.size, objects.masks.shape[1:], objects.image_id) == ("L", (96, 96), (96, 96), 1)
    measured = np.stack([np.asarray(image) for image, _ in splits.train]) / 255
    assert splits.mean == pytest.approx((measured.mean(),), abs=1e-12)
    assert splits.std == pytest.approx((measured.std(),), abs=1e-12)


@pytest.mark.parametrize(("split", "shade"), [("train", 100), ("test", 200)])
def test_each_label_is_that_of_the_item_that_is_seen_and_items_keep_to_their_split(folder, split, shade):
    for image, objects in getattr(load(folder), split):
        pixels = np.asarray(image)
        for mask, label in zip(objects.masks, objects.labels, strict=True):
            # The middle values: the rims of a resized item are darker.
            assert np.median(pixels[mask > 0]) == shade + label - 1


def test_masks_agree_with_boxes(folder):
    for _, objects in load(folder).train:
        for box, mask in zip(objects.boxes.astype(int), objects.masks, strict=True):
            left, top, right, bottom = box
            inside = mask[top:bottom, left:right]
            assert inside.sum() == mask.sum()
            assert all(edge.any() for edge in (inside[0], inside[-1], inside[:, 0], inside[:, -1]))


def test_a_scene_depends_on_seed_split_and_position_alone(folder):
    few, many = load(folder), load(folder, train=9, test=1)
    assert [same(few.train[index], many.train[index]) for index in (2, 0, 3)] == [True] * 3
    assert same(few.train[-1], few.train[3])
    assert same(pickle.loads(pickle.dumps(few.train))[1], few.train[1])
    assert not same(few.train[0], few.train[1])
    assert not same(load(folder, seed=1).train[0], few.train[0])
    assert few.mean == many.mean
    boxes = [part[0][1].boxes for part in (few.train, few.test)]
    assert not np.array_equal(*boxes)


def test_labels_of_pixels_are_those_of_the_masks_and_0_elsewhere(folder):
    scenes = load(folder)
    splits: Any = load_fashion_scene_labels(folder, train=4, test=3, size=96)
    assert (splits.classes[0], splits.classes[1:], splits.ignore_index) == ("background", scenes.classes, 255)
    image, labels = splits.test[2]
    other, objects = scenes.test[2]
    assert image == other
    assert np.array_equal(labels, (objects.masks * objects.labels[:, None, None]).sum(axis=0))


def test_an_index_beyond_the_end_is_an_index_error(folder):
    splits = load(folder)
    for index in 4, -5:
        with pytest.raises(IndexError, match="there are 4 scenes"):
            splits.train[index]


@pytest.mark.parametrize(("name", "value"), [("train", 0), ("test", 0), ("size", 95), ("seed", -1)])
def test_numbers_that_are_too_small_are_refused(folder, name, value):
    with pytest.raises(ValueError, match=f"{name} is {value}; give"):
        load(folder, **{name: value})


def test_a_folder_without_fashion_mnist_is_refused(tmp_path, refused):
    refused(lambda: load_fashion_scenes(tmp_path), tmp_path, "no train-images-idx3-ubyte.gz")


def test_scenes_of_the_real_set_hide_parts_of_items_of_every_class(real_data):
    splits: Any = load_fashion_scenes(real_data / "fashion-mnist", train=40, test=2)
    found = [objects for _, objects in splits.train]
    assert {label for objects in found for label in objects.labels.tolist()} == set(range(1, 11))
    assert all(objects.masks.sum(axis=0).max() == 1 for objects in found)
    assert 0.2 < splits.mean[0] < 0.7
