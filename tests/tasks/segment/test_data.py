import itertools
import pickle
import tracemalloc
from typing import Any

import numpy as np
import pytest
from PIL import Image

from crosshead.tasks.detect.data import DetectMeta
from crosshead.tasks.detect.objects import Objects
from crosshead.tasks.segment.data import load_label_images, paint_data, paint_labels
from crosshead.tasks.task import Data

MAP = [[0, 1, 255], [2, 1, 0]]
LEFT, INNER, RIGHT, LOWER = np.zeros((4, 4, 6), np.uint8)
LEFT[:, :3] = INNER[1:3, 1:2] = RIGHT[:, 4:] = LOWER[2:] = 1


@pytest.fixture
def load(recipe_of):
    def load(root, **choices) -> Any:
        return load_label_images(recipe_of(root, **choices))

    return load


def test_images_come_with_their_labels(write_labels, load):
    data = load(write_labels(train={"a": MAP, "b": [[0, 0, 0, 0]] * 5}, val={"c": MAP}))
    assert (len(data.train), data.val, len(data.test)) == (2, None, 1)
    assert (data.meta.classes, data.meta.ignore_index, data.meta.in_chans) == (("0", "1", "2"), 255, 3)
    image, labels = data.train[0]
    assert (image.mode, image.size) == ("RGB", (3, 2))
    assert (labels.dtype, labels.tolist()) == (np.uint8, MAP)
    assert data.train[1][1].shape == (5, 4)


def test_names_may_stand_in_a_file_or_be_given(write_labels, load):
    root = write_labels(train={"a": MAP}, val={"c": MAP})
    (root / "classes.txt").write_text("sky\nsea\nsand\nwood\n")
    assert load(root).meta.classes == ("sky", "sea", "sand", "wood")
    assert load(root, class_names=("x", "y", "z")).meta.classes == ("x", "y", "z")


def test_zero_may_stand_for_no_class(write_labels, load):
    root = write_labels(train={"a": MAP}, val={"c": MAP})
    data = load(root, reduce_zero_label=True, class_names=("x", "y"))
    assert data.train[0][1].tolist() == [[255, 0, 255], [1, 0, 255]]


def test_the_meaning_of_label_values_is_the_recipes(label_data, load, tmp_path):
    root = tmp_path / "labels"
    root.mkdir()
    for split in ("train", "val", "test"):
        (root / split).symlink_to(label_data / split)
    assert load(root).meta.classes == ("0", "1", "2")
    assert load(root, ignore_index=None).meta.classes == ("0", "1", "2", "255")
    assert load(root, reduce_zero_label=True).meta.classes == ("1", "2")


def test_mean_and_spread_are_those_of_the_training_images(write_labels, load):
    data = load(write_labels(train={"a": MAP}, val={"cccccc": MAP}))
    expected = np.asarray(data.train[0][0]).mean(axis=(0, 1)) / 255
    assert data.meta.mean == pytest.approx(expected, abs=1e-12)


def test_grey_images_have_one_channel(write_labels, load):
    root = write_labels(train={"a": MAP}, val={"c": MAP})
    for path in root.glob("*/images/*.jpg"):
        Image.new("L", (3, 2), 9).save(path)
    assert (load(root).meta.in_chans, load(root).train[0][0].mode) == (1, "L")
    assert load(root, in_chans=3).train[0][0].mode == "RGB"


@pytest.mark.parametrize("split", ["train", "val"])
def test_pairs_that_do_not_fit_are_refused_by_name(write_labels, refused, load, split):
    root = write_labels(train={"a": MAP, "b": MAP}, val={"a": MAP, "b": MAP})
    (root / "classes.txt").write_text("x\ny\nz\n")
    image, label = root / split / "images" / "a.jpg", root / split / "labels" / "a.png"
    Image.fromarray(np.array([[0, 3, 0]] * 2, np.uint8)).save(label)
    refused(lambda: load(root), label, "value 3 at column 1, row 0", "known are 0..2, 255")
    Image.new("RGB", (3, 2), (1, 2, 3)).save(label)
    refused(lambda: load(root), label, "colours, and no colour map")
    for size in ((2, 3), (3, 3)):
        Image.new("L", size).save(label)
        words = f"{size[0]} x {size[1]} pixels, and {image} has 3 x 2; make them the same size"
        refused(lambda words=words: load(root), label, words)
    label.unlink()
    refused(lambda: load(root), image, f"no label image {label}")
    image.rename(image.with_stem("c"))
    Image.new("L", (3, 2)).save(label.with_stem("c"))
    image.with_stem("c").write_bytes(b"broken")
    refused(lambda: load(root), image.with_stem("c"), "not readable as an image")


def test_a_label_image_of_a_hundred_million_pixels_costs_nothing_beside_a_small_image(
    write_labels, refused, load
):
    root = write_labels(train={"a": MAP}, val={"c": MAP})
    Image.new("1", (9000, 9000)).save(root / "train" / "labels" / "a.png")
    tracemalloc.start()
    refused(lambda: load(root), root / "train" / "labels" / "a.png", "9000 x 9000 pixels, and")
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 10_000_000


def test_labels_without_two_classes_are_refused(write_labels, refused, load):
    root = write_labels(train={"a": [[0, 0]]}, val={"a": [[0, 0]]})
    refused(lambda: load(root), root, "hold 1 classes", "two or more are needed")


def test_the_splits_can_be_sent_to_workers(write_labels, load):
    data = pickle.loads(pickle.dumps(load(write_labels(train={"a": MAP}, val={"c": MAP}))))
    assert data.test[0][1].tolist() == MAP


def pixels(images) -> set[bytes]:
    return {image.tobytes() for image, _ in images}


def test_three_splits_are_all_used_and_a_lone_held_out_one_is_the_test(label_data, load, tmp_path):
    data = load(label_data, val=0.5)
    assert (len(data.train), len(data.val), len(data.test)) == (8, 4, 4)
    root = tmp_path / "labels"
    root.mkdir()
    for split in ("train", "val"):
        (root / split).symlink_to(label_data / split)
    alone = load(root, val=0.25)
    assert pixels(alone.test) == pixels(data.val)
    assert (len(alone.train), len(alone.val)) == (6, 2)
    assert pixels(alone.train) | pixels(alone.val) == pixels(data.train)
    for one, other in itertools.combinations((alone.train, alone.val, alone.test), 2):
        assert not pixels(one) & pixels(other)
    assert alone.meta == load(root).meta
    assert load(root).val is None
    assert len(load(root).train) == 8


def test_the_choice_of_the_validation_images_is_the_seeds(write_labels, load):
    names = {"a" * number: [[0, number % 3]] for number in range(1, 21)}
    root = write_labels(train=names, test={"b": MAP})
    chosen = [pixels(load(root, val=0.3, seed=seed).val) for seed in (0, 0, 1)]
    assert chosen[0] == chosen[1]
    assert chosen[0] != chosen[2]


def objects_of(masks: Any, labels: Any, crowd: Any) -> Objects:
    number = len(labels)
    return Objects(
        boxes=np.zeros((number, 4), np.float32),
        labels=np.array(labels),
        masks=None if masks is None else np.array(masks, np.uint8),
        crowd=np.array(crowd),
        area=np.ones(number, np.float32),
        image_id=1,
    )


@pytest.mark.parametrize("with_val", [True, False])
def test_masks_are_painted_with_the_labels_of_the_classes(with_val):
    objects = objects_of([INNER, LEFT, RIGHT, LOWER], [2, 1, 2, 1], [False, False, False, True])
    one: Any = [(Image.new("RGB", (6, 4)), objects)]
    empty: Any = [(Image.new("RGB", (6, 4)), objects_of(np.zeros((0, 4, 6)), [], np.zeros(0, bool)))]
    meta = DetectMeta(
        classes=("cat", "dog"),
        category_ids=(3, 7),
        masks=True,
        in_chans=3,
        mean=(0.1, 0.2, 0.3),
        std=(0.4,) * 3,
        min_size=4,
        max_size=6,
    )
    found: Any = pickle.loads(
        pickle.dumps(paint_data(Data(train=one, val=one if with_val else None, test=empty, meta=meta)))
    )
    image, labels = found.train[0]
    assert labels.tolist() == [
        [1, 1, 1, 0, 2, 2],
        [1, 2, 1, 0, 2, 2],
        [1, 2, 1, 255, 2, 2],
        [1, 1, 1, 255, 2, 2],
    ]
    assert (labels.dtype, image.size) == (np.uint8, (6, 4))
    assert (found.meta.classes, found.meta.ignore_index) == (("background", "cat", "dog"), 255)
    assert (found.meta.in_chans, found.meta.mean, found.meta.std) == (3, meta.mean, meta.std)
    assert found.test[0][1].tolist() == np.zeros((4, 6)).tolist()
    if with_val:
        assert np.array_equal(found.val[0][1], labels)
    else:
        assert found.val is None


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 1, 0], [1, 2, 0]])
def test_the_order_of_the_objects_does_not_matter(order):
    masks = np.array([[[1, 1, 1, 1]], [[0, 1, 1, 0]], [[0, 0, 1, 0]]])[order]
    labels, crowd = np.array([1, 2, 3])[order], np.zeros(3, bool)
    assert paint_labels(objects_of(masks, labels, crowd), ignore_index=255).tolist() == [[1, 2, 3, 1]]


def test_a_crowd_hides_no_object_however_small_or_large():
    masks = [[[1, 1, 1, 0]], [[0, 1, 0, 0]], [[1, 1, 1, 1]]]
    painted = paint_labels(objects_of(masks, [4, 5, 6], [True, False, True]), ignore_index=255)
    assert painted.tolist() == [[255, 5, 255, 255]]


def test_many_classes_need_16_bits():
    painted = paint_labels(objects_of([[[1, 0]], [[0, 1]]], [300, 1], [False, True]), ignore_index=65_535)
    assert (painted.dtype, painted.tolist()) == (np.uint16, [[300, 65_535]])


def test_objects_without_masks_are_refused():
    with pytest.raises(ValueError, match="objects have no masks; load them with masks=True"):
        paint_labels(objects_of(None, [1], [False]), ignore_index=255)
