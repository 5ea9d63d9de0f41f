import numpy as np
import pytest
from PIL import Image

from crosshead.tasks.image_measures import band_mode, find_bands, mean_and_std, spread


def test_positions_are_spread_from_the_first_to_the_last():
    assert spread(3) == [0, 1, 2]
    assert spread(1) == [0]
    assert spread(101, most=5) == [0, 25, 50, 75, 100]
    assert len(spread(1000)) == 64


def test_mean_and_spread_are_numpys_over_all_pixels_of_images_of_any_size():
    generator = np.random.default_rng(0)
    arrays = [generator.integers(0, 256, (height, 5, 3), np.uint8) for height in (2, 9)]
    mean, std = mean_and_std([Image.fromarray(array) for array in arrays])
    pixels = np.concatenate([array.reshape(-1, 3) for array in arrays]) / 255
    assert mean == pytest.approx(pixels.mean(axis=0), abs=1e-12)
    assert std == pytest.approx(pixels.std(axis=0), abs=1e-12)


def test_flat_images_are_not_divided_by_nothing():
    assert mean_and_std([Image.new("L", (4, 4), 255)]) == ((1.0,), (1.0,))


def test_bands_are_three_as_soon_as_one_image_has_colour(tmp_path):
    paths = [tmp_path / f"{number}.png" for number in range(3)]
    for path, mode in zip(paths, ("L", "1", "I;16"), strict=True):
        Image.new(mode, (2, 2)).save(path)
    assert find_bands(paths) == 1
    Image.new("P", (2, 2)).save(paths[1])
    assert find_bands(paths) == 3
    assert [band_mode(bands) for bands in (1, 3)] == ["L", "RGB"]


def test_an_unreadable_image_is_named(tmp_path, refused):
    (tmp_path / "a.png").write_bytes(b"broken")
    refused(
        lambda: find_bands([tmp_path / "a.png"]),
        tmp_path / "a.png",
        "repair or replace the file, or leave it out",
    )
