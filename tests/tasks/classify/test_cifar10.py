import pickle
import shutil
import tarfile
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
import torchvision.datasets.utils
from PIL import Image
from torchvision.datasets import CIFAR10

from crosshead.tasks.classify.cifar10 import CLASSES, TEST_BATCHES, TRAIN_BATCHES, load_cifar10


@pytest.fixture
def batches(tmp_path):
    """The published layout, two images to a batch; each image is flat, of the value of its number."""
    root = tmp_path / "given"
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    for number, name in enumerate(TRAIN_BATCHES + TEST_BATCHES):
        pixels = np.repeat([[2 * number], [2 * number + 1]], 3072, axis=1).astype(np.uint8)
        (folder / name).write_bytes(pickle.dumps({"data": pixels, "labels": [number, 9 - number]}))
    return root


@pytest.fixture
def tree(tmp_path):
    root = tmp_path / "given" / "cifar10"
    for number, name in enumerate(CLASSES):
        for split in "train", "test":
            path = root / split / name / "0.png"
            path.parent.mkdir(parents=True)
            Image.new("RGB", (32, 32), (number, 0, 0)).save(path)
    return root


def pack(folder, archive):
    with tarfile.open(archive, "w:gz") as file:
        file.add(folder, arcname=folder.name)
    return archive


def check_tree(splits):
    assert [(image.getpixel((0, 0))[0], label) for image, label in splits.test] == [(n, n) for n in range(10)]


def check_batches(splits):
    assert [int(np.asarray(image).mean()) for image, _ in splits.train] == list(range(10))
    assert [label for _, label in splits.train] == [0, 9, 1, 8, 2, 7, 3, 6, 4, 5]
    assert [label for _, label in splits.test] == [5, 4]


def test_the_published_batches_are_read_in_their_order(batches):
    splits = load_cifar10(batches)
    check_batches(splits)
    image, _ = splits.train[0]
    assert (image.mode, image.size) == ("RGB", (32, 32))
    assert (splits.in_chans, splits.image_size, len(splits.classes)) == (3, 32, 10)
    check_batches(load_cifar10(str(batches / "cifar-10-batches-py")))


def test_the_published_archive_is_read(batches, tmp_path):
    (tmp_path / "archived").mkdir()
    archive = pack(batches / "cifar-10-batches-py", tmp_path / "archived" / "cifar-10-python.tar.gz")
    check_batches(load_cifar10(archive, cache_dir=tmp_path / "cache"))
    check_batches(load_cifar10(archive.parent, cache_dir=tmp_path / "cache"))


def test_a_tree_of_images_is_read(tree):
    check_tree(load_cifar10(tree))
    check_tree(load_cifar10(tree.parent))


def test_an_archive_of_a_tree_is_read(tree, tmp_path):
    (tmp_path / "archived").mkdir()
    archive = pack(tree, tmp_path / "archived" / "cifar10_subset.tar.gz")
    check_tree(load_cifar10(archive, cache_dir=tmp_path / "cache"))
    pack(tree, archive.parent / "cifar-100-python.tar.gz")
    check_tree(load_cifar10(archive.parent, cache_dir=tmp_path / "cache"))


def test_several_archives_are_refused_by_name(tree, tmp_path, refused):
    for name in "cifar10-a.zip", "cifar10-b.tar.xz":
        (tmp_path / name).touch()
    shutil.rmtree(tree.parent)
    refused(lambda: load_cifar10(tmp_path), tmp_path, "cifar10-a.zip, cifar10-b.tar.xz", "give data_dir one")


def test_an_archive_of_something_else_is_refused(batches, tmp_path, refused):
    (tmp_path / "photos").mkdir()
    archive = pack(tmp_path / "photos", tmp_path / "photos.tar.gz")
    refused(
        lambda: load_cifar10(archive, cache_dir=tmp_path), archive, "cifar-10-batches-py/", "get the archive"
    )


@pytest.mark.parametrize("name", TRAIN_BATCHES + TEST_BATCHES)
def test_a_missing_batch_is_named(batches, refused, name):
    path = batches / "cifar-10-batches-py" / name
    path.unlink()
    refused(lambda: load_cifar10(batches), path, "cannot be read", "get the six batch files again")


def test_a_tree_of_other_classes_is_refused(tree, refused):
    for split in "train", "test":
        (tree / split / "airplane").rename(tree / split / "zebra")
    refused(lambda: load_cifar10(tree), tree, "zebra", "airplane", "recipe for any folder")


def test_a_tree_of_larger_images_is_refused(tree, refused):
    for path in tree.rglob("*.png"):
        Image.new("RGB", (64, 48)).save(path)
    refused(lambda: load_cifar10(tree), tree, "64 x 48 pixels, not 32 x 32")


def test_a_folder_without_it_is_told_what_to_put_there(tmp_path, refused):
    refused(lambda: load_cifar10(tmp_path), tmp_path, "cifar-10-python.tar.gz", "download=True")
    refused(lambda: load_cifar10(None), "data_dir is None")
    refused(lambda: load_cifar10(tmp_path / "none"), tmp_path / "none", "no such folder")


@pytest.mark.parametrize(
    "error", [URLError("no route to host"), RuntimeError("File not found or corrupted.")]
)
def test_without_a_network_the_message_says_which_file_to_put_where(tmp_path, refused, monkeypatch, error):
    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr(torchvision.datasets.utils, "download_url", fail)
    root = tmp_path / "new"
    refused(
        lambda: load_cifar10(root, download=True),
        root,
        "cannot be downloaded",
        "cifar-10-python.tar.gz there by",
    )


def test_a_download_is_checked_and_lands_in_the_folder_that_was_chosen(batches, tmp_path, monkeypatch):
    def download(url, root, *, filename, md5):
        assert (url, md5) == (CIFAR10.url, CIFAR10.tgz_md5)
        (tmp_path / "new").mkdir()
        pack(batches / "cifar-10-batches-py", tmp_path / "new" / filename)
        assert root == str(tmp_path / "new")

    monkeypatch.setattr(torchvision.datasets.utils, "download_url", download)
    check_batches(load_cifar10(tmp_path / "new", download=True, cache_dir=tmp_path / "cache"))


def test_nothing_is_downloaded_where_it_is_there(batches, monkeypatch):
    monkeypatch.setattr(torchvision.datasets.utils, "download_url", None)
    check_batches(load_cifar10(batches, download=True))
    check_batches(load_cifar10(batches / "cifar-10-batches-py", download=True))


def test_the_splits_can_be_sent_to_workers(batches):
    check_batches(pickle.loads(pickle.dumps(load_cifar10(batches))))


def test_a_part_of_the_real_subset_is_read_from_an_archive(real_data, tmp_path):
    # The first hundred images of each class: unpacking all 25,000 takes a disk some time.
    with (
        tarfile.open(real_data / "cifar10" / "cifar10_20k_5k.tar.xz") as whole,
        tarfile.open(tmp_path / "cifar10.tar.xz", "w:xz", preset=0) as part,
    ):
        for member in whole:
            if "/00" in member.name:
                part.addfile(member, whole.extractfile(member))
    splits: Any = load_cifar10(tmp_path, cache_dir=tmp_path / "cache")
    assert np.bincount(splits.train.labels).tolist() == [100] * 10
    assert np.bincount(splits.test.labels).tolist() == [100] * 10
    pixels = np.stack([np.asarray(image) for image, _ in splits.train]) / 255
    # A fiftieth of the whole set, in JPEG, has about the mean and spread of the whole.
    assert pixels.mean(axis=(0, 1, 2)) == pytest.approx(splits.mean, abs=0.01)
    assert pixels.std(axis=(0, 1, 2)) == pytest.approx(splits.std, abs=0.01)
