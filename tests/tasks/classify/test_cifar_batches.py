import contextlib
import io
import os
import pickle
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crosshead.tasks.classify.cifar_batches import read_cifar_batch
from crosshead.tasks.task import DataError

PIXELS = np.random.default_rng(0).integers(0, 256, (4, 3072), dtype=np.uint8)
LABELS = [6, 9, 0, 4]


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


class Call:
    """Pickles as a call of any importable function."""

    def __init__(self, function, *arguments) -> None:
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def write(tmp_path: Path, content: bytes | object) -> Path:
    path = tmp_path / "data_batch_1"
    path.write_bytes(content if isinstance(content, bytes) else pickle.dumps(content))
    return path


def test_a_batch_as_published_is_read(tmp_path):
    content = as_published(PIXELS, LABELS)
    assert np.array_equal(pickle.loads(content, encoding="bytes")[b"data"], PIXELS)
    images, labels = read_cifar_batch(write(tmp_path, content))
    assert labels.tolist() == LABELS
    # A row holds the 1,024 red values, then the green, then the blue, each line by line.
    assert images.shape == (4, 32, 32, 3)
    assert images[2, 5, 7].tolist() == [PIXELS[2, band * 1024 + 5 * 32 + 7] for band in range(3)]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("key", [str, str.encode])
@pytest.mark.parametrize("order", ["C", "F"])
def test_a_batch_written_anew_is_read(tmp_path, protocol, key, order):
    batch = {
        key("data"): np.asarray(PIXELS, order=order),
        key("labels"): LABELS,
        key("filenames"): [b"a", "b"],
    }
    images, labels = read_cifar_batch(write(tmp_path, pickle.dumps(batch, protocol)))
    assert np.array_equal(images, PIXELS.reshape(4, 3, 32, 32).transpose(0, 2, 3, 1))
    assert labels.tolist() == LABELS


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_hostile_pickle_runs_nothing(tmp_path, refused, protocol):
    place = tmp_path / "was-here"
    for batch in (
        Hostile(place),
        {"data": PIXELS, "labels": LABELS, "extra": Hostile(place)},
        {"data": PIXELS, "labels": [Hostile(place)]},
        {"data": np.array([[Hostile(place)]], dtype=object), "labels": [0]},
    ):
        content = pickle.dumps(batch, protocol)
        path = write(tmp_path, content)
        refused(lambda path=path: read_cifar_batch(path), path, "not a CIFAR-10 batch", "from its publisher")
        assert not place.exists()
        # The same bytes do run under the plain reader: the test could fail.
        pickle.loads(content)
        place.rmdir()


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (eval, ("1",)),
        (getattr, ("", "join")),
        (np.load, ("x.npy",)),
        (np.frombuffer, (b"1", "O")),
        (np.fromfile, ("x",)),
        (io.open, ("x", "w")),
        (bytearray, (1 << 40,)),
    ],
)
def test_whatever_else_is_asked_for_is_named_and_refused(tmp_path, refused, function, arguments):
    path = write(tmp_path, {"data": PIXELS, "labels": Call(function, *arguments)})
    refused(lambda: read_cifar_batch(path), path, function.__name__, "may be hostile")


@pytest.mark.parametrize(
    ("batch", "words"),
    [
        ({"labels": LABELS}, ("'data', an array",)),
        ({"data": PIXELS}, ("'labels', a list",)),
        ({"data": PIXELS, "fine_labels": LABELS}, ("'labels', a list",)),
        ({"data": PIXELS.tobytes(), "labels": LABELS}, ("'data', an array",)),
        ([1, 2], ("'data', an array",)),
        ({"data": PIXELS, "labels": LABELS[:3]}, ("4 images and 3 labels",)),
        ({"data": PIXELS[:0], "labels": []}, ("0 images and 0 labels",)),
        ({"data": PIXELS, "labels": [1, 2, 3, 10]}, ("label 10 at position 3", "not in 0..9")),
        ({"data": PIXELS, "labels": [1, 2, 3, -1]}, ("label -1 at position 3",)),
        ({"data": PIXELS, "labels": [1, 2, 3, 2**70]}, (f"label {2**70}",)),
        ({"data": PIXELS, "labels": [1, 2, 3, 0.5]}, ("labels must be whole numbers",)),
        ({"data": PIXELS, "labels": ["cat"] * 4}, ("labels must be whole numbers",)),
        ({"data": PIXELS[:, :-1], "labels": LABELS}, ("shape (4, 3071)", "N x 3072")),
        ({"data": PIXELS.reshape(4, 3, 32, 32), "labels": LABELS}, ("shape (4, 3, 32, 32)",)),
        ({"data": PIXELS.astype(np.float32), "labels": LABELS}, ("not of unsigned bytes",)),
        ({"data": PIXELS.astype(object), "labels": LABELS}, ("not of unsigned bytes",)),
        ({"data": PIXELS.view([("r", "u1")]), "labels": LABELS}, ("not of unsigned bytes",)),
    ],
)
def test_a_batch_that_is_none_is_named_with_the_remedy(tmp_path, refused, batch, words):
    path = write(tmp_path, batch)
    refused(lambda: read_cifar_batch(path), path, *words, "get the file again")


@pytest.mark.parametrize("content", [b"", b"not a pickle", as_published(PIXELS, LABELS)[:-500]])
def test_a_truncated_or_other_file_is_named(tmp_path, refused, content):
    path = write(tmp_path, content)
    refused(lambda: read_cifar_batch(path), path, "not a CIFAR-10 batch", "get the file again")


def test_an_array_that_claims_more_than_it_holds_is_refused(tmp_path, refused):
    content = as_published(PIXELS, LABELS).replace(b"K\x01M\x04\x00M\x00\x0c", b"K\x01M\xff\xffM\x00\x0c")
    path = write(tmp_path, content)
    refused(lambda: read_cifar_batch(path), path, "shape (65535, 3072)")


@pytest.mark.parametrize(
    "damaged",
    [
        # An index of the memo, and the length of a byte array.
        b"\x80\x02}r" + struct.pack("<I", 2**24) + b".",
        b"\x80\x05\x96" + struct.pack("<Q", 2**28) + b"few.",
    ],
)
def test_a_damaged_number_does_not_take_all_memory(tmp_path, damaged):
    path = write(tmp_path, damaged)
    tracemalloc.start()
    with pytest.raises(DataError):
        read_cifar_batch(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**20


def test_a_missing_file_is_named(tmp_path, refused):
    path = tmp_path / "data_batch_3"
    refused(lambda: read_cifar_batch(path), path, "cannot be read", "get the six batch files again")


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_batch_with_damaged_bytes_is_read_or_refused(tmp_path, data):
    content = bytearray(as_published(PIXELS[:1], LABELS[:1]))
    header = [index for index in range(len(content)) if index < 230 or index > len(content) - 60]
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.sampled_from(header))] = data.draw(st.integers(0, 255))
    path = write(tmp_path, bytes(content))
    with contextlib.suppress(DataError):
        images, labels = read_cifar_batch(path)
        assert len(images) == len(labels)
