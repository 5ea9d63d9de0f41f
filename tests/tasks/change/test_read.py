"""Image files of any number of channels: every kind is read as it is, and what is no image is named."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from crosshead.tasks.change.read import MAX_CHANNELS, read_channels, read_label, read_shape


def numbers(*shape: int, dtype: str = "uint8") -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape).astype(dtype)


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_every_band_of_an_image_is_a_channel_transparency_too(tmp_path, channels):
    pixels = numbers(3, 5, channels)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    image = read_channels(tmp_path / "a.png")
    assert image.dtype == np.uint8
    assert np.array_equal(image, pixels.transpose(2, 0, 1))


def test_each_page_of_a_tiff_is_a_channel(tmp_path):
    pages = numbers(13, 3, 5)
    first, *others = [Image.fromarray(page) for page in pages]
    first.save(tmp_path / "a.tif", save_all=True, append_images=others)
    assert np.array_equal(read_channels(tmp_path / "a.tif"), pages)


@pytest.mark.parametrize("dtype", ["uint16", "int32", "float32"])
def test_deeper_images_keep_their_numbers(tmp_path, dtype):
    pixels = 100 * numbers(3, 5, dtype=dtype)
    Image.fromarray(pixels).save(tmp_path / "a.tif")
    image = read_channels(tmp_path / "a.tif")
    assert image.dtype == np.float32
    assert np.array_equal(image, pixels[None])


@pytest.mark.parametrize(
    ("dtype", "kept"), [("bool", "uint8"), ("uint8", "uint8"), ("int16", "float32"), ("float64", "float32")]
)
def test_arrays_are_read_as_they_are(tmp_path, dtype, kept):
    array = numbers(6, 3, 5, dtype=dtype)
    np.save(tmp_path / "a.npy", array)
    image = read_channels(tmp_path / "a.npy")
    assert image.dtype == kept
    assert np.array_equal(image, array)
    np.save(tmp_path / "a.npy", array[0])
    assert np.array_equal(read_channels(tmp_path / "a.npy"), array[:1])


def test_a_palette_stands_for_colours_in_an_image_and_for_classes_in_a_label_map(tmp_path):
    image = Image.fromarray(np.array([[0, 1], [2, 0]], np.uint8), mode="P")
    image.putpalette([0, 0, 0, 10, 20, 30, 40, 50, 60])
    image.save(tmp_path / "a.png")
    assert read_channels(tmp_path / "a.png")[:, 0, 1].tolist() == [10, 20, 30]
    assert read_label(tmp_path / "a.png", num_classes=2).tolist() == [[0, 1], [2, 0]]


def test_images_that_are_not_readable_are_named(tmp_path, refused):
    path = tmp_path / "a.png"
    refused(lambda: read_channels(path), path, "not readable", "No such file")
    path.write_bytes(b"nonsense")
    refused(lambda: read_channels(path), path, "not readable as an image", "save channels as .npy")
    Image.fromarray(numbers(50, 50, 3)).save(path)
    path.write_bytes(path.read_bytes()[:300])
    refused(lambda: read_channels(path), path, "not readable as an image")


def test_pages_of_different_size_are_refused(tmp_path, refused):
    path = tmp_path / "a.tif"
    Image.new("L", (4, 4)).save(path, save_all=True, append_images=[Image.new("L", (2, 2))])
    refused(lambda: read_channels(path), path, "its pages differ in size")


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((2, 3), complex), ["complex128 of shape (2, 3)", "real numbers"]),
        (np.zeros((2, 2, 3, 3)), ["float64 of shape (2, 2, 3, 3)", "(channels, height, width)"]),
        (np.zeros((2, 0, 3)), ["of shape (2, 0, 3)"]),
        (np.array([[[1.0, np.nan, np.inf]]]), ["2 of its 3 values are not finite", "fill them"]),
        (np.array([[[1e300]]]), ["1 of its 1 values are not finite"]),
    ],
)
def test_arrays_that_are_no_image_are_refused(tmp_path, refused, array, words):
    np.save(tmp_path / "a.npy", array)
    refused(lambda: read_channels(tmp_path / "a.npy"), tmp_path / "a.npy", *words)


def test_a_pickle_is_not_opened(tmp_path, refused):
    np.save(tmp_path / "a.npy", np.array([[{}]], dtype=object), allow_pickle=True)
    refused(lambda: read_channels(tmp_path / "a.npy"), tmp_path / "a.npy", "not readable")


@pytest.mark.parametrize("dtype", ["uint8", "int64", "float32"])
def test_a_label_map_is_read_as_bytes(tmp_path, dtype):
    np.save(tmp_path / "a.npy", np.array([[0, 1, 2]], dtype))
    label = read_label(tmp_path / "a.npy", num_classes=2)
    assert label.dtype == np.uint8
    assert label.tolist() == [[0, 1, 2]]


@pytest.mark.parametrize("value", [3, -1, 0.5, np.nan, 256])
def test_a_label_that_stands_for_no_class_is_named_with_its_place(tmp_path, refused, value):
    label = np.zeros((2, 3))
    label[1, 2] = value
    np.save(tmp_path / "a.npy", label)
    words = [f"value {label[1, 2]} at row 1, column 2", "0 is unlabelled, 1..2 are classes"]
    refused(lambda: read_label(tmp_path / "a.npy", num_classes=2), tmp_path / "a.npy", *words)


def test_a_label_map_has_one_channel_and_no_losses(tmp_path, refused):
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    Image.new("L", (4, 4)).save(tmp_path / "a.jpg")
    refused(
        lambda: read_label(tmp_path / "a.png", num_classes=2), tmp_path / "a.png", "3 channels in a label map"
    )
    refused(lambda: read_label(tmp_path / "a.jpg", num_classes=2), tmp_path / "a.jpg", "save it as PNG")


@pytest.mark.parametrize("name", ["a.npy", "a.png", "a.tif"])
def test_a_named_pipe_or_a_folder_is_refused_and_not_waited_for(tmp_path, refused, name):
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / name)
    (tmp_path / "folder" / name).mkdir()
    for path in (tmp_path / name, tmp_path / "folder" / name):
        for read in (read_shape, read_channels, lambda path: read_label(path, num_classes=2)):
            refused(lambda read=read, path=path: read(path), path, "not a regular file")


def test_headers_tell_shapes_and_nothing_is_decoded(tmp_path):
    Image.fromarray(numbers(50, 40, 3)).save(tmp_path / "a.png")
    (tmp_path / "a.png").write_bytes((tmp_path / "a.png").read_bytes()[:300])
    assert read_shape(tmp_path / "a.png") == (3, 50, 40)
    Image.new("P", (4, 6)).save(tmp_path / "b.png")
    assert read_shape(tmp_path / "b.png") == (3, 6, 4)
    assert read_shape(tmp_path / "b.png", palette=True) == (1, 6, 4)
    pages = [Image.new("L", (4, 6)), Image.new("RGB", (4, 6))]
    pages[0].save(tmp_path / "c.tif", save_all=True, append_images=pages[1:])
    assert read_shape(tmp_path / "c.tif") == (4, 6, 4)
    np.save(tmp_path / "d.npy", np.zeros((6, 4)))
    assert read_shape(tmp_path / "d.npy") == (1, 6, 4)


def write_header(path: Path, shape: tuple[int, ...]) -> Path:
    """A .npy file that promises an array of this shape and holds next to nothing of it."""
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f8", "fortran_order": False, "shape": shape})
        file.write(bytes(64))
    return path


def test_a_header_that_promises_more_than_the_file_holds_is_refused(tmp_path, refused):
    path = write_header(tmp_path / "a.npy", (6, 10**6, 10**6))
    refused(lambda: read_channels(path), path, "not readable as an image")


def test_an_absurd_count_of_channels_is_refused(tmp_path, refused):
    path = tmp_path / "a.npy"
    np.save(path, np.zeros((MAX_CHANNELS + 1, 2, 2)))
    refused(lambda: read_channels(path), path, "1025 channels, more than 1024", "(channels, height, width)")
    np.save(path, np.zeros((MAX_CHANNELS, 2, 2)))
    assert len(read_channels(path)) == MAX_CHANNELS
    page, path = Image.new("L", (1, 1)), tmp_path / "a.tif"
    page.save(path, save_all=True, append_images=[page] * MAX_CHANNELS)
    refused(lambda: read_channels(path), path, "more than 1024 pages")


def test_an_archive_of_arrays_is_no_array(tmp_path, refused):
    with (tmp_path / "a.npy").open("wb") as file:
        np.savez(file, a=np.zeros((1, 2, 2)))
    refused(lambda: read_channels(tmp_path / "a.npy"), tmp_path / "a.npy", "not readable as an image")
