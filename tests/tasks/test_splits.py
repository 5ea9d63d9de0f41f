import errno
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crosshead.tasks.splits import (
    carve,
    deal,
    existing_folder,
    find_file,
    find_places,
    shared_files,
    stratified_split,
)
from crosshead.tasks.task import DataError


def test_a_folder_that_is_none_missing_or_a_file_is_refused(tmp_path, refused):
    refused(lambda: existing_folder(None), "no folder is given", "--data-dir")
    refused(lambda: existing_folder(tmp_path / "none"), tmp_path / "none", "no such folder", "--data-dir")
    (tmp_path / "set.zip").touch()
    refused(lambda: existing_folder(tmp_path / "set.zip"), tmp_path / "set.zip", "a file", "unpacked")


def test_a_folder_that_cannot_be_listed_is_refused(tmp_path, refused, monkeypatch):
    def forbidden(self):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", forbidden)
    refused(lambda: existing_folder(tmp_path), tmp_path, "Permission denied", "check the folder")


def test_a_tilde_stands_for_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert existing_folder("~") == tmp_path


@pytest.mark.parametrize(
    ("there", "given", "places"),
    [
        ("train test", {}, {"train": "train", "test": "test"}),
        ("train val", {}, {"train": "train", "test": "val"}),
        ("training validation", {}, {"train": "training", "test": "validation"}),
        ("train valid test", {}, {"train": "train", "val": "valid", "test": "test"}),
        ("train val", {"test": "val"}, {"train": "train", "test": "val"}),
        ("train val", {"val": "val"}, {"train": "train", "val": "val"}),
        ("a b c", {"train": "a", "val": "b", "test": "c"}, {"train": "a", "val": "b", "test": "c"}),
        ("train val test dev", {"test": "dev"}, {"train": "train", "val": "val", "test": "dev"}),
        ("train", {}, {"train": "train"}),
        ("", {}, {}),
    ],
)
def test_a_lone_held_out_split_is_the_test_unless_the_user_says_otherwise(there, given, places):
    def find(split, names):
        return next((name for name in names if name in there.split()), None)

    assert find_places(find, **{"train": None, "val": None, "test": None, **given}) == places


@settings(max_examples=30, deadline=None)
@given(
    counts=st.lists(st.integers(2, 30), min_size=1, max_size=8),
    fraction=st.floats(0.05, 0.95),
    seed=st.integers(0, 1000),
)
def test_each_class_is_shared_out_in_proportion_and_lacks_in_neither_split(counts, fraction, seed):
    labels = np.random.RandomState(seed).permutation(np.repeat(np.arange(len(counts)), counts))
    train, test = stratified_split(labels, fraction=fraction, seed=seed)
    assert np.array_equal(np.sort(np.concatenate([train, test])), np.arange(len(labels)))
    assert np.all(np.diff(train) > 0)
    assert np.all(np.diff(test) > 0)
    for label, count in enumerate(counts):
        held_out = np.sum(labels[test] == label)
        assert 1 <= held_out <= count - 1
        assert abs(held_out - count * fraction) <= 1


def test_the_split_is_the_same_on_every_machine():
    _, test = stratified_split(np.repeat([0, 1], [10, 5]))
    assert test.tolist() == [2, 8, 11]


def test_the_seed_changes_the_split():
    labels = np.zeros(100, int)
    assert stratified_split(labels, seed=0)[1].tolist() != stratified_split(labels, seed=1)[1].tolist()


def test_a_class_of_one_item_cannot_be_split():
    with pytest.raises(ValueError, match="one item of class 1; a split needs two or more"):
        stratified_split(np.array([0, 0, 1]))


def carved(items: Any, **options: Any) -> tuple[Any, Any]:
    return carve(items, fraction=0.2, **options)


def as_sequence(items: Any) -> Any:
    return [items[place] for place in range(len(items))]


@pytest.mark.parametrize("labels", [None, [0] * 30 + [1] * 10])
def test_what_is_carved_is_not_trained_on(labels):
    items = range(40)
    train, val = (as_sequence(part) for part in carved(items, seed=3, labels=labels))
    assert sorted(train + val) == list(items)
    assert len(val) == 8
    if labels:
        assert sum(item >= 30 for item in val) == 2
    other = as_sequence(carved(items, seed=4, labels=labels)[1])
    assert other != val


def test_nothing_is_carved_where_nothing_is_asked_for():
    items = range(7)
    assert carve(items, fraction=0, seed=0) == (items, None)  # pyright: ignore[reportArgumentType]


def test_too_few_samples_to_carve_any_are_refused_with_the_remedy():
    for labels in (None, [0, 0, 1]):
        items = range(1 if labels is None else 3)
        with pytest.raises(DataError, match=r"too few to hold 10% of each class back .* or give --val 0"):
            carve(items, fraction=0.1, seed=0, labels=labels)  # pyright: ignore[reportArgumentType]


@pytest.fixture
def files(tmp_path):
    def write(**contents):
        for name, content in contents.items():
            (tmp_path / name).write_bytes(content)
        return [tmp_path / name for name in contents]

    return write


def test_files_of_the_same_content_are_found_whatever_their_name(files):
    first, second, third, fourth, fifth = files(a=b"1", b=b"2", c=b"1", d=b"3", e=b"2")
    assert list(shared_files({"train": [first, second], "val": [third, fourth], "test": [fifth]})) == [
        f"{third}: byte for byte the same as {first} of the train split; leave one of them out",
        f"{fifth}: byte for byte the same as {second} of the train split; leave one of them out",
    ]


def test_a_file_that_is_in_two_splits_is_found(files):
    first, second = files(a=b"1", b=b"2")
    assert list(shared_files({"train": [first, second], "test": [second, first]})) == [
        f"{second}: in both the train and the test split; take it out of one",
        f"{first}: in both the train and the test split; take it out of one",
    ]


def positions(parts):
    return {split: set(found) for split, (_, found) in parts.items()}


def test_what_a_data_set_lacks_is_dealt_out_and_nothing_else():
    labels = {"train": [0] * 30 + [1] * 10}
    parts = deal(labels, val=0.25, test=0.2, seed=0)
    found = positions(parts)
    assert {split: len(part) for split, part in found.items()} == {"train": 24, "val": 8, "test": 8}
    assert set.union(*found.values()) == set(range(40))
    # In proportion, and the test whatever the seed and the fraction to validate on.
    assert {split: sum(place >= 30 for place in part) for split, part in found.items()} == {
        "train": 6,
        "val": 2,
        "test": 2,
    }
    assert positions(deal(labels, val=0, test=0.2, seed=3))["test"] == found["test"]
    assert positions(deal(labels, val=0.25, test=0.2, seed=3))["val"] != found["val"]
    given = deal({**labels, "test": [0] * 5}, val=0.25, test=0.2, seed=0)
    assert [(split, source, len(part)) for split, (source, part) in given.items()] == [
        ("train", "train", 30),
        ("val", "train", 10),
        ("test", "test", 5),
    ]
    whole = deal({**labels, "val": [0], "test": [0]}, val=0.25, test=0.2, seed=0)
    assert {split: source for split, (source, _) in whole.items()} == dict(zip(whole, whole, strict=True))


def test_too_few_to_hold_back_are_refused(refused):
    refused(lambda: deal({"train": [0]}, val=0, test=0.2, seed=0), "20% of each class back for the test")
    words = "50% of each class back for validation", "--val 0"
    refused(lambda: deal({"train": [0], "test": [0]}, val=0.5, test=0.2, seed=0), *words)


@pytest.mark.parametrize(
    "name", ["a/1.jpg", "set/a/1.jpg", "/elsewhere/set/a/1.jpg", "..\\set\\a\\1.jpg", "/data/?d=a/1.jpg"]
)
def test_a_file_is_found_by_as_much_of_its_name_as_there_is(tmp_path, name):
    for place in ("a", "b", "."):
        (tmp_path / place).mkdir(exist_ok=True)
        (tmp_path / place / "1.jpg").touch()
    assert find_file(name, tmp_path) == tmp_path / "a" / "1.jpg"
    assert find_file(name.replace("1", "2"), tmp_path) is None
