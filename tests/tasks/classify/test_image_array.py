from pathlib import Path

import numpy as np
import pytest

from crosshead.tasks.classify.image_array import ImageArray, check_labels


@pytest.mark.parametrize(("shape", "mode"), [((3, 5, 4), "L"), ((3, 5, 4, 3), "RGB")])
def test_items_are_the_images_and_labels_that_were_given(shape, mode):
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    dataset = ImageArray(pixels, np.array([2, 0, 1]))
    assert len(dataset) == 3
    for index in range(3):
        image, label = dataset[index]
        assert image.mode == mode
        assert np.array_equal(np.asarray(image), pixels[index])
        assert type(label) is int
    assert [label for _, label in dataset] == [2, 0, 1]


def test_one_label_for_each_image():
    with pytest.raises(ValueError, match="images are 3 and labels 2; give one label for each image"):
        ImageArray(np.zeros((3, 4, 4), np.uint8), np.zeros(2, int))


@pytest.mark.parametrize("label", [-1, 10, 2**70])
def test_a_label_that_names_no_class_is_named_with_its_position(refused, label):
    labels = np.array([0, 9, label, label])
    refused(
        lambda: check_labels(labels, num_classes=10, path=Path("x/labels.gz")),
        Path("x/labels.gz"),
        f"label {label} at position 2, not in 0..9",
        "get the file again",
    )


def test_labels_of_all_classes_pass():
    check_labels(np.arange(10), num_classes=10, path=Path("labels"))
