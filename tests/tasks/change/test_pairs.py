"""Folders of image pairs: what belongs together, and every fault by name."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from crosshead.tasks.change import pairs as reader
from crosshead.tasks.change.pairs import ImagePair, gather, listed, scan_landsat, scan_pairs

SIZE = (5, 7)


def load(root: object, **options) -> tuple[ImagePair, ...]:
    return gather(scan_pairs(root, **options))  # pyright: ignore[reportArgumentType]


def faults(root: object) -> list[str]:
    return [found for found in scan_pairs(root) if isinstance(found, str)]  # pyright: ignore[reportArgumentType]


def pixels(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*SIZE, *shape), dtype=np.uint8)


def save(path: Path, array: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, array)
    else:
        Image.fromarray(array).save(path)
    return path


@pytest.fixture
def folder(tmp_path) -> Path:
    """Two sound pairs of three bands."""
    for number, name in enumerate(("hill", "lake")):
        save(tmp_path / "before" / f"{name}.png", pixels(number, 3))
        save(tmp_path / "after" / f"{name}.png", pixels(number + 10, 3))
        save(tmp_path / "label" / f"{name}.png", pixels(number + 20) % 3)
    return tmp_path


@pytest.fixture
def only_fault(refused) -> Callable:
    """Loading must fail with one line, and checking must list that line and no other."""

    def check(root: Path, path: Path, *words: str) -> None:
        message = refused(lambda: load(root), path, *words)
        assert message.startswith(f"{path}: ")
        assert faults(root) == [message]

    return check


def test_all_pairs_of_a_folder_are_read(folder):
    hill, lake = load(str(folder))
    assert (hill.name, lake.name) == ("hill", "lake")
    assert hill.bands == lake.bands == ("1", "2", "3")
    assert np.array_equal(lake.before, pixels(1, 3).transpose(2, 0, 1))
    assert np.array_equal(lake.after, pixels(11, 3).transpose(2, 0, 1))
    assert np.array_equal(lake.label, pixels(21) % 3)
    assert (lake.before.dtype, lake.label.dtype, lake.size) == (np.uint8, np.uint8, SIZE)
    assert faults(folder) == []


def test_bands_may_lie_in_several_files_of_any_kind(tmp_path):
    for date, shift in (("before", 0), ("after", 100)):
        save(tmp_path / date / "hill.png", pixels(shift, 3))
        save(tmp_path / date / "hill_swir.npy", np.stack([pixels(shift + 1), pixels(shift + 2)]) / 4)
        save(tmp_path / date / "hill_nir.tif", pixels(shift + 3))
    save(tmp_path / "label" / "hill.npy", pixels(0) % 3)
    (pair,) = load(tmp_path)
    assert pair.bands == ("1", "2", "3", "nir", "swir.1", "swir.2")
    expected = [*pixels(100, 3).transpose(2, 0, 1), pixels(103), pixels(101) / 4, pixels(102) / 4]
    assert np.array_equal(pair.after, expected)


def test_a_file_belongs_to_the_longest_name_that_fits(tmp_path):
    for number, name in enumerate(("hill", "hill_2")):
        save(tmp_path / "label" / f"{name}.png", pixels(0) % 3)
        for date in ("before", "after"):
            save(tmp_path / date / f"{name}_red.png", pixels(number))
    pairs = load(tmp_path)
    assert [pair.bands for pair in pairs] == [("red",)] * 2
    assert [np.array_equal(pair.before[0], pixels(n)) for n, pair in enumerate(pairs)] == [True, True]


def test_pairs_may_differ_in_size_and_label_values_may_stand_for_more_classes(folder):
    save(folder / "before" / "pond.png", pixels(0, 3)[:3])
    save(folder / "after" / "pond.png", pixels(0, 3)[:3])
    save(folder / "label" / "pond.png", np.full((3, 7), 4, np.uint8))
    pairs = load(folder, num_classes=4)
    assert [pair.size for pair in pairs] == [SIZE, SIZE, (3, 7)]
    assert faults(folder) == [
        f"{folder}/label/pond.png: value 4 at row 0, column 0; 0 is unlabelled, 1..2 are classes"
    ]


@pytest.mark.parametrize("part", ["before", "after", "label"])
def test_a_missing_folder_is_named(folder, refused, part):
    (folder / part).rename(folder / "elsewhere")
    refused(lambda: load(folder), folder / part, "no such folder", "before/, after/ and label/")


@pytest.mark.parametrize("part", ["before", "after"])
def test_a_missing_image_is_named(folder, only_fault, part):
    (folder / part / "lake.png").unlink()
    words = "no file of the pair lake", f"add lake.* or leave {folder}/label/lake.png out"
    only_fault(folder, folder / part, *words)


def test_images_without_a_label_map_are_named(folder, refused):
    (folder / "label" / "lake.png").unlink()
    assert faults(folder) == [
        f"{folder}/{part}/lake.png: no label map of this name; add one to label/, or leave the file out"
        for part in ("before", "after")
    ]
    (folder / "label" / "hill.png").unlink()
    refused(lambda: load(folder), folder / "label", "no label map; add one for each pair")


def test_two_files_for_one_part_are_named(folder, only_fault):
    first, second = folder / "before" / "lake.png", folder / "before" / "lake.tif"
    save(second, pixels(0))
    only_fault(folder, second, f"the same band as {first}", "leave one of them out")
    second.unlink()
    second = save(folder / "label" / "lake.tif", pixels(0) % 3)
    only_fault(folder, second, f"a second label map beside {folder}/label/lake.png")


def test_dates_of_different_size_are_named(folder, only_fault):
    path = save(folder / "after" / "lake.png", pixels(0, 3)[:, :4])
    only_fault(
        folder,
        path,
        f"4 x 5 pixels where {folder}/before/lake.png has 7 x 5",
        "align them: all files of a pair",
    )


def test_bands_of_different_size_are_named(folder):
    path = save(folder / "after" / "lake_nir.png", pixels(0)[:4])
    save(folder / "before" / "lake_nir.png", pixels(0))
    message = f"{path}: 7 x 4 pixels where {folder}/before/lake.png has 7 x 5; align them"
    assert [line.partition(": all")[0] for line in faults(folder)] == [message]


def test_a_label_map_of_another_size_is_named(folder, only_fault):
    path = save(folder / "label" / "lake.png", pixels(0)[:4] % 3)
    only_fault(folder, path, f"7 x 4 pixels where {folder}/before/lake.png has 7 x 5")


def test_a_label_value_without_a_class_is_named(folder, only_fault):
    label = pixels(0) % 3
    label[2, 3] = 255
    only_fault(folder, save(folder / "label" / "lake.png", label), "value 255 at row 2, column 3")


def test_band_counts_that_differ_between_the_dates_are_named(folder, only_fault):
    path = save(folder / "after" / "lake.png", pixels(0))
    only_fault(folder, path, f"bands 1 where {folder}/before/lake.png has 1, 2, 3", "both dates")


def test_bands_that_differ_between_the_pairs_are_named(folder, only_fault):
    path = save(folder / "before" / "lake.png", pixels(0))
    save(folder / "after" / "lake.png", pixels(0))
    only_fault(folder, path, f"bands 1 where {folder}/before/hill.png has 1, 2, 3", "all pairs")


@pytest.mark.parametrize("part", ["before", "after", "label"])
def test_an_unreadable_file_is_named(folder, only_fault, part):
    (folder / part / "lake.png").write_bytes(b"nonsense")
    only_fault(folder, folder / part / "lake.png", "not readable as an image")


def test_everything_that_is_wrong_is_listed(folder):
    (folder / "before" / "hill.png").write_bytes(b"nonsense")
    save(folder / "label" / "hill.png", pixels(0)[:4] % 3)
    save(folder / "label" / "lake.png", np.full(SIZE, 9, np.uint8))
    save(folder / "after" / "pond.png", pixels(0, 3))
    (folder / "after" / "notes.txt").touch()
    assert [line.partition(":")[0] for line in faults(folder)] == [
        f"{folder}/{path}"
        for path in ("after/pond.png", "before/hill.png", "label/hill.png", "label/lake.png")
    ]


def test_binary_maps_label_every_pixel(folder, only_fault):
    for name in ("hill", "lake"):
        save(folder / "label" / f"{name}.png", np.where(pixels(5) > 200, 255, 0).astype(np.uint8))
    for pair in load(folder):
        assert np.array_equal(pair.label, np.where(pixels(5) > 200, 2, 1))
    # One map of other values, and none is binary.
    save(folder / "label" / "lake.png", pixels(0) % 3)
    only_fault(folder, folder / "label" / "hill.png", "value 255 at row")


@pytest.mark.parametrize("names", [("A", "B", "labels"), ("t1", "t2", "mask")])
def test_folders_may_have_other_names_and_lie_in_splits(folder, tmp_path, names):
    for part, name in zip(("before", "after", "label"), names, strict=True):
        for split, pair in (("train", "hill"), ("val", "lake")):
            place = tmp_path / "set" / split / name
            place.mkdir(parents=True)
            (folder / part / f"{pair}.png").rename(place / f"{pair}.png")
    found = load(tmp_path / "set")
    assert [(pair.name, pair.split) for pair in found] == [("hill", "train"), ("lake", "test")]
    assert load(tmp_path / "set" / "train")[0].split is None


def test_a_held_out_split_alone_is_refused(folder, tmp_path, refused):
    folder.joinpath("val").mkdir()
    for part in ("before", "after", "label"):
        (folder / part).rename(folder / "val" / part)
    refused(lambda: load(folder), folder / "train", "no such folder", "add the pairs to train on")


def test_a_folder_that_is_missing_is_refused(tmp_path, refused):
    refused(lambda: load(tmp_path / "none"), tmp_path / "none", "no such folder")
    refused(lambda: load(None), "--data-dir")


@pytest.mark.parametrize(
    "shapes", [((2, 5, 7), (1, 5, 7), (5, 7)), ((2, 5, 7), (2, 5, 7), (4, 7)), ((1, 5, 7),) * 2 + ((5, 7),)]
)
def test_pairs_that_contradict_themselves_are_refused(shapes):
    before, after, label = map(np.zeros, shapes)
    with pytest.raises(ValueError, match=r"with a name for each channel; got \(\d, 5, 7\)") as caught:
        ImagePair(name="a", before=before, after=after, label=label, bands=("red", "nir"))
    assert f"{shapes[0]}, {shapes[1]}, {shapes[2]} and 2 names" in str(caught.value)


def test_nothing_is_decoded_where_headers_do_not_fit(folder, monkeypatch):
    save(folder / "after" / "lake.png", pixels(0, 3)[:, :4])
    decoded = []
    monkeypatch.setattr(reader, "read_channels", lambda path: decoded.append(path) or np.zeros((3, *SIZE)))
    assert len(faults(folder)) == 1
    assert {path.stem for path in decoded} == {"hill"}


@pytest.mark.parametrize("part", ["before", "after", "label"])
def test_a_named_pipe_is_refused_and_not_waited_for(folder, only_fault, part):
    path = folder / part / "lake.png"
    path.unlink()
    os.mkfifo(path)
    only_fault(folder, path, "not a regular file")


def test_of_many_bands_a_message_lists_a_few():
    assert listed(tuple("abcdefgh")) == "a, b, c, d, e, f, g, h"
    assert listed(tuple("abcdefghij")) == "a, b, c, d, e, f, g, h, ... (10 in all)"


class TestLandsat:
    IMAGES = ("t1_b321.png", "t1_b457.png", "t2_b321.png", "t2_b457.png")

    @pytest.fixture
    def scene(self, tmp_path) -> Path:
        for value, name in enumerate(self.IMAGES):
            Image.new("RGB", (6, 4), (10 * value + 1, 10 * value + 2, 10 * value + 3)).save(tmp_path / name)
        Image.new("L", (6, 4), 2).save(tmp_path / "label.png")
        return tmp_path

    def test_bands_come_in_the_order_of_the_files_and_their_channels(self, scene):
        (pair,) = gather(scan_landsat(scene))
        assert pair.bands == ("B3", "B2", "B1", "B4", "B5", "B7")
        assert pair.before[:, 0, 0].tolist() == [1, 2, 3, 11, 12, 13]
        assert pair.after[:, 3, 5].tolist() == [21, 22, 23, 31, 32, 33]
        assert (pair.size, pair.label[0, 0]) == ((4, 6), 2)

    def test_every_missing_file_is_named(self, scene, refused):
        for name in ("t2_b321.png", "label.png"):
            (scene / name).unlink()
        lines = list(scan_landsat(scene))
        assert [str(line).partition(":")[0] for line in lines] == [
            f"{scene}/t2_b321.png",
            f"{scene}/label.png",
        ]
        message = refused(
            lambda: gather(scan_landsat(scene)), scene / "t2_b321.png", *self.IMAGES, "label.png"
        )
        assert message == lines[0]

    def test_files_that_do_not_fit_are_named(self, scene, refused):
        def load_scene() -> object:
            return gather(scan_landsat(scene))

        Image.new("L", (6, 5)).save(scene / "label.png")
        refused(load_scene, scene / "label.png", f"6 x 5 pixels where {scene}/t1_b321.png has 6 x 4")
        Image.new("L", (6, 4), 3).save(scene / "label.png")
        refused(load_scene, scene / "label.png", "value 3 at row 0", "1..2 are classes")
        for date in ("t1", "t2"):
            Image.new("RGBA", (6, 4)).save(scene / f"{date}_b321.png")
        Image.new("L", (6, 4)).save(scene / "label.png")
        refused(load_scene, scene / "t1_b321.png", "7 channels in the files of a date, not 6")

    def test_a_named_pipe_is_refused_and_not_waited_for(self, scene, refused):
        (scene / "t2_b457.png").unlink()
        os.mkfifo(scene / "t2_b457.png")
        refused(lambda: gather(scan_landsat(scene)), scene / "t2_b457.png", "not a regular file")

    def test_a_missing_folder_is_refused(self, tmp_path, refused):
        refused(lambda: gather(scan_landsat(tmp_path / "none")), tmp_path / "none", "no such folder")
        refused(lambda: gather(scan_landsat(None)), "--data-dir")

    def test_the_real_scene_is_complete(self, real_data):
        (pair,) = gather(scan_landsat(real_data / "landsat-taizhou"))
        assert pair.before.shape == pair.after.shape == (6, 400, 400)
        assert np.bincount(pair.label.ravel()).tolist() == [138_610, 17_163, 4_227]
