"""Videos, where PyAV is installed."""

import sys
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

from crosshead.tasks.sources import find_sources
from crosshead.tasks.video import frame_rate, read_frames, write_frames

COLORS = ("red", "lime", "blue", "white")


def test_frames_come_back_in_order_with_their_names(tmp_path):
    pytest.importorskip("av")
    path = tmp_path / "film.mp4"
    write_frames(path, (Image.new("RGB", (65, 49), color) for color in COLORS), rate=10)
    frames = list(read_frames(path))
    assert [frame.size for frame in frames] == [(64, 48)] * 4
    for frame, color in zip(frames, COLORS, strict=True):
        expected = np.array(Image.new("RGB", (1, 1), color).getpixel((0, 0)))
        assert np.abs(np.asarray(frame).mean((0, 1)) - expected).max() < 12  # the compression has losses
    assert frame_rate(path) == 10
    named = find_sources(path)
    assert isinstance(named, Iterator)
    named = list(named)
    assert [(each.name, each.source) for each in named[:2]] == [
        ("film-000000", f"{path}#0"),
        ("film-000001", f"{path}#1"),
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["film.mp4"]


def test_a_video_that_fails_half_way_leaves_nothing(tmp_path):
    pytest.importorskip("av")

    def images():
        yield Image.new("RGB", (64, 48))
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        write_frames(tmp_path / "film.mp4", images(), rate=10)
    assert not list(tmp_path.iterdir())


def test_what_is_no_video_is_refused_by_name(tmp_path, refused):
    pytest.importorskip("av")
    for name, content in (("bad.mp4", b"nothing"), ("empty.mov", b"")):
        path = tmp_path / name
        path.write_bytes(content)
        refused(lambda path=path: next(read_frames(path)), path, "not readable as a video")
        refused(lambda path=path: frame_rate(path), path, "not readable as a video")
    refused(
        lambda: next(read_frames(tmp_path / "none.mp4")), tmp_path / "none.mp4", "not readable as a video"
    )


def test_without_pyav_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ImportError, match=r"videos need PyAV: pip install 'crosshead\[video\]'"):
        next(read_frames(tmp_path / "film.mp4"))
