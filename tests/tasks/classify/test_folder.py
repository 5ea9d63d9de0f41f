import logging
import pickle
import shutil
from typing import Any

import numpy as np
import pytest
from PIL import Image

import crosshead.tasks.classify.folder
from crosshead.tasks.classify.folder import (
    check_folder,
    find_imagenet1k,
    find_splits,
    load_folder,
    load_imagenet1k,
)

SPLIT = [f"{split}/{name}/{n}.jpg" for split in ("train", "val") for name in ("cat", "dog") for n in range(3)]


def test_a_tree_with_splits_is_read(write_images):
    splits: Any = load_folder(write_images(*SPLIT))
    assert (len(splits.train), len(splits.test), splits.meta.classes) == (6, 6, ("cat", "dog"))
    assert [label for _, label in splits.train] == [0, 0, 0, 1, 1, 1]
    assert splits.train[0][0].mode == "RGB"
    assert (splits.meta.in_chans, splits.meta.image_size) == (3, 224)
    assert splits.meta.mean == (0.485, 0.456, 0.406)
    assert splits.meta.std == (0.229, 0.224, 0.225)


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        (["train/a/1.jpg", "val/a/1.jpg"], {"train": "train", "test": "val"}),
        (["train/a/1.jpg", "test/a/1.jpg"], {"train": "train", "test": "test"}),
        (["train/a/1.jpg", "valid/a/1.jpg"], {"train": "train", "test": "valid"}),
        (["train/a/1.jpg", "dev/a/1.jpg"], {"train": "train", "test": "dev"}),
        (["Training/a/1.jpg", "Testing/a/1.jpg"], {"train": "Training", "test": "Testing"}),
        (
            ["train/a/1.jpg", "test/a/1.jpg", "val/a/1.jpg"],
            {"train": "train", "val": "val", "test": "test"},
        ),
        # Images that nobody has sorted, as the published test images of a competition.
        (["train/a/1.jpg", "test/1.jpg", "val/a/1.jpg"], {"train": "train", "test": "val"}),
        (["train/a/1.jpg", "val/1.jpg"], {"train": "train", "test": "val"}),
        (["a/1.jpg", "b/1.jpg"], {"train": "set"}),
        (["train/1.jpg", "bus/1.jpg"], {"train": "set"}),
        (["test/1.jpg", "control/1.jpg"], {"train": "set"}),
        ([], {"train": "set"}),
    ],
)
def test_the_layouts_that_are_known(write_images, names, splits):
    assert {split: path.name for split, path in find_splits(write_images(*names)).items()} == splits


def test_a_split_that_is_passed_over_is_warned_of(write_images, caplog):
    root = write_images("train/a/1.jpg", "test/1.jpg", "val/a/1.jpg")
    find_splits(root)
    assert caplog.messages == [
        f"{root / 'test'}: passed over, for it holds images where class folders should be"
    ]


def test_a_training_split_alone_is_dealt_out(write_images):
    root = write_images(*(f"train/{name}/{n}.png" for name in ("cat", "dog") for n in range(10)))
    (root / "train" / "notes.txt").touch()
    assert find_splits(root) == {"train": root / "train"}
    data: Any = load_folder(root, test=0.3)
    assert (len(data.train), data.val, len(data.test)) == (14, None, 6)
    assert np.bincount(data.test.labels).tolist() == [3, 3]


def test_a_split_without_the_other_is_refused(write_images, refused):
    root = write_images("train/a/1.jpg", "extra/a/1.jpg")
    refused(lambda: find_splits(root), root, "has train/ but no val/", "call extra/ so if it is held out")
    shutil.rmtree(root / "extra")
    (root / "train").rename(root / "val")
    refused(lambda: find_splits(root), root, "has val/ but no train/", "add the training split")


def test_an_empty_training_folder_is_still_a_split(write_images):
    root = write_images("val/a/1.jpg")
    (root / "train").mkdir()
    assert find_splits(root) == {"train": root / "train", "test": root / "val"}


@pytest.mark.parametrize("name", ["val", "test", "valid"])
def test_a_lone_held_out_split_is_the_test_set_whatever_its_name(write_images, name):
    root = write_images(*SPLIT)
    (root / "val").rename(root / name)
    data: Any = load_folder(str(root))
    assert data.test.root == root / name
    assert data.val is None


def test_of_three_splits_each_is_used(write_images):
    root = write_images(*SPLIT, *(name.replace("val", "test") for name in SPLIT if name.startswith("val")))
    data: Any = load_folder(root)
    for split, images in (("train", data.train), ("val", data.val), ("test", data.test)):
        assert images.root == root / split
        assert all(path.startswith(str(root / split)) for path in images.paths)


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
            assert f"/{first.meta.classes[label]}/" in path


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
        (shutil.rmtree, ".", ("no such folder", "give --data-dir")),
        (empty, ".", ("no class folders", "put the images of each class into a folder")),
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


def test_ignored_files_are_counted_in_one_warning(write_images, caplog):
    root = write_images(*SPLIT)
    for name in "x.txt", "y.txt":
        (root / "train" / name).touch()
    with caplog.at_level(logging.WARNING):
        load_folder(root)
    assert len(caplog.messages) == 1
    assert "2 files ignored" in caplog.messages[0]
    assert "train/x.txt" in caplog.messages[0]


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


# Without loss, so that no two of these flat images are the same.
SOUND = [name.replace(".jpg", ".png") for name in SPLIT]


def test_nothing_is_found_in_a_sound_folder(write_images):
    assert list(check_folder(find_splits(write_images(*SOUND)))) == []
    root = write_images()
    shutil.rmtree(root)
    assert (
        list(check_folder(find_splits(write_images("cat/1.png", "cat/2.png", "dog/1.png", "dog/2.png"))))
        == []
    )


def test_everything_that_is_wrong_is_listed_a_line_each(write_images):
    root = write_images(*SOUND)
    (root / "train" / "cat" / "1.png").write_bytes(b"broken")
    (root / "val" / "dog" / "2.png").write_bytes((root / "val" / "dog" / "2.png").read_bytes()[:50])
    (root / "train" / "fox").mkdir()
    (root / "val" / "readme.txt").touch()
    shutil.copy(root / "train" / "dog" / "0.png", root / "val" / "dog" / "copy.png")
    shutil.copy(root / "val" / "cat" / "0.png", root / "val" / "cat" / "twice.png")
    lines = list(check_folder(find_splits(root)))
    expected = {
        "train/fox": "no image in this class folder",
        "val/fox": "no such class folder",
        "val/readme.txt": "ignored: no image by its extension",
        "train/cat/1.png": "not readable as an image",
        "val/cat/twice.png": f"byte for byte the same as {root}/val/cat/0.png; leave one of them out",
        "val/dog/2.png": "not readable as an image",
        "val/dog/copy.png": f"byte for byte the same as {root}/train/dog/0.png of the train split;",
    }
    assert len(lines) == len(expected)
    for line, (place, reason) in zip(lines, expected.items(), strict=True):
        assert line.startswith(f"{root / place}: {reason}")
        assert "\n" not in line


def test_a_tree_without_splits_needs_two_images_in_each_class(write_images):
    root = write_images("cat/1.png", "cat/2.png", "dog/1.png")
    assert [line.partition(":")[0] for line in check_folder(find_splits(root))] == [str(root / "dog")]


SYNSETS = ("n01440764", "n01443537", "n01484850")


@pytest.fixture
def imagenet(write_images, monkeypatch):
    """ImageNet as if it had three classes."""
    monkeypatch.setattr(crosshead.tasks.classify.folder, "IMAGENET_CLASSES", 3)
    return write_images(*(f"{split}/{name}/0.JPEG" for split in ("train", "val") for name in SYNSETS))


def test_the_published_validation_images_are_the_test_set(imagenet):
    splits: Any = load_imagenet1k(imagenet)
    assert splits.val is None
    assert splits.test.root == imagenet / "val"
    assert (len(splits.train), len(splits.test), splits.meta.classes) == (3, 3, SYNSETS)
    assert splits.test[1][1] == 1
    assert (splits.meta.in_chans, splits.meta.image_size) == (3, 224)


@pytest.mark.parametrize(
    ("names", "place", "words"),
    [
        (["train/a/1.jpg", "val/a/1.jpg"], "train", ("1 class folders", "has 1000", "recipe for any folder")),
        (["a/1.jpg", "b/1.jpg"], ".", ("no train/ and val/", "give the folder that holds both")),
        (["train/a/1.jpg"], ".", ("no train/ and val/",)),
    ],
)
def test_a_folder_that_is_not_imagenet_is_refused(write_images, refused, names, place, words):
    root = write_images(*names)
    refused(lambda: load_imagenet1k(root), root / place, *words)


def test_the_published_test_images_have_no_labels_and_are_passed_over(imagenet):
    for place in ("test", "test/all"):
        (imagenet / place).mkdir()
        shutil.copy(imagenet / "val" / SYNSETS[0] / "0.JPEG", imagenet / place)
        assert find_imagenet1k(imagenet) == {"train": imagenet / "train", "test": imagenet / "val"}
        (imagenet / place / "0.JPEG").unlink()


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


def test_an_imagenet_that_is_not_named_or_missing_is_refused(tmp_path, refused):
    refused(lambda: load_imagenet1k(None), "--data-dir")
    refused(lambda: load_imagenet1k(tmp_path / "none"), tmp_path / "none", "no such folder")
