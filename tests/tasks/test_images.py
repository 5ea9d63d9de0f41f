import io
import logging
import os
import pickle
import struct
import warnings
import zlib
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torch.utils.data import DataLoader

from crosshead.tasks.images import ImageFiles, channel_mode, find_channels, mean_and_std, read_image
from crosshead.tasks.spread import spread


def encoded(kind: str = "PNG", side: int = 16) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def tiff(pixels: bytes, *, width: int, bits: list[int]) -> bytes:
    """A TIFF of one row; Pillow writes none of 12 bits, nor colours of 16."""
    at = 8 + 2 + 9 * 12 + 4
    stated = (3, len(bits), bits[0] if len(bits) == 1 else at)
    colour = 2 if len(bits) == 3 else 1
    short = {259: 1, 262: colour, 277: len(bits), 278: 1}
    entries = {
        256: (3, 1, width),
        257: (3, 1, 1),
        258: stated,
        **{tag: (3, 1, value) for tag, value in short.items()},
        273: (4, 1, at + 2 * len(bits)),
        279: (4, 1, len(pixels)),
    }
    table = b"".join(struct.pack("<HHII", tag, *entries[tag]) for tag in sorted(entries))
    head = b"II*\0" + struct.pack("<IH", 8, len(entries)) + table + bytes(4)
    return head + struct.pack(f"<{len(bits)}H", *bits) + pixels


def colour_tiff(*pixels: list[int]) -> bytes:
    return tiff(np.array(pixels, "<u2").tobytes(), width=len(pixels), bits=[16, 16, 16])


def colour_png(*pixels: list[int]) -> bytes:
    """A PNG of one row with 16 bits a channel."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        )

    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", len(pixels), 1, 16, 2, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress(b"\0" + np.array(pixels, ">u2").tobytes()))
        + chunk(b"IEND", b"")
    )


@pytest.fixture
def files(tmp_path):
    """Makes a set of `count` flat images; image n has the value n and the label 100 + n. Some are broken."""

    def make(count, *, broken=()):
        for number in range(count):
            path = tmp_path / f"{number:04}.png"
            if number in broken:
                path.write_bytes(b"not an image")
            else:
                Image.new("RGB", (2, 2), (number, 0, 0)).save(path)
        paths = [str(tmp_path / f"{number:04}.png") for number in range(count)]
        return ImageFiles(paths, 100 + np.arange(count), root=tmp_path)

    return make


def values(dataset, indices=None):
    indices = range(len(dataset)) if indices is None else indices
    items = [dataset[index] for index in indices]
    assert all(label == 100 + image.getpixel((0, 0))[0] for image, label in items)
    return [label - 100 for _, label in items]


class TestReadImage:
    @pytest.mark.parametrize("kind", ["PNG", "JPEG", "PPM", "BMP", "TIFF", "WEBP", "GIF"])
    def test_the_content_decides_the_format(self, tmp_path, kind):
        path = tmp_path / "image.jpg"
        path.write_bytes(encoded(kind))
        image = read_image(path)
        assert (image.mode, image.size) == ("RGB", (16, 16))

    @pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr"])
    @pytest.mark.parametrize("wanted", ["L", "RGB"])
    def test_every_kind_of_image_becomes_the_mode_that_is_wanted(self, tmp_path, mode, wanted):
        # As such files are: uncompressed ones are cut short by Pillow before version 13.
        compression = "jpeg" if mode == "YCbCr" else None
        Image.new("RGB", (3, 2), "white").convert(mode).save(tmp_path / "image.tiff", compression=compression)
        image = read_image(tmp_path / "image.tiff", mode=wanted)
        assert (image.mode, image.size) == (wanted, (3, 2))
        assert np.asarray(image).min() == 255

    def test_sixteen_bits_are_scaled_not_clipped(self, tmp_path):
        Image.fromarray(np.array([[0, 128 * 256, 65535]], np.uint16)).save(tmp_path / "deep.png")
        assert np.asarray(read_image(tmp_path / "deep.png", mode="L")).tolist() == [[0, 128, 255]]

    @pytest.mark.parametrize("name", ["deep.png", "deep.tiff"])
    @pytest.mark.parametrize("brightest", [1, 255, 256, 4095])
    def test_sixteen_bits_that_hold_twelve_or_less_are_refused(self, tmp_path, refused, name, brightest):
        path = tmp_path / name
        Image.fromarray(np.array([[0, brightest]], np.uint16)).save(path)
        refused(
            lambda: read_image(path), path, "no value above 4095", "multiply the values by 16", "leave it out"
        )

    @pytest.mark.parametrize("name", ["deep.png", "deep.tiff"])
    @pytest.mark.parametrize(("brightest", "seen"), [(0, 0), (4096, 16), (65535, 255)])
    def test_sixteen_bits_that_hold_more_or_nothing_are_read(self, tmp_path, name, brightest, seen):
        Image.fromarray(np.array([[0, brightest]], np.uint16)).save(tmp_path / name)
        assert np.asarray(read_image(tmp_path / name, mode="L")).tolist() == [[0, seen]]

    @pytest.mark.parametrize("make", [colour_png, colour_tiff])
    @pytest.mark.parametrize("wanted", ["L", "RGB"])
    def test_colours_of_sixteen_bits_are_read_by_the_same_rule(self, tmp_path, refused, make, wanted):
        path = tmp_path / "deep"
        path.write_bytes(make([0, 4095, 0], [4095, 4095, 4095]))
        refused(lambda: read_image(path, mode=wanted), path, "no value above 4095", "by 16", "leave it out")
        path.write_bytes(make([0, 0, 0], [65535, 65535, 65535]))
        assert np.asarray(read_image(path, mode=wanted)).reshape(2, -1).tolist() == [
            [0] * len(wanted),
            [255] * len(wanted),
        ]

    def test_a_tiff_that_states_twelve_bits_has_its_white_at_4095(self, tmp_path):
        packed = bytes([0x00, 0x08, 0x00, 0xFF, 0xFF, 0xFF])  # 0, 2048, 4095, 4095
        (tmp_path / "deep.tiff").write_bytes(tiff(packed, width=4, bits=[12]))
        assert np.asarray(read_image(tmp_path / "deep.tiff", mode="L")).tolist() == [[0, 128, 255, 255]]

    @pytest.mark.parametrize("kind", [np.float32, np.int32])
    def test_pixels_without_a_defined_white_are_refused(self, tmp_path, refused, kind):
        path = tmp_path / "image.tiff"
        Image.fromarray(np.ones((2, 2), kind)).save(path)
        refused(lambda: read_image(path), path, "which value is white", "save it with 8 or 16 bits")

    def test_a_palette_with_transparency_gives_no_warning(self, tmp_path):
        palette = Image.new("P", (2, 2))
        palette.putpalette([9, 8, 7] * 256)
        palette.save(tmp_path / "image.png", transparency=bytes([0, 128]))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            image = read_image(tmp_path / "image.png")
        assert image.getpixel((0, 0)) == (9, 8, 7)

    def test_an_image_is_turned_upright(self, tmp_path):
        image = Image.new("RGB", (4, 2), "black")
        image.putpixel((0, 0), (255, 255, 255))
        exif = Image.Exif()
        exif[0x0112] = 6
        image.save(tmp_path / "turned.png", exif=exif)
        upright = read_image(tmp_path / "turned.png")
        assert upright.size == (2, 4)
        assert upright.getpixel((1, 0)) == (255, 255, 255)

    def test_damaged_exif_does_not_cost_the_image(self, tmp_path):
        Image.new("RGB", (4, 2), "white").save(tmp_path / "odd.jpg", exif=b"Exif\0\0no tiff header")
        assert read_image(tmp_path / "odd.jpg").size == (4, 2)

    @pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "WEBP"])
    def test_a_truncated_image_is_refused(self, tmp_path, refused, kind):
        path = tmp_path / "image.jpg"
        whole = encoded(kind, side=32)
        for part in range(1, 8):
            path.write_bytes(whole[: len(whole) * part // 8])
            refused(
                lambda: read_image(path),
                path,
                "not readable as an image",
                "repair or replace the file, or leave it out",
            )

    @pytest.mark.parametrize(
        "content", [b"", b"text", b"<svg/>", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"]
    )
    def test_what_is_no_image_is_refused(self, tmp_path, refused, content):
        path = tmp_path / "image.png"
        path.write_bytes(content)
        refused(
            lambda: read_image(path), path, "not readable as an image (cannot identify", "repair or replace"
        )

    def test_a_missing_file_and_a_folder_are_refused(self, tmp_path, refused):
        refused(lambda: read_image(tmp_path / "none.png"), tmp_path / "none.png", "No such file")
        refused(lambda: read_image(tmp_path), tmp_path, "not a regular file", "give an image file")

    def test_a_pipe_is_refused_and_not_waited_for(self, tmp_path, refused):
        os.mkfifo(tmp_path / "pipe.png")
        refused(lambda: read_image(tmp_path / "pipe.png"), tmp_path / "pipe.png", "not a regular file")

    def test_a_decompression_bomb_is_refused(self, tmp_path, refused, monkeypatch):
        path = tmp_path / "image.png"
        path.write_bytes(encoded(side=16))
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
        refused(lambda: read_image(path), path, "decompression bomb", "repair or replace")

    def test_an_image_of_another_size_than_demanded_is_refused(self, tmp_path, refused):
        path = tmp_path / "image.png"
        Image.new("RGB", (16, 12)).save(path)
        refused(lambda: read_image(path, side=16), path, "16 x 12 pixels, not 16 x 16")
        assert read_image(path).size == (16, 12)


class TestImageFiles:
    def test_items_are_the_images_with_their_labels(self, files):
        dataset = files(4)
        assert values(dataset) == [0, 1, 2, 3]
        assert values(dataset, [-1, np.int64(2)]) == [3, 2]
        assert type(dataset[0][1]) is int

    def test_it_ends_where_a_list_would(self, files):
        dataset = files(3)
        assert len(list(islice(dataset, 9))) == 3
        for index in (3, -4):
            with pytest.raises(IndexError):
                dataset[index]

    def test_the_next_readable_image_stands_in_with_its_own_label(self, files):
        dataset = files(8, broken=(2, 3, 7))
        assert values(dataset) == [0, 1, 4, 4, 4, 5, 6, 0]
        assert values(dataset, reversed(range(8))) == [0, 6, 5, 4, 4, 4, 1, 0]

    def test_each_unreadable_file_is_warned_of_once_with_the_count_so_far(self, files, caplog):
        dataset = files(8, broken=(2, 5))
        for _ in range(2):
            values(dataset)
        assert len(caplog.messages) == 2
        for message, name, count in zip(caplog.messages, ("0002.png", "0005.png"), (1, 2), strict=True):
            assert f"{name}: not readable as an image" in message
            assert f"({count} unreadable of 8;" in message

    def test_workers_share_the_record_of_what_is_unreadable(self, files, caplog):
        dataset = files(4, broken=(1,))
        loader = DataLoader(dataset, batch_size=None, num_workers=1, collate_fn=lambda item: item[1])
        assert list(loader) == [100, 102, 102, 103]
        caplog.clear()
        assert values(dataset) == [0, 2, 2, 3]
        assert caplog.messages == []

    @pytest.mark.parametrize(("count", "tolerated"), [(1, 5), (50, 5), (600, 6), (1999, 19)])
    def test_one_in_a_hundred_or_five_are_tolerated(self, count, tolerated):
        assert ImageFiles([""] * count, np.zeros(count, int), root=Path()).tolerated == tolerated

    def test_more_than_that_are_refused(self, files, refused, caplog):
        dataset = files(20, broken=range(10, 16))
        with caplog.at_level(logging.CRITICAL):
            message = refused(
                lambda: values(dataset), dataset.root, "6 of 20 images are unreadable", "than the 5"
            )
        assert "0015.png" in message
        assert "repair or replace the file, or leave it out" in message

    def test_a_set_without_any_readable_image_is_refused(self, files, refused):
        dataset = files(3, broken=range(3))
        refused(lambda: dataset[1], dataset.root, "none of its 3 images is readable", "replace the files")

    def test_a_probe_refuses_a_broken_set_before_work_starts(self, files, refused, caplog):
        files(3).probe()
        files(40, broken=(0, 39)).probe()
        few = files(4, broken=range(4))
        refused(few.probe, few.root, "none of 4 images tried", "0000.png", "replace the files")
        many = files(40, broken=range(40))
        refused(many.probe, many.root, "6 of 40 images are unreadable")

    def test_a_probe_of_a_large_set_refuses_when_all_that_it_tries_are_broken(self, tmp_path, refused):
        paths = [str(tmp_path / f"{number}.png") for number in range(5000)]
        dataset = ImageFiles(paths, np.zeros(5000, int), root=tmp_path)
        refused(dataset.probe, tmp_path, "none of 32 images tried", "0.png")

    def test_it_can_be_sent_to_another_process(self, files):
        assert values(pickle.loads(pickle.dumps(files(4, broken=(0,))))) == [1, 1, 2, 3]

    def test_one_label_for_each_path(self):
        with pytest.raises(ValueError, match="paths are 1 and labels 2; give one label for each path"):
            ImageFiles(["a.jpg"], np.zeros(2, int), root=Path())


class TestMeasures:
    def test_positions_are_spread_from_the_first_to_the_last(self):
        assert spread(3) == [0, 1, 2]
        assert spread(1) == [0]
        assert spread(101, most=5) == [0, 25, 50, 75, 100]
        assert len(spread(1000)) == 64

    def test_mean_and_spread_are_numpys_over_all_pixels_of_images_of_any_size(self):
        generator = np.random.default_rng(0)
        arrays = [generator.integers(0, 256, (height, 5, 3), np.uint8) for height in (2, 9)]
        mean, std = mean_and_std([Image.fromarray(array) for array in arrays])
        pixels = np.concatenate([array.reshape(-1, 3) for array in arrays]) / 255
        assert mean == pytest.approx(pixels.mean(axis=0), abs=1e-12)
        assert std == pytest.approx(pixels.std(axis=0), abs=1e-12)

    def test_flat_images_are_not_divided_by_nothing(self):
        assert mean_and_std([Image.new("L", (4, 4), 255)]) == ((1.0,), (1.0,))

    def test_channels_are_three_as_soon_as_one_image_has_colour(self, tmp_path):
        paths = [tmp_path / f"{number}.png" for number in range(3)]
        for path, mode in zip(paths, ("L", "1", "I;16"), strict=True):
            Image.new(mode, (2, 2)).save(path)
        assert find_channels(paths) == 1
        Image.new("P", (2, 2)).save(paths[1])
        assert find_channels(paths) == 3
        assert [channel_mode(channels) for channels in (1, 3)] == ["L", "RGB"]

    def test_an_unreadable_image_is_named(self, tmp_path, refused):
        (tmp_path / "a.png").write_bytes(b"broken")
        refused(
            lambda: find_channels([tmp_path / "a.png"]),
            tmp_path / "a.png",
            "repair or replace the file, or leave it out",
        )
