"""Small files of every kind that readers of data are given."""

import gzip
import json
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


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


@pytest.fixture
def coco_document() -> Callable:
    """Makes a COCO document of images, each 6 x 4 pixels, with the annotations that are given."""

    def make(*annotations: dict, images: int = 1, **changes: object) -> dict:
        document = {
            "images": [
                {"id": number, "file_name": f"{number}.png", "width": 6, "height": 4}
                for number in range(1, images + 1)
            ],
            "categories": [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}],
            "annotations": [
                {"id": number, "image_id": 1, "category_id": 3, "bbox": [1, 1, 2, 2], **annotation}
                for number, annotation in enumerate(annotations, start=1)
            ],
        }
        return {**document, **changes}

    return make


@pytest.fixture
def write_coco(tmp_path: Path) -> Callable:
    """Writes a training and a test document as json below tmp_path / "coco", with flat images."""

    def write(train: dict, test: dict | None = None) -> Path:
        root = tmp_path / "coco"
        empty = {**train, "annotations": [], "images": train["images"][:1]}
        for split, document in (("train", train), ("val", empty if test is None else test)):
            folder = root / split
            folder.mkdir(parents=True, exist_ok=True)
            for entry in document["images"]:
                grey = 10 * entry["id"] + len(split)
                Image.new("RGB", (6, 4), (grey, 0, 0)).save(folder / str(entry["file_name"]))
            (root / f"{split}.json").write_text(json.dumps(document))
        return root

    return write


@pytest.fixture
def write_labels(tmp_path: Path) -> Callable:
    """Writes images and label images of the given values below tmp_path / "set", {split}/{images,labels}."""

    def write(**splits: dict[str, list]) -> Path:
        root = tmp_path / "set"
        for split, labels in splits.items():
            for name, values in labels.items():
                array = np.asarray(values, np.uint8)
                for kind in "images", "labels":
                    (root / split / kind).mkdir(parents=True, exist_ok=True)
                height, width = array.shape
                Image.new("RGB", (width, height), (len(name), 99, 0)).save(
                    root / split / "images" / f"{name}.jpg"
                )
                Image.fromarray(array).save(root / split / "labels" / f"{name}.png")
        return root

    return write
