import logging
import pickle
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import crosshead.study.pathfinder.images
import crosshead.study.pathfinder.scene
from crosshead.study.pathfinder.images import PathfinderImages, load_pathfinder
from crosshead.study.pathfinder.parameters import PARAMETERS

COUNT = 400


@pytest.fixture(autouse=True)
def few_measured(monkeypatch):
    """The normalisation from fewer images: it is no matter but where it is what is tested."""
    monkeypatch.setattr(crosshead.study.pathfinder.images, "MEASURED", 4)


@pytest.fixture(scope="module")
def many():
    """Images, (N, 32, 32), scaled to 0..1, and labels, (N,)."""
    images = PathfinderImages(COUNT, parameters=PARAMETERS[32], split="train", seed=3)
    pixels, labels = zip(*((np.asarray(image), label) for image, label in images), strict=True)
    return np.stack(pixels) / 255, np.array(labels)


def load(**changes: Any) -> Any:
    return load_pathfinder(**{"train": 6, "test": 4, **changes})


def items(dataset):
    return [(np.asarray(image).tolist(), label) for image, label in dataset]


@pytest.mark.parametrize("size", [32, 64, 128, 256])
def test_images_are_grey_and_of_the_size_that_was_asked_for(size):
    images = PathfinderImages(1, parameters=PARAMETERS[size], split="test")
    image, label = images[0]
    assert (image.mode, image.size) == ("L", (size, size))
    assert type(label) is int
    assert image.getextrema() == (0, 255)


def test_the_splits_are_described():
    splits = load()
    assert (len(splits.train), len(splits.test)) == (6, 4)
    assert (splits.meta.classes, splits.meta.in_chans, splits.meta.image_size) == (
        ("separate", "connected"),
        1,
        32,
    )


def test_the_normalisation_is_that_of_the_images(many, monkeypatch):
    monkeypatch.undo()
    images, _ = many
    splits = load()
    # 64 images stand for all; their own means scatter by this much.
    error = images.mean((1, 2)).std() / np.sqrt(64)
    assert abs(splits.meta.mean[0] - images.mean()) < 4 * error
    assert abs(splits.meta.std[0] - images.std()) < 0.02


def test_an_image_is_a_function_of_seed_split_and_position_alone():
    splits = load()
    assert items(load().train) == items(splits.train)
    larger = load(train=9, test=5)
    assert items(larger.train)[:6] == items(splits.train)
    assert items(larger.test)[:4] == items(splits.test)
    assert (larger.meta.mean, larger.meta.std) == (splits.meta.mean, splits.meta.std)
    backwards = [items([splits.train[index]])[0] for index in reversed(range(6))]
    assert backwards[::-1] == items(splits.train)


def test_splits_seeds_and_positions_have_no_image_in_common():
    every = [
        str(pixels)
        for seed in (0, 1)
        for splits in (load(seed=seed),)
        for part in (splits.train, splits.test)
        for pixels, _ in items(part)
    ]
    assert len(set(every)) == len(every) == 20


def test_it_ends_where_a_list_would():
    train = load().train
    assert items([train[-1], train[np.int64(2)]]) == [items(train)[5], items(train)[2]]
    for index in (6, -7):
        with pytest.raises(IndexError, match=f"index is {index}; there are 6 images"):
            train[index]


def test_it_can_be_sent_to_another_process():
    train = load().train
    assert items(pickle.loads(pickle.dumps(train))) == items(train)


def test_the_contour_length_can_be_chosen():
    assert load(contour_length=6).train.scene(0).targets[0].pivots.shape == (6,)
    assert items(load(contour_length=14).train) == items(load().train)


def test_labels_are_balanced(many):
    _, labels = many
    assert abs(labels.mean() - 0.5) < 4 * 0.5 / np.sqrt(COUNT)


def test_brightness_does_not_tell_the_label(many):
    images, labels = many
    brightness = np.stack([images.mean((1, 2)), images.std((1, 2)), images.max((1, 2))], axis=1)
    model = make_pipeline(StandardScaler(), LogisticRegression())
    accuracy = cross_val_score(model, brightness, labels, cv=5).mean()
    assert accuracy < max(labels.mean(), 1 - labels.mean()) + 3 * 0.5 / np.sqrt(COUNT)


def test_a_cache_gives_what_was_made(tmp_path, caplog):
    calls = []
    with caplog.at_level(logging.INFO, logger="crosshead.study"):
        made = load(cache_dir=tmp_path, progress=lambda *call: calls.append(call))
        read = load(cache_dir=tmp_path)
    assert caplog.text.count("making 6 Pathfinder images of 32 x 32") == 1
    assert calls == [*((n, 6) for n in range(1, 7)), *((n, 4) for n in range(1, 5))]
    assert len(list(tmp_path.glob("pathfinder-32-*.npz"))) == 2
    for splits in made, read:
        assert items(splits.train) == items(load().train)
        assert items(splits.test) == items(load().test)
        assert splits.meta.mean == load().meta.mean


def test_other_images_are_other_cache_files(tmp_path):
    for changes in ({}, {"seed": 1}, {"contour_length": 6}, {"train": 7, "test": 5}):
        load(cache_dir=tmp_path, **changes)
    assert len(list(tmp_path.iterdir())) == 8


def test_a_damaged_cache_is_refused(tmp_path, refused):
    load(cache_dir=tmp_path)
    path = next(tmp_path.glob("pathfinder-32-test-*.npz"))
    path.write_bytes(path.read_bytes()[:100])
    refused(lambda: load(cache_dir=tmp_path), path, "damaged cache", "delete it")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": 48}, "size is 48; the known ones are 32, 64, 128, 256"),
        ({"contour_length": 2}, "contour_length is 2; give 3 or more"),
        ({"train": 0}, "train is 0; give 1"),
        ({"test": 0}, "test is 0; give 1"),
        ({"seed": -1}, "seed is -1; give 0"),
    ],
)
def test_what_cannot_be_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        load(**change)


def test_contours_that_find_no_room_are_refused(monkeypatch):
    monkeypatch.setattr(crosshead.study.pathfinder.scene, "IMAGE_TRIES", 3)
    crowded = replace(PARAMETERS[32], distractor_paddles=400)
    images = PathfinderImages(1, parameters=crowded, split="train")
    with pytest.raises(ValueError, match=r"contour_length is 14; no room .* in 32 x 32 pixels: choose a sm"):
        images[0]
