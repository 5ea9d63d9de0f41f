import pickle
from typing import Any

import numpy as np
import pytest

from crosshead.tasks.classify.data import load_fashion_mnist
from crosshead.tasks.detect.scenes import (
    INK,
    ITEMS,
    VISIBLE,
    FashionScenes,
    Scene,
    draw_scene,
    objects_of,
)


@pytest.fixture(scope="module")
def pictures():
    """A disc, a bar and a frame with a hole, each on black."""
    rows, columns = np.mgrid[:28, :28]
    disc = (rows - 14) ** 2 + (columns - 14) ** 2 < 144
    bar = abs(columns - 14) < 5
    frame = np.maximum(abs(rows - 14), abs(columns - 14))
    return np.stack([disc * 250, bar * 250, ((frame > 6) & (frame < 12)) * 250]).astype(np.uint8)


def scenes(pictures, count=40):
    return [draw_scene(pictures, size=96, generator=np.random.default_rng(seed)) for seed in range(count)]


def test_a_scene_has_three_to_eight_items_and_all_numbers_occur(pictures):
    assert {len(scene.masks) for scene in scenes(pictures)} == set(range(ITEMS[0], ITEMS[1] + 1))


def test_every_pixel_belongs_to_one_item_at_most(pictures):
    drawn = scenes(pictures)
    assert max(scene.masks.sum(axis=0).max() for scene in drawn) == 1
    assert {scene.masks.dtype for scene in drawn} == {np.dtype(np.uint8)}


def test_masks_are_where_the_canvas_shows_an_item_and_nowhere_else(pictures, monkeypatch):
    monkeypatch.setattr("crosshead.tasks.detect.scenes._background", lambda size, _: np.zeros((size,) * 2))
    for scene in scenes(pictures):
        assert np.array_equal(scene.masks.any(axis=0), scene.pixels >= INK)


def test_hidden_parts_are_left_out_and_enough_is_seen(pictures, monkeypatch):
    # At a whole scale of one the pixels of an item are known.
    monkeypatch.setattr("crosshead.tasks.detect.scenes._resized", lambda picture, _: picture)
    whole = (pictures >= INK).sum(axis=(1, 2))
    shares = np.concatenate([scene.masks.sum(axis=(1, 2)) / whole[scene.items] for scene in scenes(pictures)])
    assert shares.max() == 1
    assert shares.min() >= VISIBLE
    assert 0.05 < np.mean(shares < 1) < 0.95
    assert shares.min() < VISIBLE + 0.1


def test_a_later_item_lies_on_an_earlier_one(monkeypatch):
    monkeypatch.setattr("crosshead.tasks.detect.scenes._resized", lambda picture, _: picture)
    shades = np.stack([np.full((28, 28), shade, np.uint8) for shade in range(100, 250, 10)])
    for scene in scenes(shades):
        for mask, item in zip(scene.masks, scene.items, strict=True):
            assert np.all(scene.pixels[mask > 0] == shades[item, 0, 0])
        assert scene.masks[-1].sum() == 28 * 28


def test_items_come_at_whole_scales_and_between(pictures):
    widths = {
        int(np.ptp(np.flatnonzero(mask.any(axis=0)))) + 1
        for scene in scenes(pictures[:1], 60)
        for mask in scene.masks
        if mask.sum() > 300
    }
    assert min(widths) < 23 < 46 <= max(widths)
    assert len(widths) > 15


def test_the_same_generator_draws_the_same_scene(pictures):
    first, again = (draw_scene(pictures, size=96, generator=np.random.default_rng(3)) for _ in range(2))
    other = draw_scene(pictures, size=96, generator=np.random.default_rng(4))
    assert np.array_equal(first.pixels, again.pixels)
    assert np.array_equal(first.masks, again.masks)
    assert not np.array_equal(first.pixels, other.pixels)


def test_boxes_and_areas_are_exactly_those_of_the_masks():
    masks = np.zeros((2, 6, 6), np.uint8)
    masks[0, 2:5, 1:3] = 1
    masks[1, 0, 5] = masks[1, 5, 0] = 1
    scene = Scene(pixels=masks[0], masks=masks, items=np.array([1, 0]))
    objects = objects_of(scene, np.array([4, 9]), image_id=8)
    assert objects.boxes.tolist() == [[1, 2, 3, 5], [0, 0, 6, 6]]
    assert objects.area.tolist() == [6, 2]
    assert objects.labels.tolist() == [9, 4]
    assert (objects.crowd.tolist(), objects.image_id) == ([False, False], 8)


@pytest.mark.parametrize("picture", [np.zeros((1, 28, 28), np.uint8), np.full((1, 200, 200), 99, np.uint8)])
def test_pictures_that_make_no_scene_are_refused(picture):
    with pytest.raises(ValueError, match="no scene of 3 items came about on 96 x 96 pixels"):
        draw_scene(picture, size=96, generator=np.random.default_rng(0))


@pytest.fixture
def folder(tmp_path, write_idx):
    """Ten flat items to a split, one of each class: training items darker than 200, test items not."""
    for split, first in (("train", 100), ("t10k", 200)):
        items = np.repeat(np.arange(first, first + 10, dtype=np.uint8), 28 * 28).reshape(10, 28, 28)
        write_idx(tmp_path / f"{split}-images-idx3-ubyte.gz", items)
        write_idx(tmp_path / f"{split}-labels-idx1-ubyte.gz", np.arange(10, dtype=np.uint8))
    return tmp_path


def fashion(folder, *, split="train", count=4, seed=0) -> Any:
    items: Any = getattr(load_fashion_mnist(folder), split)
    return FashionScenes(count, items=items, split=split, size=96, seed=seed)


def same(first, second):
    (image, objects), (other, others) = first, second
    arrays = [(objects.boxes, others.boxes), (objects.labels, others.labels), (objects.masks, others.masks)]
    return image == other and all(np.array_equal(*pair) for pair in arrays)


@pytest.mark.parametrize(("split", "shade"), [("train", 100), ("test", 200)])
def test_each_label_is_that_of_the_item_that_is_seen_and_items_keep_to_their_split(folder, split, shade):
    for position in range(4):
        image, objects = fashion(folder, split=split)[position]
        assert (image.mode, image.size, objects.masks.shape[1:], objects.image_id) == (
            "L",
            (96, 96),
            (96, 96),
            position,
        )
        pixels = np.asarray(image)
        for mask, label in zip(objects.masks, objects.labels, strict=True):
            # The middle values: the rims of a resized item are darker.
            assert np.median(pixels[mask > 0]) == shade + label - 1


def test_masks_agree_with_boxes(folder):
    for _, objects in fashion(folder):
        for box, mask in zip(objects.boxes.astype(int), objects.masks, strict=True):
            left, top, right, bottom = box
            inside = mask[top:bottom, left:right]
            assert inside.sum() == mask.sum()
            assert all(edge.any() for edge in (inside[0], inside[-1], inside[:, 0], inside[:, -1]))


def test_a_scene_depends_on_seed_split_and_position_alone(folder):
    few, many = fashion(folder), fashion(folder, count=9)
    assert [same(few[index], many[index]) for index in (2, 0, 3)] == [True] * 3
    assert same(few[-1], few[3])
    assert same(pickle.loads(pickle.dumps(few))[1], few[1])
    assert not same(few[0], few[1])
    assert not same(fashion(folder, seed=1)[0], few[0])
    assert not np.array_equal(few[0][1].boxes, fashion(folder, split="test")[0][1].boxes)


def test_an_index_beyond_the_end_is_an_index_error(folder):
    for index in 4, -5:
        with pytest.raises(IndexError, match="there are 4 scenes"):
            fashion(folder)[index]


def test_scenes_of_the_real_set_hide_parts_of_items_of_every_class(real_data):
    found = [objects for _, objects in fashion(real_data / "fashion-mnist", count=40)]
    assert {label for objects in found for label in objects.labels.tolist()} == set(range(1, 11))
    assert all(objects.masks.sum(axis=0).max() == 1 for objects in found)
