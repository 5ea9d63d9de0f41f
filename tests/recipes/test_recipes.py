import dataclasses
import inspect
import resource
import subprocess
import sys
from typing import Any

import pytest
import timm
import torch

from crosshead.recipes import RECIPES
from crosshead.tasks.change.data import ChangeMeta
from crosshead.tasks.classify.data import ClassifyMeta
from crosshead.tasks.detect.data import DetectMeta
from crosshead.tasks.linearize.data import LinearizeMeta
from crosshead.tasks.segment.data import SegmentMeta
from crosshead.tasks.task import Meta, task_of

TASKS = {
    "classify": ("classify", "digits", "fashion-mnist", "cifar10", "imagenet1k"),
    "detect": ("detect", "instances", "bccd", "nuclei", "coco", "coco-3x"),
    "segment": ("segment", "nuclei-semantic", "fashion-scenes", "ade20k"),
    "change": ("change", "landsat"),
    "linearize": ("linearize",),
}
GREY = ("digits", "fashion-mnist", "fashion-scenes")


def meta_of(recipe: Any) -> Meta:
    """What data for a recipe might be like."""
    channels = 1 if recipe.data in GREY else 6 if recipe.task == "change" else 3
    look: dict[str, Any] = {
        "classes": ("a", "b", "c"),
        "in_chans": channels,
        "mean": (0.5,) * channels,
        "std": (0.25,) * channels,
    }
    if recipe.task == "classify":
        return ClassifyMeta(**look, image_size=32)
    if recipe.task == "segment":
        return SegmentMeta(**look, ignore_index=255)
    if recipe.task == "change":
        names = tuple(map(str, range(channels)))
        return ChangeMeta(**look, bands=names, after_mean=look["mean"], after_std=look["std"])
    sides: dict[str, Any] = {"min_size": recipe.min_size or 128, "max_size": recipe.max_size or 128}
    return DetectMeta(**look, category_ids=(1, 2, 3), masks=recipe.masks, **sides)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_says_what_to_expect_in_what_time_by_which_command(name):
    document = inspect.getdoc(RECIPES[name]) or ""
    assert "Expect: " in document
    assert "Time: " in document
    assert f"Command: crosshead train {name}" in document
    # What a command needs besides its name is in the command.
    assert ("--data-dir " in document) == (name != "digits")


def test_the_help_of_dense_recipes_answers_at_once_and_without_torch():
    code = """
import sys
from crosshead.cli.main import main
for name in ("nuclei", "ade20k", "change"):
    sys.argv = ["crosshead", "train", name, "--help"]
    try:
        main()
    except SystemExit as stop:
        assert stop.code == 0, name
loaded = {"torch", "lightning", "timm", "torchvision", "matplotlib", "numpy"} & sys.modules.keys()
assert not loaded, loaded
"""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert finished.returncode == 0, finished.stderr
    flags = (
        "--anchor-sizes",
        "--rois",
        "--decoder",
        "--reduce-zero-label",
        "--fold",
        "--val-every",
        "--check-data",
    )
    for flag in flags:
        assert flag in finished.stdout
    # Processor time of three helps together, since other processes may keep this one waiting.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 3


def test_each_recipe_is_of_the_task_that_its_name_promises():
    assert {name: recipe().task for name, recipe in RECIPES.items()} == {
        name: task for task, names in TASKS.items() for name in names
    }


def test_the_recipe_of_a_linearization_is_sound_and_builds_its_net():
    recipe: Any = RECIPES["linearize"]()
    recipe.check()
    free = {"dynamic_img_size": True, "num_classes": 0}
    meta = LinearizeMeta(
        classes=(),
        in_chans=3,
        mean=(0.5,) * 3,
        std=(0.25,) * 3,
        image_size=224,
        patch=(14, 14),
        crop_fraction=1.0,
        architecture=recipe.model.split(".")[0],
        arguments=free,
        labels=(),
    )
    with torch.device("meta"):
        net = task_of("linearize").build(dataclasses.replace(recipe, pretrained=False), meta)
    config = task_of("linearize").config(recipe, meta, net)
    assert config["architecture"] == "linearized_vit"
    assert config["model_args"]["architecture"] == "vit_small_patch14_dinov2"
    assert "label_names" not in config
    with torch.device("meta"):
        again: Any = timm.create_model("linearized_vit", num_classes=0, **config["model_args"])
    assert {name: tensor.shape for name, tensor in again.state_dict().items()} == {
        name: tensor.shape for name, tensor in net.state_dict().items()
    }


@pytest.mark.parametrize("name", [name for name in RECIPES if name != "linearize"])
def test_a_recipe_is_sound_and_builds_its_net(name):
    recipe: Any = RECIPES[name]()
    recipe.check()
    assert recipe.data_dir is None
    assert not recipe.download
    meta = meta_of(recipe)
    task = task_of(recipe.task)
    small = dataclasses.replace(recipe, drop_path=0.0)
    with torch.device("meta"):
        net = task.build(small, meta)
    config = task.config(small, meta, net)
    assert config["architecture"] == recipe.model
    assert config["label_names"] == ["a", "b", "c"]
    names = {name for name, _ in net.named_parameters()}
    heads = {
        "classify": "head.fc.weight",
        "segment": "net.segmentation_head.0.weight",
        "detect": "roi_heads.box_predictor.cls_score.weight",
        "change": "decoder.scores.weight",
    }
    assert heads[recipe.task] in names
    assert any("mask_head" in name for name in names) == (recipe.task == "detect" and recipe.masks)


def test_the_recipe_of_imagenet_is_at_the_scale_of_published_results():
    recipe: Any = RECIPES["imagenet1k"]()
    assert recipe.epochs == 300
    assert recipe.batch_size * recipe.devices * recipe.nodes * recipe.accumulate == 1024
    assert recipe.precision == "bf16-mixed"
    used = (recipe.mixup, recipe.cutmix, recipe.erasing, recipe.smoothing, recipe.drop_path, recipe.ema)
    assert all(value > 0 for value in used)
    assert recipe.rand_augment


def test_the_recipes_of_coco_are_the_published_schedules():
    once: Any = RECIPES["coco"]()
    thrice: Any = RECIPES["coco-3x"]()
    assert (once.epochs, thrice.epochs) == (12, 36)
    for recipe in (once, thrice):
        assert recipe.batch_size * recipe.devices * recipe.nodes * recipe.accumulate == 16
        assert (recipe.min_size, recipe.max_size) == (800, 1333)
        assert recipe.detector == "mask-rcnn"
        assert recipe.skip_faulty
    assert once.scale == (1.0, 1.0)
    assert thrice.scale[0] < 1 < thrice.scale[1]


def test_the_recipe_of_ade20k_makes_the_updates_that_it_says():
    recipe: Any = RECIPES["ade20k"]()
    batch = recipe.batch_size * recipe.devices * recipe.nodes * recipe.accumulate
    assert batch == 16
    # ADE20K has 20,210 training images.
    assert recipe.epochs * (20_210 // batch) == pytest.approx(160_000, rel=0.01)
    assert recipe.reduce_zero_label
    assert recipe.crop == 512
