"""Images without labels: where they are found, how they are split, and what is wrong with them."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from crosshead.tasks.linearize.data import UNLABELLED, check_images, labels_of, load_images
from crosshead.tasks.linearize.recipe import LinearizeRecipe


@pytest.fixture
def recipe(vit):
    def make(folder: Path | None, **changes) -> LinearizeRecipe:
        return LinearizeRecipe(model=str(vit), epochs=1, crops=1, data_dir=folder, **changes)

    return make


def paths(images) -> set[str]:
    """The files of a data set, however it was cut."""

    def listed(part) -> list[str]:
        if hasattr(part, "datasets"):
            return [path for each in part.datasets for path in listed(each)]
        if hasattr(part, "indices"):
            whole = listed(part.dataset)
            return [whole[index] for index in part.indices]
        return list(part.paths)

    return set(listed(images))


def count(images: Any) -> int:
    return len(images)


def test_folders_are_searched_to_the_bottom(recipe, write_images):
    folder = write_images("a/b/c/1.png", "a/2.JPG", *(f"{number}.png" for number in range(10)))
    (folder / "a" / "notes.txt").write_text("no image")
    (folder / ".hidden.png").write_bytes(b"")
    data = load_images(recipe(folder))
    parts = [paths(part) for part in (data.train, data.val, data.test)]
    assert list(map(len, parts)) == [10, 1, 1]
    assert len(set.union(*parts)) == 12


def test_folders_of_splits_are_kept_apart(recipe, write_images):
    names = [f"{split}/{number}.png" for split in ("train", "val", "test") for number in range(3)]
    data = load_images(recipe(write_images(*names)))
    for split in ("train", "val", "test"):
        assert {path.split("/")[-2] for path in paths(getattr(data, split))} == {split}


def test_a_lone_held_out_split_is_the_test(recipe, write_images):
    names = [f"{split}/{number}.png" for split in ("train", "valid") for number in range(10)]
    folder = write_images(*names)
    data = load_images(recipe(folder, val=0.2))
    assert [len(paths(part)) for part in (data.train, data.val, data.test)] == [8, 2, 10]
    assert load_images(recipe(folder, val=0.0)).val is None


def test_a_lone_test_folder_is_tested_and_nothing_is_learned_from_it(recipe, write_images):
    folder = write_images("test/a/1.png", "test/a/2.png", "test/b/1.png")
    data = load_images(recipe(folder))
    assert (len(paths(data.train)), data.val, len(paths(data.test))) == (0, None, 3)
    assert set(labels_of(data.test)) == {UNLABELLED}


def test_few_images_give_many_crops(recipe, write_images, caplog):
    folder = write_images(*(f"train/{number}.png" for number in range(4)), "test/1.png")
    made = recipe(folder, val=0.0)
    with caplog.at_level(logging.WARNING):
        assert count(load_images(made).train) == 4
    assert "4 training images are few" in caplog.text
    object.__setattr__(made, "crops", 10)
    assert count(load_images(made).train) == 12


def test_labels_are_folders_that_all_splits_have(recipe, write_images):
    names = [
        f"{split}/{kind}/{n}.png" for split in ("train", "test") for kind in ("cat", "dog") for n in "12"
    ]
    data = load_images(recipe(write_images(*names), val=0.0))
    assert labels_of(data.train).tolist() == labels_of(data.test).tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize(
    "names",
    [
        ["train/a/1.png", "train/b/1.png", "test/a/1.png", "test/c/1.png"],
        ["train/a/1.png", "train/b/1.png", "test/a/1.png"],
        ["train/a/1.png", "train/b/x/1.png", "test/a/1.png", "test/b/1.png"],
        ["train/a/1.png", "test/a/1.png"],
        [f"{kind}/{number}.png" for kind in "ab" for number in range(5)],
    ],
)
def test_other_folders_are_no_labels(recipe, write_images, names):
    data = load_images(recipe(write_images(*names), val=0.0))
    assert set(labels_of(data.test)) == {UNLABELLED}


def test_labels_of_a_part_are_the_parts(recipe, write_images):
    names = [f"{split}/{kind}/{n}.png" for split in ("train", "test") for kind in "abc" for n in range(10)]
    data = load_images(recipe(write_images(*names), val=0.2))
    expected = [0 if "/a/" in path else 1 if "/b/" in path else 2 for path in sorted(paths(data.train))]
    assert np.array_equal(np.sort(labels_of(data.train)), expected)


def test_meta_is_the_teachers(recipe, write_images):
    meta = load_images(recipe(write_images("train/1.png", "test/1.png"), val=0.0)).meta
    assert (meta.image_size, meta.patch, meta.in_chans, meta.classes) == (16, (4, 4), 3, ())
    assert (meta.mean, meta.std, meta.crop_fraction) == ((0.4,) * 3, (0.3,) * 3, 1.0)


def test_sizes_are_whole_patches(recipe, write_images):
    folder = write_images("train/1.png", "test/1.png")
    assert load_images(recipe(folder, val=0.0, image_size=(20,))).meta.image_size == 20
    for change in ({"image_size": (18,)}, {"image_size": (16, 18)}, {"test_sizes": (16, 18)}):
        with pytest.raises(ValueError, match="multiples of the patch, 4 x 4 pixels; got 18: give 16"):
            load_images(recipe(folder, val=0.0, **change))


@pytest.mark.parametrize("channels", [1, 4])
def test_channels_that_the_weights_were_not_made_for_are_refused(recipe, write_images, channels):
    folder = write_images("train/1.png", "test/1.png")
    with pytest.raises(
        ValueError, match=rf"^model \S+ must take images of 1 or 3 .* got {channels} and 3 means"
    ):
        load_images(recipe(folder, val=0.0, model_args={"in_chans": channels}))


def test_folders_without_images_are_refused(recipe, write_images, tmp_path, refused):
    refused(lambda: load_images(recipe(tmp_path / "none")), tmp_path / "none", "no such folder")
    (tmp_path / "empty").mkdir()
    refused(lambda: load_images(recipe(tmp_path / "empty")), tmp_path / "empty", "holds no images")
    folder = write_images("train/1.png", "test/1.png")
    (folder / "test" / "1.png").unlink()
    refused(lambda: load_images(recipe(folder)), folder / "test", "holds no images")
    refused(lambda: load_images(recipe(None)), "--data-dir")


def test_nothing_to_test_on_is_refused(recipe, write_images, refused):
    folder = write_images(*(f"{number}.png" for number in range(12)))
    refused(lambda: load_images(recipe(folder, test=0.0)), folder, "--test 0")


def test_a_check_names_each_file_that_cannot_be_read_or_is_there_twice(recipe, write_images):
    folder = write_images("train/1.png", "train/2.png", "test/1.png")
    assert list(check_images(recipe(folder))) == []
    (folder / "train" / "2.png").write_bytes(b"no image")
    (folder / "test" / "1.png").write_bytes((folder / "train" / "1.png").read_bytes())
    unreadable, twice = check_images(recipe(folder))
    assert "train/2.png: not readable" in unreadable
    assert "test/1.png: byte for byte the same" in twice
