from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from crosshead.tasks.sources import NamedImage, find_sources, read_input

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 7, 3)).astype(np.uint8)


def seen(source, *, in_chans: int = 3) -> np.ndarray:
    return np.asarray(read_input(source, in_chans=in_chans, position=0).content)


@pytest.fixture
def photo(tmp_path) -> Path:
    Image.fromarray(PIXELS).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def test_one_image_is_the_same_however_it_is_given(photo):
    channels_first = torch.from_numpy(PIXELS).permute(2, 0, 1)
    for source in (
        photo,
        str(photo),
        Image.open(photo),
        Image.fromarray(PIXELS),
        PIXELS,
        PIXELS[:, ::-1][:, ::-1],  # not contiguous
        PIXELS / 255,
        (PIXELS / 255).astype(np.float32),
        channels_first,
        channels_first / 255,
        NamedImage(Image.fromarray(PIXELS), "frame", "film"),
    ):
        assert np.array_equal(seen(source), PIXELS)


def test_floats_are_rounded_to_the_nearest_of_256_values():
    assert seen(np.array([[0.0, 0.0022, 0.3321, 1.0]]), in_chans=1).tolist() == [[0, 1, 85, 255]]


@pytest.mark.parametrize("source", [PIXELS[..., 0], PIXELS[..., :1], torch.from_numpy(PIXELS[..., 0].copy())])
def test_grey_becomes_colour_and_colour_grey(source):
    assert np.array_equal(seen(source), np.stack([PIXELS[..., 0]] * 3, -1))
    assert np.array_equal(seen(source, in_chans=1), PIXELS[..., 0])
    assert seen(PIXELS, in_chans=1).shape == (5, 7)


def test_what_has_no_name_is_named_by_its_position(photo):
    names = [
        (found.name, found.source)
        for found in (
            read_input(source, in_chans=3, position=4)
            for source in (
                photo,
                Image.open(photo),
                PIXELS,
                NamedImage(Image.fromarray(PIXELS), "a-1", "a#1"),
            )
        )
    ]
    assert names == [("photo", str(photo)), ("photo", str(photo)), ("image-5", "image-5"), ("a-1", "a#1")]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            PIXELS.transpose(2, 0, 1),
            r"array must be \(height, width, channels\) .*\(3, 5, 7\): move its axes",
        ),
        (
            torch.zeros(5, 7, 3),
            r"tensor must be \(channels, height, width\) .*\(5, 7, 3\): move",
        ),
        (np.zeros((0, 4, 3)), r"array must be .*got \(0, 4, 3\)"),
        (np.zeros((2, 5, 7, 3)), r"array must be .*got \(2, 5, 7, 3\)"),
        (PIXELS.astype(np.int64), "uint8, or of floats in 0 to 1; got int64 from .*: scale it"),
        (torch.tensor([[[-1.0, 2.0]]]), "got float32 from -1 to 2: scale it, and do not normalise it"),
        (np.full((2, 2), np.nan), "got float64 from nan to nan"),
    ],
)
def test_arrays_that_are_no_images_are_refused(source, message):
    with pytest.raises(ValueError, match=message):
        seen(source)


def test_things_that_are_no_images_at_all_are_refused(tmp_path, refused):
    with pytest.raises(TypeError, match=r"^an image must be a path, .* or a tensor; got int$"):
        seen(7)
    refused(lambda: seen(tmp_path / "none.png"), tmp_path / "none.png", "not readable as an image")


def test_folders_and_patterns_stand_for_their_images_in_order(tmp_path):
    for name in ("b.png", "a.JPG", "deep/c.webp", ".hidden/d.png", "deep/.e.png", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = [tmp_path / name for name in ("a.JPG", "b.png", "deep/c.webp")]
    assert find_sources(tmp_path) == found
    assert find_sources(str(tmp_path / "*.png")) == [tmp_path / "b.png"]
    assert find_sources(tmp_path / "**" / "c.*") == [tmp_path / "deep" / "c.webp"]


def test_a_hidden_folder_may_be_named(tmp_path):
    (tmp_path / ".cache").mkdir()
    (tmp_path / ".cache" / "a.png").touch()
    assert find_sources(tmp_path / ".cache") == [tmp_path / ".cache" / "a.png"]


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(tmp_path):
    (tmp_path / "photo[1].png").touch()
    assert find_sources(tmp_path / "photo[1].png") == tmp_path / "photo[1].png"


def test_nothing_found_is_told(tmp_path, refused):
    (tmp_path / "notes.txt").touch()
    refused(lambda: find_sources(tmp_path), tmp_path, "no image below this folder")
    refused(lambda: find_sources(tmp_path / "*.png"), tmp_path / "*.png", "matches no image")


def test_a_deep_file_is_scaled_as_those_of_the_training_were(tmp_path):
    values = np.array([[0, 2048, 4095]], np.uint16)
    Image.fromarray(values).save(tmp_path / "deep.png")
    image = read_input(tmp_path / "deep.png", in_chans=1, position=0, bits=12).content
    assert np.asarray(image).tolist() == [[0, 128, 255]]
