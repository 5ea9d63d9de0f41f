import hashlib
import io
import os
import pickle
import shutil
import struct
import tarfile
import warnings
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
from PIL import Image
from torchvision.datasets import CIFAR10

import crosshead.tasks.classify.cifar10
from crosshead.tasks.classify.cifar10 import CLASSES, ArraysOnly, load_cifar10

BATCHES = [name for name, _ in CIFAR10.train_list + CIFAR10.test_list]


def as_published(pixels: np.ndarray, labels: list[int]) -> bytes:
    """The opcodes of Python 2's cPickle, protocol 2, in which the published batches are written."""
    return (
        b"\x80\x02}q\x01(U\x0bbatch_labelq\x02U\x0etesting batch q\x03U\x06labelsq\x04]q\x05("
        + b"".join(b"K" + bytes([label]) for label in labels)
        + b"eU\x04dataq\x06cnumpy.core.multiarray\n_reconstruct\nq\x07cnumpy\nndarray\nq\x08"
        + b"K\x00\x85q\tU\x01b\x87q\nRq\x0b(K\x01M"
        + struct.pack("<H", pixels.shape[0])
        + b"M"
        + struct.pack("<H", pixels.shape[1])
        + b"\x86cnumpy\ndtype\nq\x0cU\x02u1K\x00K\x01\x87q\rRq\x0e"
        + b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T"
        + struct.pack("<I", pixels.size)
        + pixels.tobytes()
        + b"tbU\tfilenamesq\x0f](U\x09cat_1.pngU\x09dog_2.pngeu."
    )


class Hostile:
    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self):
        return os.mkdir, (str(self.place),)


@pytest.fixture
def publish(tmp_path, monkeypatch):
    """Writes batch files by name, and declares them to be the published ones."""

    def write(batches: dict[str, bytes]) -> Path:
        folder = tmp_path / "given" / "cifar-10-batches-py"
        folder.mkdir(parents=True)
        for name, content in batches.items():
            (folder / name).write_bytes(content)
        listed = [[name, hashlib.md5(content).hexdigest()] for name, content in batches.items()]
        monkeypatch.setattr(CIFAR10, "train_list", listed[:-1])
        monkeypatch.setattr(CIFAR10, "test_list", listed[-1:])
        return folder.parent

    return write


@pytest.fixture
def batches(publish):
    """The published layout, two images to a batch; each image is flat, of the value of its number."""
    return publish(
        {
            name: as_published(
                np.repeat([[2 * number], [2 * number + 1]], 3072, axis=1).astype(np.uint8),
                [number, 9 - number],
            )
            for number, name in enumerate(BATCHES)
        }
    )


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
    assert (splits.meta.in_chans, splits.meta.image_size, len(splits.meta.classes)) == (3, 32, 10)
    check_batches(load_cifar10(str(batches / "cifar-10-batches-py")))


def test_the_published_archive_is_read(batches, tmp_path):
    (tmp_path / "archived").mkdir()
    archive = pack(batches / "cifar-10-batches-py", tmp_path / "archived" / "cifar-10-python.tar.gz")
    check_batches(load_cifar10(archive, cache_dir=tmp_path / "cache"))
    check_batches(load_cifar10(archive.parent, cache_dir=tmp_path / "cache"))


def test_there_is_no_validation_split_unless_a_tree_has_one(batches, tree):
    assert load_cifar10(batches).val is None
    assert load_cifar10(tree).val is None
    shutil.copytree(tree / "train", tree / "val")
    data: Any = load_cifar10(tree)
    assert [images.root.name for images in (data.train, data.val, data.test)] == ["train", "val", "test"]


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


@pytest.mark.parametrize("name", BATCHES)
def test_a_missing_batch_is_named(batches, refused, name):
    path = batches / "cifar-10-batches-py" / name
    path.unlink()
    refused(lambda: load_cifar10(batches), path, "cannot be read", "get the six batch files again")


def test_a_row_holds_the_red_values_then_the_green_then_the_blue(publish):
    pixels = np.random.default_rng(0).integers(0, 256, (4, 3072), dtype=np.uint8)
    content = as_published(pixels, [6, 9, 0, 4])
    assert np.array_equal(pickle.loads(content, encoding="bytes")[b"data"], pixels)
    data: Any = load_cifar10(publish({"data_batch_1": content, "test_batch": content}))
    assert data.train.labels.tolist() == [6, 9, 0, 4]
    assert data.train.images.shape == (4, 32, 32, 3)
    assert data.train.images[2, 5, 7].tolist() == [pixels[2, band * 1024 + 5 * 32 + 7] for band in range(3)]


def test_the_published_checksums_are_those_of_torchvision(batches, monkeypatch, refused):
    monkeypatch.undo()
    path = batches / "cifar-10-batches-py" / "data_batch_1"
    refused(lambda: load_cifar10(batches), path, "not c99cafc152244af753f735de768cd75f")


@pytest.mark.parametrize("name", BATCHES)
@pytest.mark.parametrize("change", [lambda content: content[:-500], lambda content: content + b"\0"])
def test_a_batch_that_is_not_the_published_file_is_named(batches, refused, name, change):
    path = batches / "cifar-10-batches-py" / name
    path.write_bytes(change(path.read_bytes()))
    refused(
        lambda: load_cifar10(batches), path, "not the published CIFAR-10 batch (MD5", "get the file again"
    )


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_hostile_pickle_runs_nothing(tmp_path, batches, refused, protocol):
    place = tmp_path / "was-here"
    path = batches / "cifar-10-batches-py" / "data_batch_3"
    for batch in (
        Hostile(place),
        {"data": np.zeros((1, 3072), np.uint8), "labels": [Hostile(place)]},
        {"data": np.array([[Hostile(place)]], dtype=object), "labels": [0]},
    ):
        content = pickle.dumps(batch, protocol)
        path.write_bytes(content)
        refused(lambda: load_cifar10(batches), path, "not the published", "from its publisher")
        # Not even if the checksum were right.
        with pytest.raises(pickle.UnpicklingError, match="which no batch needs"):
            ArraysOnly(io.BytesIO(content), encoding="bytes").load()
        assert not place.exists()
        # The same bytes do run under the plain reader: the test could fail.
        pickle.loads(content)
        place.rmdir()


def test_reading_a_batch_gives_no_warning(batches):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_cifar10(batches)


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
    refused(lambda: load_cifar10(None), "--data-dir")
    refused(lambda: load_cifar10(tmp_path / "none"), tmp_path / "none", "no such folder")


@pytest.mark.parametrize(
    "error", [URLError("no route to host"), RuntimeError("File not found or corrupted.")]
)
def test_without_a_network_the_message_says_which_file_to_put_where(tmp_path, refused, monkeypatch, error):
    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr(crosshead.tasks.classify.cifar10, "download_url", fail)
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

    monkeypatch.setattr(crosshead.tasks.classify.cifar10, "download_url", download)
    check_batches(load_cifar10(tmp_path / "new", download=True, cache_dir=tmp_path / "cache"))


def test_nothing_is_downloaded_where_it_is_there(batches, monkeypatch):
    monkeypatch.setattr(crosshead.tasks.classify.cifar10, "download_url", None)
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
    assert pixels.mean(axis=(0, 1, 2)) == pytest.approx(splits.meta.mean, abs=0.01)
    assert pixels.std(axis=(0, 1, 2)) == pytest.approx(splits.meta.std, abs=0.01)
