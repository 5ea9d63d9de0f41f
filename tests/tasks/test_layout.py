import errno
from pathlib import Path

import pytest

from crosshead.tasks.layout import existing_folder, find_splits


def found(root):
    train, held_out = find_splits(root)
    return train.name, held_out and held_out.name


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        (["train/a/1.jpg", "val/a/1.jpg"], ("train", "val")),
        (["train/a/1.jpg", "test/a/1.jpg"], ("train", "test")),
        (["train/a/1.jpg", "valid/a/1.jpg"], ("train", "valid")),
        (["Training/a/1.jpg", "Testing/a/1.jpg"], ("Training", "Testing")),
        (["train/a/1.jpg", "test/a/1.jpg", "val/a/1.jpg"], ("train", "val")),
        (["train/a/1.jpg", "val/1.jpg"], ("train", "val")),
        (["a/1.jpg", "b/1.jpg"], ("set", None)),
        (["train/1.jpg", "bus/1.jpg"], ("set", None)),
        (["test/1.jpg", "control/1.jpg"], ("set", None)),
        ([], ("set", None)),
    ],
)
def test_the_layouts_that_are_known(write_images, names, splits):
    assert found(write_images(*names)) == splits


def test_a_split_without_the_other_is_refused(write_images, refused):
    root = write_images("train/a/1.jpg")
    refused(lambda: find_splits(root), root, "has train/ but no val/", "add the held-out split")
    (root / "train").rename(root / "val")
    refused(lambda: find_splits(root), root, "has val/ but no train/", "add the training split")


def test_an_empty_training_folder_is_still_a_split(write_images):
    root = write_images("val/a/1.jpg")
    (root / "train").mkdir()
    assert found(root) == ("train", "val")


def test_a_folder_that_is_none_missing_or_a_file_is_refused(tmp_path, refused):
    refused(lambda: existing_folder(None), "data_dir is None", "give the folder")
    refused(lambda: existing_folder(tmp_path / "none"), tmp_path / "none", "no such folder", "give data_dir")
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
