import pickle
import shutil
from typing import Any

import numpy as np
import pytest
from PIL import Image

from crosshead.tasks.classify.folder import load_folder

SPLIT = [f"{split}/{name}/{n}.jpg" for split in ("train", "val") for name in ("cat", "dog") for n in range(3)]


def test_a_tree_with_splits_is_read(write_images):
    splits: Any = load_folder(write_images(*SPLIT))
    assert (len(splits.train), len(splits.test), splits.classes) == (6, 6, ("cat", "dog"))
    assert [label for _, label in splits.train] == [0, 0, 0, 1, 1, 1]
    assert splits.train[0][0].mode == "RGB"
    assert (splits.in_chans, splits.image_size) == (3, 224)
    assert splits.mean == (0.485, 0.456, 0.406)
    assert splits.std == (0.229, 0.224, 0.225)


@pytest.mark.parametrize("name", ["test", "valid"])
def test_the_held_out_split_may_have_other_names(write_images, name):
    root = write_images(*SPLIT)
    (root / "val").rename(root / name)
    splits: Any = load_folder(str(root))
    assert splits.test.root == root / name


def test_of_a_tree_without_splits_a_fixed_fifth_of_each_class_is_held_out(write_images):
    root = write_images(
        *(f"{name}/{n}.jpg" for name, count in (("cat", 10), ("dog", 5)) for n in range(count))
    )
    first: Any = load_folder(root)
    second: Any = load_folder(root)
    assert np.bincount(first.test.labels).tolist() == [2, 1]
    assert first.test.paths == second.test.paths
    everything = sorted(first.train.paths + first.test.paths)
    assert everything == sorted(str(path) for path in root.rglob("*.jpg"))
    for split in (first.train, first.test):
        for path, label in zip(split.paths, split.labels, strict=True):
            assert f"/{first.classes[label]}/" in path


def test_the_splits_can_be_sent_to_workers(write_images):
    assert pickle.loads(pickle.dumps(load_folder(write_images(*SPLIT)))).test[5][1] == 1


def empty(root):
    shutil.rmtree(root)
    root.mkdir()


def no_class_folders(root):
    for path in list(root.rglob("*.jpg")):
        path.rename(path.parent.parent / f"{path.parent.name}{path.name}")
    for split in "train", "val":
        for name in "cat", "dog":
            (root / split / name).rmdir()


def empty_class(root):
    for path in (root / "val" / "dog").iterdir():
        path.unlink()


def other_files_only(root):
    for path in (root / "train" / "cat").iterdir():
        path.rename(path.with_suffix(".npy"))


def all_broken(root):
    for path in (root / "val").rglob("*.jpg"):
        path.write_bytes(b"broken")


@pytest.mark.parametrize(
    ("spoil", "place", "words"),
    [
        (shutil.rmtree, ".", ("no such folder", "give data_dir")),
        (empty, ".", ("no class folders", "put the images of each class into a folder")),
        (
            lambda root: shutil.rmtree(root / "val"),
            ".",
            ("no val/, test/ or valid/", "add the held-out split"),
        ),
        (lambda root: shutil.rmtree(root / "train"), ".", ("no train/", "add the training split")),
        (
            lambda root: shutil.rmtree(root / "val" / "cat"),
            "val/cat",
            ("no such class folder", "same classes"),
        ),
        (lambda root: shutil.rmtree(root / "train" / "cat"), "train", ("only one class folder, dog",)),
        (
            lambda root: (root / "val" / "dog").rename(root / "val" / "fox"),
            "val/dog",
            ("no such class folder",),
        ),
        (empty_class, "val/dog", ("no image in this class folder", "add images or leave it out")),
        (other_files_only, "train/cat", ("no image in this class folder",)),
        (all_broken, "val", ("6 of 6 images are unreadable", "repair or replace the file, or leave it out")),
    ],
)
def test_a_folder_that_cannot_be_used_is_refused(write_images, refused, spoil, place, words):
    root = write_images(*SPLIT)
    spoil(root)
    refused(lambda: load_folder(root), root / place, *words)


def test_images_without_class_folders_are_refused(write_images, refused):
    root = write_images("1.jpg", "2.jpg")
    refused(lambda: load_folder(root), root, "no class folders", "into a folder named after the class")


def test_a_class_of_one_image_cannot_be_split(write_images, refused):
    root = write_images("cat/1.jpg", "cat/2.jpg", "dog/1.jpg")
    refused(lambda: load_folder(root), root / "dog", "1 image", "add images or leave it out")


def test_one_broken_image_among_many_is_a_warning(write_images, caplog):
    root = write_images(*SPLIT)
    (root / "train" / "cat" / "1.jpg").write_bytes(b"broken")
    splits: Any = load_folder(root)
    assert [label for _, label in splits.train] == [0, 0, 0, 1, 1, 1]
    assert len(caplog.messages) == 1


def test_the_real_photographs_of_a_folder_are_read(real_data, tmp_path):
    for split in "train", "val":
        for name in "astronaut.png", "coffee.png":
            folder = tmp_path / split / name.removesuffix(".png")
            folder.mkdir(parents=True)
            shutil.copy(real_data / "photos" / name, folder)
    splits: Any = load_folder(tmp_path)
    assert [image.size for image, _ in splits.test] == [(512, 512), (600, 400)]
    with Image.open(real_data / "photos" / "coffee.png") as coffee:
        assert np.array_equal(np.asarray(splits.test[1][0]), np.asarray(coffee.convert("RGB")))
