import numpy as np
import pytest
from PIL import Image

from crosshead.tasks.change.pairs.landsat import check_landsat, load_landsat

IMAGES = ("t1_b321.png", "t1_b457.png", "t2_b321.png", "t2_b457.png")


@pytest.fixture
def folder(tmp_path):
    for value, name in enumerate(IMAGES):
        Image.new("RGB", (6, 4), (10 * value + 1, 10 * value + 2, 10 * value + 3)).save(tmp_path / name)
    Image.new("L", (6, 4), 2).save(tmp_path / "label.png")
    return tmp_path


def test_bands_come_in_the_order_of_the_files_and_their_channels(folder):
    pairs = load_landsat(folder)
    (pair,) = pairs.pairs
    assert pairs.bands == ("B3", "B2", "B1", "B4", "B5", "B7")
    assert pair.before[:, 0, 0].tolist() == [1, 2, 3, 11, 12, 13]
    assert pair.after[:, 3, 5].tolist() == [21, 22, 23, 31, 32, 33]
    assert (pair.size, pairs.classes[pair.label[0, 0] - 1]) == ((4, 6), "changed")
    assert list(check_landsat(folder)) == []


def test_every_missing_file_is_named(folder, refused):
    for name in ("t2_b321.png", "label.png"):
        (folder / name).unlink()
    lines = list(check_landsat(folder))
    assert [line.partition(":")[0] for line in lines] == [f"{folder}/t2_b321.png", f"{folder}/label.png"]
    assert refused(lambda: load_landsat(folder), folder / "t2_b321.png", *IMAGES, "label.png") == lines[0]


def test_files_that_do_not_fit_are_named(folder, refused):
    Image.new("L", (6, 5)).save(folder / "label.png")
    refused(lambda: load_landsat(folder), folder / "label.png", "6 x 5 pixels where the images have 6 x 4")
    Image.new("L", (6, 4), 3).save(folder / "label.png")
    refused(lambda: load_landsat(folder), folder / "label.png", "value 3 at row 0", "1..2 are classes")
    for date in ("t1", "t2"):
        Image.new("RGBA", (6, 4)).save(folder / f"{date}_b321.png")
    Image.new("L", (6, 4)).save(folder / "label.png")
    refused(lambda: load_landsat(folder), folder / "t1_b321.png", "7 bands in the files of a date, not 6")


def test_a_missing_folder_is_refused(tmp_path, refused):
    refused(lambda: load_landsat(tmp_path / "none"), tmp_path / "none", "no such folder")
    assert len(list(check_landsat(None))) == 1


def test_the_real_scene_is_complete(real_data):
    (pair,) = load_landsat(real_data / "landsat-taizhou").pairs
    assert pair.before.shape == pair.after.shape == (6, 400, 400)
    assert np.bincount(pair.label.ravel()).tolist() == [138_610, 17_163, 4_227]
