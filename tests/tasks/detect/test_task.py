"""The three splits of a detection: val decides, test is touched by an evaluation alone."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from crosshead.tasks.detect.pictures import draw_objects
from crosshead.tasks.detect.recipe import DetectRecipe
from crosshead.tasks.detect.task import TASK
from crosshead.tasks.task import DataError


def recipe_of(root, **choices) -> DetectRecipe:
    """Without a validation set, unless it is asked for."""
    return DetectRecipe(
        **{"data": "folder", "data_dir": root, "model": "", "epochs": 1, "val": 0.0, **choices}
    )


def load(root, **choices) -> Any:
    return TASK.data(recipe_of(root, **choices))


def test_sizes_of_the_recipe_take_the_place_of_those_of_the_images(coco_data):
    usual = load(coco_data).meta
    assert (usual.min_size, usual.max_size) == (32, 40)
    larger = load(coco_data, min_size=64).meta
    assert (larger.min_size, larger.max_size) == (64, 64)
    both = load(coco_data, min_size=64, max_size=96).meta
    assert (both.min_size, both.max_size) == (64, 96)


def images_of(part) -> set[bytes]:
    return {image.tobytes() for image, _ in part}


@pytest.fixture
def lone_data(write_coco_data, tmp_path) -> Path:
    """A folder with a training split and val alone."""
    root = write_coco_data(tmp_path / "coco")
    (root / "test.json").unlink()
    shutil.rmtree(root / "test")
    return root


@pytest.mark.parametrize("fraction", [0.0, 0.25])
def test_a_folder_with_three_splits_has_nothing_carved(coco_data, fraction):
    data = load(coco_data, val=fraction)
    assert [len(part) for part in (data.train, data.val, data.test)] == [8, 4, 4]
    assert len(images_of(data.train) | images_of(data.val) | images_of(data.test)) == 16


def test_a_lone_held_out_split_is_the_test_and_val_comes_from_train(coco_data, lone_data):
    named, whole, data = load(coco_data), load(lone_data), load(lone_data, val=0.25)
    assert whole.val is None
    assert images_of(whole.test) == images_of(data.test) == images_of(named.val)
    assert images_of(data.train) | images_of(data.val) == images_of(whole.train) == images_of(named.train)
    assert not images_of(data.train) & images_of(data.val)
    assert data.meta == whole.meta
    assert images_of(load(lone_data, val=0.25).val) == images_of(data.val)
    seeds = {frozenset(images_of(load(lone_data, val=0.25, seed=seed).val)) for seed in range(8)}
    assert len(seeds) > 1


def test_splits_may_be_named(coco_data):
    usual, swapped = load(coco_data), load(coco_data, val_split="test.json", test_split="val")
    assert images_of(swapped.val) == images_of(usual.test)
    assert images_of(swapped.test) == images_of(usual.val)
    carved = load(coco_data, test_split="val", val=0.25)
    assert len(carved.train) + len(carved.val) == 8
    assert images_of(carved.test) == images_of(usual.val)


def test_val_has_its_share_of_the_rarest_classes_and_of_empty_images(write_coco, coco_document):
    # Twenty images of cats, of which four have a dog as well, and four images without objects.
    cats = [{"image_id": number} for number in range(1, 21)]
    dogs = [{"image_id": number, "category_id": 7} for number in range(1, 5)]
    root = write_coco(coco_document(*cats, *dogs, images=24))
    for seed in range(4):
        data = load(root, val=0.25, seed=seed)
        kinds = [frozenset(objects.labels.tolist()) for _, objects in data.val]
        assert sorted(map(sorted, kinds)) == [[], [1], [1], [1], [1], [1, 2]]


def test_val_is_drawn_at_random_where_a_class_has_a_single_image(write_coco, coco_document):
    root = write_coco(coco_document({"category_id": 7}, images=8))
    data = load(root, val=0.25)
    assert (len(data.train), len(data.val)) == (6, 2)


def test_too_few_images_to_carve_from_are_refused(write_coco, coco_document):
    with pytest.raises(DataError, match=r"1 training samples are too few .* --val 0"):
        load(write_coco(coco_document()), val=0.1)


@pytest.mark.parametrize("name", ["boxes", "masks"])
def test_an_example_has_its_objects_drawn_as_results_are(dense_recipe, name):
    data: Any = TASK.data(dense_recipe(name))
    image, objects = data.val[0]
    example: Any = TASK.example(data.meta, (image, objects), name="val image")
    assert example.input.content == image
    masks = objects.masks if name == "masks" else None
    drawn = draw_objects(
        image, boxes=objects.boxes, labels=objects.labels, classes=data.meta.classes, masks=masks
    )
    assert example.truth.crop((0, 0, *drawn.size)) == drawn
    # Both classes occur, and their names stand below.
    assert example.truth.height > drawn.height


def test_no_training_reads_a_test_image(write_coco_data, tmp_path):
    recipe = recipe_of(write_coco_data(tmp_path / "coco"), batch_size=2)
    data = TASK.data(recipe)
    for path in (tmp_path / "coco" / "test").iterdir():
        path.unlink()
    loaders: Any = TASK.loaders(recipe, data, data.meta)
    for items in (loaders.training_items()(0), loaders.val):
        for position in range(len(items)):
            items[position]
    with pytest.raises(DataError, match=r"test/1\.png"):
        loaders.test[0]
