"""Images of more than 8 bits: what is white is decided once for a data set."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from crosshead.tasks.depth import find_bits
from crosshead.tasks.detect.data import load_objects
from crosshead.tasks.detect.recipe import DetectRecipe
from crosshead.tasks.images import read_image


def save(path: Path, *values: int, dtype: type = np.uint16) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.array([values], dtype)).save(path)
    return path


@pytest.mark.parametrize(
    ("largest", "bits"), [(0, 9), (300, 9), (1023, 10), (1024, 11), (4095, 12), (4096, 13), (65_535, 16)]
)
@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_the_largest_value_of_the_images_tried_says_how_many_bits_are_used(tmp_path, name, largest, bits):
    dark = save(tmp_path / "dark.png", 0, min(largest, 5))
    assert find_bits([dark, save(tmp_path / name, 0, largest)]) == bits


def test_images_of_8_bits_and_damaged_ones_say_nothing(tmp_path):
    (tmp_path / "broken.png").write_bytes(b"broken")
    eight = save(tmp_path / "8.png", 0, 255, dtype=np.uint8)
    assert find_bits([eight, tmp_path / "broken.png"]) is None
    assert find_bits([eight, save(tmp_path / "16.png", 0, 2000), tmp_path / "broken.png"]) == 11


def test_a_dark_image_of_a_set_stays_dark_and_what_is_above_white_is_white(tmp_path):
    dark, bright = save(tmp_path / "a.png", 0, 40, 160), save(tmp_path / "b.png", 0, 2048, 5000)
    assert np.asarray(read_image(dark, mode="L", bits=12)).tolist() == [[0, 2, 10]]
    assert np.asarray(read_image(bright, mode="L", bits=12)).tolist() == [[0, 128, 255]]
    # Those of 8 bits are as they ever were.
    eight = save(tmp_path / "c.png", 3, 200, dtype=np.uint8)
    assert np.asarray(read_image(eight, mode="L", bits=12)).tolist() == [[3, 200]]


def save_colours(path: Path, colours: list[tuple[int, ...]]) -> Path:
    """A PNG of one row with 16 bits a colour, which Pillow does not write."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        )

    head = struct.pack(">IIBBBBB", len(colours), 1, 16, {3: 2, 4: 6}[len(colours[0])], 0, 0, 0)
    row = b"\0" + np.array(colours, ">u2").tobytes()
    parts = (b"IHDR", head), (b"IDAT", zlib.compress(row)), (b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts))
    return path


@pytest.mark.parametrize("alpha", [(), (65_535,)])
def test_colours_of_a_camera_are_scaled_too(tmp_path, alpha: tuple[int, ...]):
    path = save_colours(tmp_path / "a.png", [(0, 2048, 4095, *alpha), (160, 16, 15, *alpha)])
    assert find_bits([path]) == 12
    image = read_image(path, bits=12)
    assert (image.mode, np.asarray(image).tolist()) == ("RGB", [[[0, 128, 255], [10, 1, 0]]])
    wide = save_colours(tmp_path / "b.png", [(0, 32_768, 65_535, *alpha)])
    assert find_bits([path, wide]) == 16
    assert np.array_equal(np.asarray(read_image(wide, bits=16)), np.asarray(read_image(wide)))


def test_a_data_set_is_read_alike_and_says_how(write_coco_data, tmp_path):
    root = write_coco_data(tmp_path / "coco")
    for path in root.rglob("*.png"):
        with Image.open(path) as image:
            values = np.asarray(image.convert("L")).astype(np.uint16) * 32
        # The test images are a hundredth as bright, and are not looked at.
        Image.fromarray(values // (100 if path.parent.name == "test" else 1)).save(path)
    recipe = DetectRecipe(data="folder", data_dir=root, model="", epochs=1)
    data = load_objects(recipe, masks=False)
    assert (data.meta.bits, data.meta.in_chans) == (12, 1)
    assert max(np.asarray(image).max() for image, _ in data.train) > 90  # pyright: ignore[reportGeneralTypeIssues]
    assert max(np.asarray(image).max() for image, _ in data.test) < 3  # pyright: ignore[reportGeneralTypeIssues]
