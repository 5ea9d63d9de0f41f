from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from crosshead.tasks.change.pairs.images import ImagePair, ImagePairs, check_image_pairs, load_image_pairs

SIZE = (5, 7)


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
        message = refused(lambda: load_image_pairs(root), path, *words)
        assert message.startswith(f"{path}: ")
        assert list(check_image_pairs(root)) == [message]

    return check


def test_all_pairs_of_a_folder_are_read(folder):
    pairs = load_image_pairs(str(folder))
    assert [pair.name for pair in pairs.pairs] == ["hill", "lake"]
    assert (pairs.bands, pairs.in_chans, pairs.classes) == (("1", "2", "3"), 3, ("unchanged", "changed"))
    lake = pairs.pairs[1]
    assert np.array_equal(lake.before, pixels(1, 3).transpose(2, 0, 1))
    assert np.array_equal(lake.after, pixels(11, 3).transpose(2, 0, 1))
    assert np.array_equal(lake.label, pixels(21) % 3)
    assert (lake.before.dtype, lake.label.dtype, lake.size) == (np.uint8, np.uint8, SIZE)
    assert list(check_image_pairs(folder)) == []


def test_bands_may_lie_in_several_files_of_any_kind(tmp_path):
    for date, shift in (("before", 0), ("after", 100)):
        save(tmp_path / date / "hill.png", pixels(shift, 3))
        save(tmp_path / date / "hill_swir.npy", np.stack([pixels(shift + 1), pixels(shift + 2)]) / 4)
        save(tmp_path / date / "hill_nir.tif", pixels(shift + 3))
    save(tmp_path / "label" / "hill.npy", pixels(0) % 3)
    pairs = load_image_pairs(tmp_path)
    assert pairs.bands == ("1", "2", "3", "nir", "swir.1", "swir.2")
    expected = [*pixels(100, 3).transpose(2, 0, 1), pixels(103), pixels(101) / 4, pixels(102) / 4]
    assert np.array_equal(pairs.pairs[0].after, expected)


def test_a_file_belongs_to_the_longest_name_that_fits(tmp_path):
    for number, name in enumerate(("hill", "hill_2")):
        save(tmp_path / "label" / f"{name}.png", pixels(0) % 3)
        for date in ("before", "after"):
            save(tmp_path / date / f"{name}_red.png", pixels(number))
    pairs = load_image_pairs(tmp_path)
    assert pairs.bands == ("red",)
    assert [np.array_equal(pair.before[0], pixels(n)) for n, pair in enumerate(pairs.pairs)] == [True, True]


def test_pairs_may_differ_in_size_and_label_values_may_stand_for_more_classes(folder):
    save(folder / "before" / "pond.png", pixels(0, 3)[:3])
    save(folder / "after" / "pond.png", pixels(0, 3)[:3])
    save(folder / "label" / "pond.png", np.full((3, 7), 4, np.uint8))
    pairs = load_image_pairs(folder, classes=("no", "built", "felled", "flooded"))
    assert [pair.size for pair in pairs.pairs] == [SIZE, SIZE, (3, 7)]
    assert list(check_image_pairs(folder)) == [
        f"{folder}/label/pond.png: value 4 at row 0, column 0; 0 is unlabelled, 1..2 are classes"
    ]


@pytest.mark.parametrize("part", ["before", "after", "label"])
def test_a_missing_folder_is_named(folder, only_fault, part):
    (folder / part).rename(folder / "elsewhere")
    only_fault(folder, folder / part, "no such folder", "before/, after/ and label/")


@pytest.mark.parametrize("part", ["before", "after"])
def test_a_missing_image_is_named(folder, only_fault, part):
    (folder / part / "lake.png").unlink()
    words = "no file of the pair lake", f"add lake.* or leave {folder}/label/lake.png out"
    only_fault(folder, folder / part, *words)


def test_images_without_a_label_map_are_named(folder, refused):
    (folder / "label" / "lake.png").unlink()
    assert list(check_image_pairs(folder)) == [
        f"{folder}/{part}/lake.png: no label map of this name; add one to label/, or leave the file out"
        for part in ("before", "after")
    ]
    (folder / "label" / "hill.png").unlink()
    refused(lambda: load_image_pairs(folder), folder / "label", "no label map; add one for each pair")


def test_two_files_for_one_part_are_named(folder, only_fault):
    first, second = folder / "before" / "lake.png", folder / "before" / "lake.tif"
    save(second, pixels(0))
    only_fault(folder, second, f"the same band as {first}", "leave one of them out")
    second.unlink()
    second = save(folder / "label" / "lake.tif", pixels(0) % 3)
    only_fault(folder, second, f"a second label map beside {folder}/label/lake.png")


def test_dates_of_different_size_are_named(folder, only_fault):
    path = save(folder / "after" / "lake.png", pixels(0, 3)[:, :4])
    only_fault(folder, path, f"4 x 5 pixels where {folder}/before/lake.png has 7 x 5", "align")


def test_bands_of_different_size_are_named(folder):
    path = save(folder / "after" / "lake_nir.png", pixels(0)[:4])
    save(folder / "before" / "lake_nir.png", pixels(0))
    message = f"{path}: 7 x 4 pixels where {folder}/after/lake.png has 7 x 5; all bands need one size"
    assert list(check_image_pairs(folder)) == [message]


def test_a_label_map_of_another_size_is_named(folder, only_fault):
    path = save(folder / "label" / "lake.png", pixels(0)[:4] % 3)
    only_fault(folder, path, "7 x 4 pixels where the images have 7 x 5")


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
    assert [line.partition(":")[0] for line in check_image_pairs(folder)] == [
        f"{folder}/{path}"
        for path in ("after/pond.png", "before/hill.png", "label/hill.png", "label/lake.png")
    ]


def test_a_folder_that_is_missing_is_refused(tmp_path, only_fault, refused):
    only_fault(tmp_path / "none", tmp_path / "none", "no such folder")
    refused(lambda: load_image_pairs(None), "data_dir is None")


def test_pairs_that_contradict_themselves_are_refused():
    image, label = np.zeros((2, *SIZE)), np.zeros(SIZE, np.uint8)
    with pytest.raises(ValueError, match=r"before is \(2, 5, 7\) and after \(1, 5, 7\)"):
        ImagePair(name="a", before=image, after=image[:1], label=label)
    with pytest.raises(ValueError, match=r"label is \(4, 7\); give it the \(height, width\) \(5, 7\)"):
        ImagePair(name="a", before=image, after=image, label=label[:4])
    pair = ImagePair(name="a", before=image, after=image, label=label)
    with pytest.raises(ValueError, match=r"pairs have \[2\] bands and bands is \('red',\)"):
        ImagePairs(pairs=(pair,), bands=("red",), classes=("no", "yes"))
    with pytest.raises(ValueError, match=r"pairs have \[\] bands"):
        ImagePairs(pairs=(), bands=(), classes=("no", "yes"))
