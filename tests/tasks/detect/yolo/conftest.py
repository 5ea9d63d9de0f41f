"""Data sets in YOLO format."""

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image


@pytest.fixture
def write_yolo(tmp_path: Path) -> Callable[..., Path]:
    """Writes text files by their paths, and where there is no text images of 8 x 16 pixels."""

    def write(**files: str | None) -> Path:
        root = tmp_path / "set"
        root.mkdir(exist_ok=True)
        for number, (name, text) in enumerate(files.items()):
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if text is None:
                Image.new("L", (8, 16), number).save(path)
            else:
                path.write_text(text)
        return root

    return write
