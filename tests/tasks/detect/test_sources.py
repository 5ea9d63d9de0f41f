import dataclasses
import gzip
import json
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest

from crosshead.runs.folder import RunError
from crosshead.tasks.detect.sources import check_dense, load_labels, load_objects


@pytest.fixture(scope="module")
def fashion(tmp_path_factory) -> Path:
    """Fashion-MNIST with ten flat items to a split."""
    folder = tmp_path_factory.mktemp("fashion")

    def write(name: str, array: np.ndarray) -> None:
        header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
        (folder / name).write_bytes(gzip.compress(header + array.tobytes()))

    for split in ("train", "t10k"):
        items = np.repeat(np.arange(100, 110, dtype=np.uint8), 28 * 28).reshape(10, 28, 28)
        write(f"{split}-images-idx3-ubyte.gz", items)
        write(f"{split}-labels-idx1-ubyte.gz", np.arange(10, dtype=np.uint8))
    return folder


def scenes(recipe, folder, **changes):
    few = {"data": "fashion-scenes", "data_dir": folder, "scenes": (4, 2), "scene_size": 96}
    return dataclasses.replace(recipe, **few, **changes)


def test_objects_come_with_masks_where_they_are_asked_for(dense_recipe):
    recipe = dense_recipe("boxes")
    for masks in (False, True):
        splits = load_objects(recipe, masks=masks)
        assert (len(splits.train), len(splits.test)) == (8, 4)  # pyright: ignore[reportArgumentType]
        assert (splits.classes, splits.category_ids, splits.masks) == (("red", "blue"), (3, 7), masks)
        assert (splits.in_chans, splits.min_size, splits.max_size) == (3, 32, 40)


def test_the_choices_of_the_recipe_reach_the_data(dense_recipe, write_coco_data, tmp_path):
    root = write_coco_data(tmp_path / "coco")
    for old, new in (("train", "learn"), ("val", "measure")):
        (root / f"{old}.json").rename(root / f"{new}.json")
        (root / old).rename(root / new)
    document = json.loads((root / "learn.json").read_text())
    document["annotations"][0]["bbox"][2] = 0
    (root / "learn.json").write_text(json.dumps(document))
    recipe = dense_recipe("boxes", data_dir=root, train_split="learn", test_split="measure.json", in_chans=1)
    with pytest.raises(ValueError, match=r"annotation 1 .* has no area"):
        load_objects(recipe, masks=False)
    assert len(list(check_dense(recipe, masks=False))) == 1
    splits = load_objects(dataclasses.replace(recipe, skip_faulty=True), masks=False)
    assert splits.in_chans == 1
    assert [len(objects) for _, objects in splits.train][:2] == [1, 1]  # pyright: ignore[reportGeneralTypeIssues]


def test_labels_are_read_or_painted(dense_recipe, coco_data):
    recipe = dense_recipe("segment")
    read = load_labels(recipe)
    painted = load_labels(dataclasses.replace(recipe, data="coco", data_dir=coco_data))
    assert read.classes == painted.classes == ("background", "red", "blue")
    assert read.ignore_index == painted.ignore_index == 255
    for position, split in ((0, "train"), (7, "train"), (3, "test")):
        (image, labels), (other, others) = getattr(read, split)[position], getattr(painted, split)[position]
        assert image == other
        # Where two rectangles overlap, one order of painting is as good as another.
        assert (labels == others).mean() > 0.95
        assert (255 in labels) == (position == 7 or split == "test")


def test_the_meaning_of_label_values_is_the_recipes(dense_recipe, label_data, tmp_path):
    root = shutil.copytree(label_data, tmp_path / "labels")
    (root / "classes.txt").unlink()
    recipe = dense_recipe("segment", data_dir=root)
    assert load_labels(recipe).classes == ("0", "1", "2")
    assert load_labels(dataclasses.replace(recipe, ignore_index=None)).classes == ("0", "1", "2", "255")
    assert load_labels(dataclasses.replace(recipe, reduce_zero_label=True)).classes == ("1", "2")
    named = dataclasses.replace(recipe, class_names=("nothing", "warm", "cold"), in_chans=1)
    assert load_labels(named).classes == ("nothing", "warm", "cold")
    assert load_labels(named).in_chans == 1


def test_scenes_are_made_as_many_and_as_large_as_the_recipe_says(dense_recipe, fashion):
    splits = load_objects(scenes(dense_recipe("masks"), fashion), masks=True)
    assert (len(splits.train), len(splits.test)) == (4, 2)  # pyright: ignore[reportArgumentType]
    assert splits.min_size == 96
    labels = load_labels(scenes(dense_recipe("segment"), fashion))
    assert labels.classes[:2] == ("background", "T-shirt/top")
    assert list(check_dense(scenes(dense_recipe("masks"), fashion), masks=True)) == []


def test_what_is_wrong_with_the_source_of_scenes_is_a_line(dense_recipe, tmp_path):
    (fault,) = check_dense(scenes(dense_recipe("masks"), tmp_path), masks=True)
    assert str(tmp_path) in fault
    assert "\n" not in fault


@pytest.mark.parametrize("name", ["segment", "boxes"])
def test_a_source_without_a_folder_or_that_cannot_be_fetched_is_refused(dense_recipe, name):
    recipe = dense_recipe(name)
    load = load_labels if name == "segment" else lambda recipe: load_objects(recipe, masks=False)
    for call in (load, lambda recipe: list(check_dense(recipe, masks=False))):
        with pytest.raises(RunError, match=f"^{recipe.data} needs the folder .* --data-dir$"):
            call(dataclasses.replace(recipe, data_dir=None))
        with pytest.raises(RunError, match=f"^{recipe.data} cannot be downloaded: leave --download out"):
            call(dataclasses.replace(recipe, download=True))
