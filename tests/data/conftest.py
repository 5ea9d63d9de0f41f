import gzip
import os
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from crosshead.data import DataError


@pytest.fixture
def refused() -> Callable:
    """Runs a call that must fail with one line that names the path and says each of the given words."""

    def check(call: Callable[[], object], path: object, *words: str) -> str:
        with pytest.raises(DataError) as caught:
            call()
        message = str(caught.value)
        assert "\n" not in message
        for word in (str(path), *words):
            assert word in message
        return message

    return check


@pytest.fixture
def real_data() -> Path:
    folder = os.environ.get("CROSSHEAD_TEST_DATA")
    if not folder:
        pytest.skip("CROSSHEAD_TEST_DATA does not name a folder with the real data sets")
    return Path(folder)


@pytest.fixture
def write_idx() -> Callable:
    """Writes an array of unsigned bytes as an idx file, gzipped where the name ends so."""

    def write(path: Path, array: np.ndarray) -> Path:
        content = (
            bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
        return path

    return write


@pytest.fixture
def write_images(tmp_path: Path) -> Callable:
    """Writes small images, each of its own colour, below tmp_path / "set" and returns that folder."""

    def write(*names: str, side: int = 4) -> Path:
        root = tmp_path / "set"
        root.mkdir(exist_ok=True)
        for number, name in enumerate(names):
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (side, side), (number % 256, number // 256, 77)).save(path)
        return root

    return write
