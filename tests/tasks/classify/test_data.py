import contextlib
import gzip
import hashlib
import pickle
import sys
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from sklearn import datasets
from torchvision.datasets import FashionMNIST

from crosshead.tasks.classify.data import ImageArray, load_digits, load_fashion_mnist, read_idx
from crosshead.tasks.task import DataError

FILES = {
    "train-images-idx3-ubyte": np.arange(12 * 28 * 28, dtype=np.uint32).astype(np.uint8).reshape(12, 28, 28),
    "train-labels-idx1-ubyte": np.arange(12, dtype=np.uint8) % 10,
    "t10k-images-idx3-ubyte": np.full((5, 28, 28), 9, np.uint8),
    "t10k-labels-idx1-ubyte": np.array([9, 8, 7, 6, 5], np.uint8),
}
LABELS = b"\0\0\x08\x01" + b"\0\0\0\x03" + b"\x07\x01\x02"


@pytest.fixture(scope="module")
def digits():
    return load_digits()


@pytest.fixture
def folder(tmp_path, write_idx):
    for name, array in FILES.items():
        write_idx(tmp_path / f"{name}.gz", array)
    return tmp_path


class TestImageArray:
    @pytest.mark.parametrize(("shape", "mode"), [((3, 5, 4), "L"), ((3, 5, 4, 3), "RGB")])
    def test_items_are_the_images_and_labels_that_were_given(self, shape, mode):
        pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
        dataset = ImageArray(pixels, np.array([2, 0, 1]))
        assert len(dataset) == 3
        for index in range(3):
            image, label = dataset[index]
            assert image.mode == mode
            assert np.array_equal(np.asarray(image), pixels[index])
            assert type(label) is int
        assert [label for _, label in dataset] == [2, 0, 1]

    def test_one_label_for_each_image(self):
        with pytest.raises(ValueError, match="images are 3 and labels 2; give one label for each image"):
            ImageArray(np.zeros((3, 4, 4), np.uint8), np.zeros(2, int))


class TestDigits:
    def test_all_images_are_in_one_of_the_splits_and_labelled_as_published(self, digits):
        bundle: Any = datasets.load_digits()
        published = sorted(
            (image.tobytes(), label) for image, label in zip(bundle.images, bundle.target, strict=True)
        )
        ours = sorted(
            (np.rint(np.asarray(image) * (16 / 255)).tobytes(), label)
            for split in (digits.train, digits.test)
            for image, label in split
        )
        assert ours == published

    def test_a_fifth_of_each_class_is_held_out(self, digits):
        train, test = np.bincount(digits.train.labels), np.bincount(digits.test.labels)
        assert np.array_equal(test, np.rint((train + test) / 5))

    def test_the_split_never_changes(self, digits):
        digest = hashlib.sha256(digits.test.images.tobytes() + digits.test.labels.astype("<i8").tobytes())
        assert digest.hexdigest()[:16] == "617b4fe6e84afdb8"

    def test_what_a_model_needs_to_know(self, digits):
        image, label = digits.train[0]
        assert (image.mode, image.size, type(label)) == ("L", (8, 8), int)
        assert digits.meta.classes == tuple("0123456789")
        assert (digits.meta.in_chans, digits.meta.image_size) == (1, 8)
        assert digits.train.images.min() == 0
        assert digits.train.images.max() == 255

    def test_mean_and_spread_are_those_of_the_training_images(self, digits):
        pixels = np.stack([np.asarray(image) for image, _ in digits.train]) / 255
        assert digits.meta.mean == pytest.approx((pixels.mean(),), abs=1e-12)
        assert digits.meta.std == pytest.approx((pixels.std(),), abs=1e-12)

    def test_the_splits_can_be_sent_to_workers(self, digits):
        again = pickle.loads(pickle.dumps(digits.test))
        assert isinstance(again, ImageArray)
        assert np.array_equal(again.images, digits.test.images)

    def test_without_scikit_learn_the_message_says_what_to_install(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "sklearn", None)
        with pytest.raises(ImportError, match=r"pip install 'crosshead\[train\]'"):
            load_digits()


class TestFashionMnist:
    def test_the_published_files_are_read(self, folder):
        splits: Any = load_fashion_mnist(folder)
        assert (len(splits.train), len(splits.test)) == (12, 5)
        image, label = splits.train[11]
        assert (image.mode, image.size, label) == ("L", (28, 28), 1)
        assert np.array_equal(np.asarray(image), FILES["train-images-idx3-ubyte"][11])
        assert splits.meta.classes[label] == "Trouser"
        assert (splits.meta.in_chans, splits.meta.image_size) == (1, 28)

    @pytest.mark.parametrize("suffix", [".gz", ""])
    @pytest.mark.parametrize("place", [".", "FashionMNIST/raw"])
    def test_the_files_may_be_unzipped_and_may_lie_where_torchvision_puts_them(
        self, tmp_path, write_idx, suffix, place
    ):
        for name, array in FILES.items():
            write_idx(tmp_path / place / f"{name}{suffix}", array)
        splits: Any = load_fashion_mnist(str(tmp_path))
        assert [label for _, label in splits.test] == [9, 8, 7, 6, 5]

    def test_the_class_names_are_as_published(self, folder):
        assert load_fashion_mnist(folder).meta.classes == (
            *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
            *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
        )

    def test_the_splits_can_be_sent_to_workers(self, folder):
        assert pickle.loads(pickle.dumps(load_fashion_mnist(folder))).test[0][1] == 9

    @pytest.mark.parametrize("name", FILES)
    def test_a_missing_file_is_named_with_all_that_is_needed(self, folder, refused, name):
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
    def test_files_that_do_not_fit_are_named(self, folder, write_idx, refused, name, array, words):
        path = write_idx(folder / f"{name}.gz", array)
        refused(lambda: load_fashion_mnist(folder), path, *words)

    def test_a_truncated_file_is_named(self, folder, refused):
        path = folder / "train-images-idx3-ubyte.gz"
        path.write_bytes(path.read_bytes()[:-20])
        refused(lambda: load_fashion_mnist(folder), path, "truncated", "get the file again")

    def test_a_folder_that_is_none_missing_or_a_file_is_refused(self, tmp_path, refused):
        refused(lambda: load_fashion_mnist(None), "no folder is given", "--data-dir")
        refused(lambda: load_fashion_mnist(tmp_path / "none"), tmp_path / "none", "no such folder")
        (tmp_path / "file").touch()
        refused(lambda: load_fashion_mnist(tmp_path / "file"), tmp_path / "file", "a file")

    @pytest.mark.parametrize(
        "error", [URLError("no route to host"), RuntimeError("Tried x, got:\nno route to host\n")]
    )
    def test_without_a_network_the_message_says_which_files_to_put_where(
        self, tmp_path, refused, monkeypatch, error
    ):
        def fail(*args, **kwargs):
            raise error

        monkeypatch.setattr(FashionMNIST, "__init__", fail)
        root = tmp_path / "new"
        message = refused(
            lambda: load_fashion_mnist(root, download=True), root, "no route to host", "by hand"
        )
        for needed in FILES:
            assert f"{needed}.gz" in message

    def test_a_download_lands_in_the_folder_that_was_chosen(self, tmp_path, write_idx, monkeypatch):
        def download(_, root, *, download):
            assert download
            for name, array in FILES.items():
                write_idx(tmp_path / "new" / "FashionMNIST" / "raw" / f"{name}.gz", array)

        monkeypatch.setattr(FashionMNIST, "__init__", download)
        assert load_fashion_mnist(tmp_path / "new", download=True).train[11][1] == 1

    def test_nothing_is_downloaded_where_all_is_there(self, folder, monkeypatch):
        monkeypatch.setattr(FashionMNIST, "__init__", None)
        assert load_fashion_mnist(folder, download=True).test[0][1] == 9

    def test_the_real_set_is_complete_and_has_the_published_mean_and_spread(self, real_data):
        splits: Any = load_fashion_mnist(real_data / "fashion-mnist")
        train, test = splits.train, splits.test
        assert (len(train), len(test)) == (60_000, 10_000)
        assert np.bincount(train.labels).tolist() == [6000] * 10
        pixels = train.images
        assert (round(float(pixels.mean() / 255), 4),) == splits.meta.mean
        assert (round(float(pixels.std() / 255), 4),) == splits.meta.std
        with gzip.open(real_data / "fashion-mnist" / "t10k-images-idx3-ubyte.gz") as file:
            assert np.asarray(test[9_999][0]).tobytes() == file.read()[-784:]


class TestIdx:
    @settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        array=arrays(np.uint8, array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=6)),
        zipped=st.booleans(),
    )
    def test_what_was_written_is_read(self, tmp_path, write_idx, array, zipped):
        path = write_idx(tmp_path / ("array.gz" if zipped else "array"), array)
        assert np.array_equal(read_idx(path, ndim=array.ndim), array)

    def test_the_content_decides_whether_it_is_gzipped_not_the_name(self, tmp_path):
        (tmp_path / "labels.gz").write_bytes(LABELS)
        (tmp_path / "labels").write_bytes(gzip.compress(LABELS, mtime=0))
        assert read_idx(tmp_path / "labels.gz", ndim=1).tolist() == [7, 1, 2]
        assert read_idx(tmp_path / "labels", ndim=1).tolist() == [7, 1, 2]

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            (b"", ("magic number 0x, ", "0x00000801")),
            (
                b"\x89PNG\r\n",
                ("magic number 0x89504e47", "0x00000801", "put the published file in its place"),
            ),
            (b"\0\0\x08\x03" + LABELS[4:], ("magic number 0x00000803",)),
            (b"\0\0\x0d\x01" + LABELS[4:], ("magic number 0x00000d01",)),
            (LABELS[:6], ("ends within its header of 8 bytes", "get the file again")),
            (LABELS[:-1], ("announces 3 = 3 bytes and 2 follow", "get the file again")),
            (LABELS + b"\0", ("announces 3 = 3 bytes and 4 follow",)),
            (b"\0\0\x08\x01\xff\xff\xff\xff\x07", ("announces 4294967295 = 4294967295 bytes and 1 follow",)),
            (gzip.compress(LABELS, mtime=0)[:-4], ("damaged or truncated gzip", "get the file again")),
            (gzip.compress(LABELS, mtime=0)[:12], ("damaged or truncated gzip",)),
            (gzip.compress(LABELS, mtime=0)[:-8] + bytes(8), ("damaged or truncated gzip",)),
            (b"\x1f\x8b" + bytes(30), ("damaged or truncated gzip",)),
            (gzip.compress(LABELS, mtime=0)[:10] + b"\xff" * 20, ("damaged or truncated gzip",)),
        ],
    )
    def test_a_bad_file_is_named_with_what_is_wrong_and_the_remedy(self, tmp_path, refused, content, words):
        path = tmp_path / "labels-idx1-ubyte.gz"
        path.write_bytes(content)
        refused(lambda: read_idx(path, ndim=1), path, *words)

    def test_a_missing_file_and_a_folder_are_named(self, tmp_path, refused):
        refused(
            lambda: read_idx(tmp_path / "none", ndim=1), tmp_path / "none", "cannot be read", "check the file"
        )
        refused(lambda: read_idx(tmp_path, ndim=1), tmp_path, "cannot be read")

    @settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(content=st.binary(max_size=60), zipped=st.booleans())
    def test_arbitrary_bytes_are_read_or_refused(self, tmp_path, content, zipped):
        path = tmp_path / "any"
        path.write_bytes(b"\x1f\x8b\x08" + content if zipped else b"\0\0\x08\x01" + content)
        with contextlib.suppress(DataError):
            assert read_idx(path, ndim=1).ndim == 1
