"""Videos: their frames as images, and images as a video, by PyAV."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from crosshead.tasks.files import partial
from crosshead.tasks.task import DataError

VIDEO_EXTENSIONS = (".mp4", ".mov", ".m4v", ".mkv", ".avi", ".webm")


def read_frames(path: Path) -> Iterator[Image.Image]:
    """The frames of a video, RGB, one after another; few are in memory at a time.

    Raises:
        DataError: if the file is not a video that can be decoded.
        ImportError: if PyAV is missing.
    """
    with _opened(path) as video:
        for frame in video.decode(video=0):
            yield frame.to_image()


def frame_rate(path: Path) -> float:
    """Frames a second of a video, 25 where it does not say so.

    Raises:
        DataError: if the file is not a video.
        ImportError: if PyAV is missing.
    """
    with _opened(path) as video:
        return float(video.streams.video[0].average_rate or 25)


def write_frames(path: Path, images: Iterable[Image.Image], *, rate: float) -> None:
    """Writes images as a video (H.264), which appears whole or not at all.

    Args:
        path: the file.
        images: of one size; a last row or column of an odd size is left out, as the format asks.
        rate: frames a second.

    Raises:
        ImportError: if PyAV is missing.
    """
    av = _pyav()
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = partial(path)
    try:
        with av.open(str(beside), "w", format="mp4") as video:
            stream: Any = video.add_stream("h264", rate=round(rate))
            stream.pix_fmt, started = "yuv420p", False
            for image in images:
                width, height = image.width // 2 * 2, image.height // 2 * 2
                if not started:
                    stream.width, stream.height, started = width, height, True
                pixels = np.asarray(image.convert("RGB"))[:height, :width]
                video.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels))))
            video.mux(stream.encode())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    av = _pyav()
    try:
        with av.open(str(path)) as video:
            yield video
    except (av.error.FFmpegError, OSError, IndexError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise DataError(f"{path}: not readable as a video ({reason}); convert it, or give images") from error


def _pyav() -> Any:
    try:
        import av
    except ImportError as error:
        raise ImportError("videos need PyAV: pip install 'crosshead[video]', or give images") from error
    return av
