from typing import Any

import pytest

import crosshead.tasks.classify.imagenet1k
from crosshead.tasks.classify.imagenet1k import load_imagenet1k

SYNSETS = ("n01440764", "n01443537", "n01484850")


@pytest.fixture
def imagenet(write_images, monkeypatch):
    """ImageNet as if it had three classes."""
    monkeypatch.setattr(crosshead.tasks.classify.imagenet1k, "NUM_CLASSES", 3)
    return write_images(*(f"{split}/{name}/0.JPEG" for split in ("train", "val") for name in SYNSETS))


def test_both_splits_are_read(imagenet):
    splits: Any = load_imagenet1k(imagenet)
    assert (len(splits.train), len(splits.test), splits.classes) == (3, 3, SYNSETS)
    assert splits.test[1][1] == 1
    assert (splits.in_chans, splits.image_size) == (3, 224)


@pytest.mark.parametrize(
    ("names", "place", "words"),
    [
        (["train/a/1.jpg", "val/a/1.jpg"], "train", ("1 class folders", "has 1000", "recipe for any folder")),
        (["a/1.jpg", "b/1.jpg"], ".", ("no train/ and val/", "give the folder that holds both")),
        (["train/a/1.jpg"], ".", ("no val/",)),
    ],
)
def test_another_folder_is_refused(write_images, refused, names, place, words):
    root = write_images(*names)
    refused(lambda: load_imagenet1k(root), root / place, *words)


def test_validation_images_that_are_not_sorted_yet_are_refused(imagenet, refused):
    for number, name in enumerate(SYNSETS):
        (imagenet / "val" / name / "0.JPEG").rename(imagenet / "val" / f"ILSVRC2012_val_{number:08}.JPEG")
        (imagenet / "val" / name).rmdir()
    refused(
        lambda: load_imagenet1k(imagenet),
        imagenet / "val",
        "0 class folders",
        "sort the images into one folder",
    )


def test_a_folder_that_is_none_or_missing_is_refused(tmp_path, refused):
    refused(lambda: load_imagenet1k(None), "data_dir is None")
    refused(lambda: load_imagenet1k(tmp_path / "none"), tmp_path / "none", "no such folder")
