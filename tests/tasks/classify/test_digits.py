import hashlib
import pickle
import sys
from typing import Any

import numpy as np
import pytest
from sklearn import datasets

from crosshead.tasks.classify.digits import load_digits
from crosshead.tasks.classify.image_array import ImageArray


@pytest.fixture(scope="module")
def digits():
    return load_digits()


def test_all_images_are_in_one_of_the_splits_and_labelled_as_published(digits):
    bundle: Any = datasets.load_digits()
    published = sorted(
        (image.tobytes(), label) for image, label in zip(bundle.images, bundle.target, strict=True)
    )
    ours = sorted(
        (np.rint(np.asarray(image) * (16 / 255)).tobytes(), label)
        for split in (digits.train, digits.test)
        for image, label in split
    )
    assert ours == published


def test_a_fifth_of_each_class_is_held_out(digits):
    train, test = np.bincount(digits.train.labels), np.bincount(digits.test.labels)
    assert np.array_equal(test, np.rint((train + test) / 5))


def test_the_split_never_changes(digits):
    digest = hashlib.sha256(digits.test.images.tobytes() + digits.test.labels.astype("<i8").tobytes())
    assert digest.hexdigest()[:16] == "617b4fe6e84afdb8"


def test_what_a_model_needs_to_know(digits):
    image, label = digits.train[0]
    assert (image.mode, image.size, type(label)) == ("L", (8, 8), int)
    assert digits.classes == tuple("0123456789")
    assert (digits.in_chans, digits.image_size) == (1, 8)
    assert digits.train.images.min() == 0
    assert digits.train.images.max() == 255


def test_mean_and_spread_are_those_of_the_training_images(digits):
    pixels = np.stack([np.asarray(image) for image, _ in digits.train]) / 255
    assert digits.mean == pytest.approx((pixels.mean(),), abs=1e-12)
    assert digits.std == pytest.approx((pixels.std(),), abs=1e-12)


def test_the_splits_can_be_sent_to_workers(digits):
    again = pickle.loads(pickle.dumps(digits.test))
    assert isinstance(again, ImageArray)
    assert np.array_equal(again.images, digits.test.images)


def test_without_scikit_learn_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(ImportError, match=r"pip install crosshead\[train\]"):
        load_digits()
