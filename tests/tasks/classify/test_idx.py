import contextlib
import gzip

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from crosshead.tasks.classify.idx import read_idx
from crosshead.tasks.task import DataError

LABELS = b"\0\0\x08\x01" + b"\0\0\0\x03" + b"\x07\x01\x02"


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    array=arrays(np.uint8, array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=6)), zipped=st.booleans()
)
def test_what_was_written_is_read(tmp_path, write_idx, array, zipped):
    path = write_idx(tmp_path / ("array.gz" if zipped else "array"), array)
    assert np.array_equal(read_idx(path, ndim=array.ndim), array)


def test_the_content_decides_whether_it_is_gzipped_not_the_name(tmp_path):
    (tmp_path / "labels.gz").write_bytes(LABELS)
    (tmp_path / "labels").write_bytes(gzip.compress(LABELS, mtime=0))
    assert read_idx(tmp_path / "labels.gz", ndim=1).tolist() == [7, 1, 2]
    assert read_idx(tmp_path / "labels", ndim=1).tolist() == [7, 1, 2]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", ("magic number 0x, ", "0x00000801")),
        (b"\x89PNG\r\n", ("magic number 0x89504e47", "0x00000801", "put the published file in its place")),
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
def test_a_bad_file_is_named_with_what_is_wrong_and_the_remedy(tmp_path, refused, content, words):
    path = tmp_path / "labels-idx1-ubyte.gz"
    path.write_bytes(content)
    refused(lambda: read_idx(path, ndim=1), path, *words)


def test_a_missing_file_and_a_folder_are_named(tmp_path, refused):
    refused(
        lambda: read_idx(tmp_path / "none", ndim=1), tmp_path / "none", "cannot be read", "check the file"
    )
    refused(lambda: read_idx(tmp_path, ndim=1), tmp_path, "cannot be read")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=60), zipped=st.booleans())
def test_arbitrary_bytes_are_read_or_refused(tmp_path, content, zipped):
    path = tmp_path / "any"
    path.write_bytes(b"\x1f\x8b\x08" + content if zipped else b"\0\0\x08\x01" + content)
    with contextlib.suppress(DataError):
        assert read_idx(path, ndim=1).ndim == 1
