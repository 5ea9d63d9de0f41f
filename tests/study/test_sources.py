"""What a trial learns from and is measured on: validation never touches the test set."""

import numpy as np
import pytest
from torch.utils.data import Subset

from crosshead.runs.folder import RunError
from crosshead.study import sources
from crosshead.study.conjunctions import LOOK_UPS
from crosshead.study.sources import load_samples
from crosshead.study.trial import IN_CHANS, Data
from crosshead.tasks.classify.data import load_digits


def fingerprints(images) -> list[bytes]:
    return [np.asarray(images[place][0]).tobytes() for place in range(len(images))]


@pytest.fixture(scope="module")
def validating():
    return load_samples("digits", split="validation", size=8, data_dir=None)


@pytest.fixture(scope="module")
def testing():
    return load_samples("digits", split="test", size=8, data_dir=None)


def test_the_test_split_trains_on_all_training_images_and_measures_on_the_test_images(testing):
    splits = load_digits()
    assert fingerprints(testing.train) == fingerprints(splits.train)
    assert fingerprints(testing.held_out) == fingerprints(splits.test)


def test_validation_images_are_carved_from_the_training_set(validating, testing):
    kept, held_out = validating.train, validating.held_out
    assert isinstance(kept, Subset)
    assert isinstance(held_out, Subset)
    assert type(kept.dataset) is type(held_out.dataset) is type(testing.train)
    assert sorted([*kept.indices, *held_out.indices]) == list(range(len(testing.train)))
    assert fingerprints(held_out.dataset) == fingerprints(testing.train)


def test_a_twelfth_of_each_class_is_held_out(validating, testing):
    labels = [label for _, label in (testing.train[place] for place in range(len(testing.train)))]
    chosen = [label for _, label in (validating.held_out[place] for place in range(len(validating.held_out)))]
    for label in range(10):
        assert chosen.count(label) == round(labels.count(label) / 12)


def test_the_split_is_the_same_every_time(validating):
    again = load_samples("digits", split="validation", size=8, data_dir=None)
    assert isinstance(again.held_out, Subset)
    assert again.held_out.indices == validating.held_out.indices


def test_test_images_are_not_even_read_while_rates_are_chosen(monkeypatch):
    class Untouchable:
        def __len__(self) -> int:
            raise AssertionError("the test set was looked at")

        __getitem__ = __len__  # pyright: ignore

    from dataclasses import replace

    splits = replace(load_digits(), test=Untouchable())
    monkeypatch.setattr(sources, "load_digits", lambda: splits)
    samples = load_samples("digits", split="validation", size=8, data_dir=None)
    assert len(labels_of(samples.held_out)) == 120
    with pytest.raises(AssertionError, match="looked at"):
        labels_of(load_samples("digits", split="test", size=8, data_dir=None).held_out)


def labels_of(images) -> list[int]:
    return [images[place][1] for place in range(len(images))]


def test_images_that_are_seen_seldom_are_not_augmented(testing):
    image, _ = testing.train[0]
    one, other = testing.train_transform(image), testing.transform(image)
    assert one.shape == (1, 8, 8)
    assert one.equal(other)
    assert one.equal(testing.train_transform(image))


@pytest.mark.parametrize("name", ["fashion-mnist", "cifar10"])
def test_a_folder_that_is_not_named_is_asked_for(name: Data):
    with pytest.raises(RunError, match=f"{name} needs the folder of its images: name it with --data-dir"):
        load_samples(name, split="test", size=28, data_dir=None)


@pytest.mark.parametrize("name", LOOK_UPS)
def test_look_ups_are_validated_and_tested_on_samples_of_their_own(name, monkeypatch):
    monkeypatch.setattr(sources, "_look_ups", sources._look_ups.__wrapped__)  # and nothing kept
    monkeypatch.setattr(sources, "TRAIN_LOOK_UPS", 300)
    monkeypatch.setattr(sources, "HELD_OUT_LOOK_UPS", 200)
    found = {
        split: load_samples(name, split=split, size=24, data_dir=None) for split in ("validation", "test")
    }
    assert (found["test"].in_chans, found["test"].num_classes) == (IN_CHANS[name], 16)
    words = {
        split: {samples.held_out[k][0].tobytes() for k in range(200)} for split, samples in found.items()
    }
    train = {found["test"].train[k][0].tobytes() for k in range(300)}
    assert (len(words["validation"]), len(words["test"]), len(train)) == (200, 200, 300)
    assert not words["validation"] & words["test"]
    assert not train & (words["validation"] | words["test"])
