import gzip
import pickle
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
import torchvision.datasets

from crosshead.tasks.classify.fashion_mnist import load_fashion_mnist

FILES = {
    "train-images-idx3-ubyte": np.arange(12 * 28 * 28, dtype=np.uint32).astype(np.uint8).reshape(12, 28, 28),
    "train-labels-idx1-ubyte": np.arange(12, dtype=np.uint8) % 10,
    "t10k-images-idx3-ubyte": np.full((5, 28, 28), 9, np.uint8),
    "t10k-labels-idx1-ubyte": np.array([9, 8, 7, 6, 5], np.uint8),
}


@pytest.fixture
def folder(tmp_path, write_idx):
    for name, array in FILES.items():
        write_idx(tmp_path / f"{name}.gz", array)
    return tmp_path


def test_the_published_files_are_read(folder):
    splits: Any = load_fashion_mnist(folder)
    assert (len(splits.train), len(splits.test)) == (12, 5)
    image, label = splits.train[11]
    assert (image.mode, image.size, label) == ("L", (28, 28), 1)
    assert np.array_equal(np.asarray(image), FILES["train-images-idx3-ubyte"][11])
    assert splits.classes[label] == "Trouser"
    assert (splits.in_chans, splits.image_size) == (1, 28)


@pytest.mark.parametrize("suffix", [".gz", ""])
@pytest.mark.parametrize("place", [".", "FashionMNIST/raw"])
def test_the_files_may_be_unzipped_and_may_lie_where_torchvision_puts_them(
    tmp_path, write_idx, suffix, place
):
    for name, array in FILES.items():
        write_idx(tmp_path / place / f"{name}{suffix}", array)
    splits: Any = load_fashion_mnist(str(tmp_path))
    assert [label for _, label in splits.test] == [9, 8, 7, 6, 5]


def test_the_class_names_are_torchvisions(folder):
    assert load_fashion_mnist(folder).classes == tuple(torchvision.datasets.FashionMNIST.classes)


def test_the_splits_can_be_sent_to_workers(folder):
    assert pickle.loads(pickle.dumps(load_fashion_mnist(folder))).test[0][1] == 9


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named_with_all_that_is_needed(folder, refused, name):
    (folder / f"{name}.gz").unlink()
    message = refused(lambda: load_fashion_mnist(folder), folder, f"no {name}.gz", "download=True")
    for needed in FILES:
        assert f"{needed}.gz" in message


@pytest.mark.parametrize(
    ("name", "array", "words"),
    [
        (
            "t10k-labels-idx1-ubyte",
            np.arange(4, dtype=np.uint8),
            ("4 labels for the 5 images of t10k-images",),
        ),
        ("train-labels-idx1-ubyte", np.full(12, 10, np.uint8), ("label 10 at position 0", "not in 0..9")),
        ("train-images-idx3-ubyte", np.zeros((12, 32, 32), np.uint8), ("32 x 32 pixels", "28 x 28")),
        ("train-images-idx3-ubyte", np.zeros((0, 28, 28), np.uint8), ("holds no image",)),
        ("train-images-idx3-ubyte", np.zeros(12, np.uint8), ("magic number 0x00000801",)),
    ],
)
def test_files_that_do_not_fit_are_named(folder, write_idx, refused, name, array, words):
    path = write_idx(folder / f"{name}.gz", array)
    refused(lambda: load_fashion_mnist(folder), path, *words)


def test_a_truncated_file_is_named(folder, refused):
    path = folder / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-20])
    refused(lambda: load_fashion_mnist(folder), path, "truncated", "get the file again")


def test_a_folder_that_is_none_missing_or_a_file_is_refused(tmp_path, refused):
    refused(lambda: load_fashion_mnist(None), "data_dir is None", "give the folder")
    refused(lambda: load_fashion_mnist(tmp_path / "none"), tmp_path / "none", "no such folder")
    (tmp_path / "file").touch()
    refused(lambda: load_fashion_mnist(tmp_path / "file"), tmp_path / "file", "a file")


@pytest.mark.parametrize(
    "error", [URLError("no route to host"), RuntimeError("Tried x, got:\nno route to host\n")]
)
def test_without_a_network_the_message_says_which_files_to_put_where(tmp_path, refused, monkeypatch, error):
    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr(torchvision.datasets, "FashionMNIST", fail)
    root = tmp_path / "new"
    message = refused(lambda: load_fashion_mnist(root, download=True), root, "no route to host", "by hand")
    for needed in FILES:
        assert f"{needed}.gz" in message


def test_a_download_lands_in_the_folder_that_was_chosen(tmp_path, write_idx, monkeypatch):
    def download(root, *, download):
        assert download
        for name, array in FILES.items():
            write_idx(tmp_path / "new" / "FashionMNIST" / "raw" / f"{name}.gz", array)

    monkeypatch.setattr(torchvision.datasets, "FashionMNIST", download)
    assert load_fashion_mnist(tmp_path / "new", download=True).train[11][1] == 1


def test_nothing_is_downloaded_where_all_is_there(folder, monkeypatch):
    monkeypatch.setattr(torchvision.datasets, "FashionMNIST", None)
    assert load_fashion_mnist(folder, download=True).test[0][1] == 9


def test_the_real_set_is_complete_and_has_the_published_mean_and_spread(real_data):
    splits: Any = load_fashion_mnist(real_data / "fashion-mnist")
    train, test = splits.train, splits.test
    assert (len(train), len(test)) == (60_000, 10_000)
    assert np.bincount(train.labels).tolist() == [6000] * 10
    pixels = train.images
    assert (round(float(pixels.mean() / 255), 4),) == splits.mean
    assert (round(float(pixels.std() / 255), 4),) == splits.std
    with gzip.open(real_data / "fashion-mnist" / "t10k-images-idx3-ubyte.gz") as file:
        assert np.asarray(test[9_999][0]).tobytes() == file.read()[-784:]
