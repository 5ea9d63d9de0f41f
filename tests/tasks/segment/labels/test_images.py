import pickle
from typing import Any

import numpy as np
import pytest
from PIL import Image

from crosshead.tasks.segment.labels.images import load_label_images

MAP = [[0, 1, 255], [2, 1, 0]]


def load(root, **options) -> Any:
    return load_label_images(root, **options)


def test_images_come_with_their_labels(write_labels):
    root = write_labels(train={"a": MAP, "b": [[0, 0, 0, 0]] * 5}, val={"c": MAP})
    splits = load(root)
    assert (len(splits.train), len(splits.test)) == (2, 1)
    assert (splits.classes, splits.ignore_index) == (("0", "1", "2"), 255)
    assert (splits.in_chans, splits.min_size, splits.max_size) == (3, 4, 5)
    image, labels = splits.train[0]
    assert (image.mode, image.size) == ("RGB", (3, 2))
    assert (labels.dtype, labels.tolist()) == (np.uint8, MAP)
    assert splits.train[1][1].shape == (5, 4)


def test_names_may_stand_in_a_file_or_be_given(write_labels):
    root = write_labels(train={"a": MAP}, val={"c": MAP})
    (root / "classes.txt").write_text("sky\nsea\nsand\nwood\n")
    assert load(root).classes == ("sky", "sea", "sand", "wood")
    assert load(root, classes=("x", "y", "z")).classes == ("x", "y", "z")


def test_zero_may_stand_for_no_class(write_labels):
    splits = load(write_labels(train={"a": MAP}, val={"c": MAP}), reduce_zero_label=True, classes=("x", "y"))
    assert splits.train[0][1].tolist() == [[255, 0, 255], [1, 0, 255]]


def test_mean_and_spread_are_those_of_the_training_images(write_labels):
    splits = load(write_labels(train={"a": MAP}, val={"cccccc": MAP}))
    expected = np.asarray(splits.train[0][0]).mean(axis=(0, 1)) / 255
    assert splits.mean == pytest.approx(expected, abs=1e-12)


def test_grey_images_have_one_band(write_labels):
    root = write_labels(train={"a": MAP}, val={"c": MAP})
    for path in root.glob("*/images/*.jpg"):
        Image.new("L", (3, 2), 9).save(path)
    assert (load(root).in_chans, load(root).train[0][0].mode) == (1, "L")
    assert load(root, in_chans=3).train[0][0].mode == "RGB"
    with pytest.raises(ValueError, match="in_chans is 2"):
        load(root, in_chans=2)


@pytest.mark.parametrize("split", ["train", "val"])
def test_pairs_that_do_not_fit_are_refused_by_name(write_labels, refused, split):
    root = write_labels(train={"a": MAP, "b": MAP}, val={"a": MAP, "b": MAP})
    (root / "classes.txt").write_text("x\ny\nz\n")
    image, label = root / split / "images" / "a.jpg", root / split / "labels" / "a.png"
    Image.fromarray(np.array([[0, 3, 0]] * 2, np.uint8)).save(label)
    refused(lambda: load(root), label, "value 3 at column 1, row 0", "known are 0..2, 255")
    Image.new("RGB", (3, 2)).save(label)
    refused(lambda: load(root), label, "mode RGB, not labels")
    Image.new("L", (2, 3)).save(label)
    refused(lambda: load(root), label, f"2 x 3 pixels, and {image} has 3 x 2; make them the same size")
    label.unlink()
    refused(lambda: load(root), image, f"no label image {label}")
    image.rename(image.with_stem("c"))
    label.with_stem("c").touch()
    image.with_stem("c").write_bytes(b"broken")
    refused(lambda: load(root), image.with_stem("c"), "not readable as an image")


def test_labels_without_two_classes_are_refused(write_labels, refused):
    root = write_labels(train={"a": [[0, 0]]}, val={"a": [[0, 255]]})
    refused(lambda: load(root), root, "hold 1 classes", "two or more are needed")


def test_the_splits_can_be_sent_to_workers(write_labels):
    splits = pickle.loads(pickle.dumps(load(write_labels(train={"a": MAP}, val={"c": MAP}))))
    assert splits.test[0][1].tolist() == MAP
