import os

import pytest

from crosshead.tasks.detect.coco.layout import choose_folder, find_coco
from crosshead.tasks.task import DataError


@pytest.fixture
def files(tmp_path):
    def touch(*names):
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()
        return tmp_path

    return touch


@pytest.mark.parametrize(
    ("train", "test", "images"),
    [
        ("train.json", "val.json", "images"),
        ("train.json", "test.json", "train"),
        ("instances_train.json", "instances_val.json", "images"),
        ("annotations/instances_train2017.json", "annotations/instances_val2017.json", "train2017"),
        ("annotations/instances_train2017.json", "annotations/instances_val2017.json", "images/train2017"),
        ("annotations/train.json", "annotations/valid.json", "images/train"),
        ("train/_annotations.coco.json", "valid/_annotations.coco.json", "train"),
        ("train.json", "val.json", "."),
    ],
)
def test_splits_and_their_images_are_found(files, train, test, images):
    root = files(train, test, f"{images}/1.jpg")
    places = find_coco(root)
    assert {split: place.path for split, place in places.items()} == {
        "train": root / train,
        "test": root / test,
    }
    assert choose_folder(places["train"], ["0.jpg", "1.jpg"]) == root / images


def test_the_folder_of_the_split_comes_before_one_for_all(files):
    root = files("train.json", "val.json", "images/1.jpg", "train/1.jpg", "val/1.jpg")
    assert [choose_folder(place, ["1.jpg"]).name for place in find_coco(root).values()] == ["train", "val"]


MINIVAL = "instances_minival2014.json"


def names(places):
    return {split: place.path.name for split, place in places.items()}


def test_a_folder_with_three_splits_gives_all_three(files):
    root = files("train.json", "val.json", "test.json")
    assert names(find_coco(root)) == {"train": "train.json", "val": "val.json", "test": "test.json"}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"test": "minival"}, ("train.json", "val.json", MINIVAL)),
        ({"val": "minival"}, ("train.json", MINIVAL, "test.json")),
        (
            {"val": "annotations/instances_minival2014.json"},
            ("train.json", MINIVAL, "test.json"),
        ),
        ({"train": "minival"}, (MINIVAL, "val.json", "test.json")),
        # What is given for one split is not found for another by its usual name.
        ({"test": "val"}, ("train.json", None, "val.json")),
        ({"test": "val.json"}, ("train.json", None, "val.json")),
        ({"train": "val.json"}, ("val.json", None, "test.json")),
        ({"val": "test", "test": "val"}, ("train.json", "test.json", "val.json")),
    ],
)
def test_splits_may_be_given_by_name_or_file(files, given, expected):
    root = files("train.json", "val.json", "test.json", "annotations/instances_minival2014.json")
    found = names(find_coco(root, **given))
    assert tuple(found.get(split) for split in ("train", "val", "test")) == expected


def test_what_is_missing_or_ambiguous_is_refused(files, refused):
    root = files("val.json")
    refused(
        lambda: find_coco(root), root, "no annotations of the train split (train or training)", "train.json"
    )
    files("train.json")
    refused(lambda: find_coco(root, test="extra"), root, "test split (extra)", "extra.json")
    refused(lambda: find_coco(root, test="extra.json"), root / "extra.json", "no such file")
    assert names(find_coco(root, val="val")) == {"train": "train.json", "val": "val.json"}
    assert names(find_coco(root, train="val")) == {"train": "val.json"}
    refused(
        lambda: find_coco(root, val="val", test="val.json"),
        root / "val.json",
        "both the val and the test split",
    )
    files("annotations/instances_train.json")
    refused(lambda: find_coco(root), root, "several files", "annotations/instances_train.json, train.json")
    assert find_coco(root, train="train.json")["train"].path == root / "train.json"
    refused(lambda: find_coco(None), "--data-dir")


def test_a_pipe_is_not_waited_for(files, refused):
    root = files("val.json")
    os.mkfifo(root / "train.json")
    refused(lambda: find_coco(root), root, "no annotations of the train split")
    refused(lambda: find_coco(root, train="train.json"), root / "train.json", "not a regular file")


def test_images_that_are_nowhere_are_looked_for_by_name(files, refused):
    place = find_coco(files("train.json", "val.json"))["train"]
    refused(lambda: choose_folder(place, ["1.jpg"]), place.path, "its image 1.jpg is not in", "images")


def test_an_archive_is_to_be_unpacked_first(files):
    root = files("cells.tar.xz")
    with pytest.raises(DataError, match=r"of the train split .*; if they are in cells\.tar\.xz, unpack it$"):
        find_coco(root)
