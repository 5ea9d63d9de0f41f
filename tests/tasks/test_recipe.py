import dataclasses
import subprocess
import sys

import pytest

from crosshead.tasks.change.recipe import ChangeRecipe
from crosshead.tasks.classify.recipe import ClassifyRecipe
from crosshead.tasks.detect.recipe import DetectRecipe
from crosshead.tasks.segment.recipe import SegmentRecipe

GOOD = ClassifyRecipe(data="digits", model="ivit_nano", epochs=3)
SEGMENT = SegmentRecipe(data="folder", model="ivit_nano", epochs=3, crop=32)
DETECT = DetectRecipe(data="folder", model="ivit_nano", epochs=3)
CHANGE = ChangeRecipe(data="folder", model="ivit_nano", epochs=3)


def test_a_recipe_cannot_be_changed_afterwards():
    with pytest.raises(dataclasses.FrozenInstanceError):
        GOOD.epochs = 4  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 0}, "epochs is 0: give 1 or more"),
        ({"batch_size": -1}, "batch_size is -1"),
        ({"image_size": 0}, "image_size is 0"),
        ({"drop_path": 1.5}, "drop_path is 1.5: give a number between 0 and 1"),
        ({"lr": -1.0}, "lr is -1.0: give 0 or more"),
        ({"lr": float("nan")}, "lr is nan: give 0 or more"),
        ({"weight_decay": float("inf")}, "weight_decay is inf"),
        ({"workers": 1000}, "workers is 1000: give 256 or less"),
        ({"val": -0.1}, "val is -0.1: give a number between 0 and 1"),
        ({"val": 1}, "val must leave something to train on; got 1"),
        ({"warmup_epochs": -1}, "warmup_epochs is -1: give 0 or more"),
        ({"rand_augment": "strong"}, "rand_augment is strong: give a policy such as rand-m9"),
        ({"mixup": 0.2, "batch_size": 5}, "batch_size is 5: mixup and cutmix pair images"),
        ({"ema": 0.99, "strategy": "fsdp"}, "ema=0.99 with strategy=fsdp.*--ema 0"),
        ({"val_every": 0}, "val_every is 0: give 1 or more"),
    ],
)
def test_what_cannot_work_is_refused_by_name_value_and_remedy(changes, message):
    GOOD.check()
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(GOOD, **changes).check()


def test_recipes_are_read_without_torch():
    code = (
        "import sys, crosshead.recipes; sys.exit(bool({'torch', 'lightning', 'timm'} & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("recipe", "changes", "message"),
    [
        (SEGMENT, {"crop": 0}, "crop is 0: give 1 or more"),
        (SEGMENT, {"decoder_dim": 0}, "decoder_dim is 0"),
        (SEGMENT, {"scene_size": 0}, "scene_size is 0"),
        (SEGMENT, {"flip": 1.5}, "flip is 1.5: give a number between 0 and 1"),
        (SEGMENT, {"vertical_flip": -0.5}, "vertical_flip is -0.5"),
        (SEGMENT, {"dice": -1.0}, "dice is -1.0: give 0 or more"),
        (SEGMENT, {"color_jitter": -1.0}, "color_jitter is -1.0"),
        (
            SEGMENT,
            {"scale": (2.0, 0.5)},
            "scale is 2.0, 0.5: give two numbers above 0, the smaller one first",
        ),
        (SEGMENT, {"scale": (0.0, 0.5)}, "scale is 0.0, 0.5"),
        (DETECT, {"pyramid_dim": 0}, "pyramid_dim is 0"),
        (DETECT, {"min_size": 0}, "min_size is 0"),
        (DETECT, {"max_size": -1}, "max_size is -1"),
        (DETECT, {"rois": 0}, "rois is 0"),
        (DETECT, {"max_detections": 0}, "max_detections is 0"),
        (DETECT, {"crop": 0}, "crop is 0"),
        (DETECT, {"scene_size": 0}, "scene_size is 0"),
        (DETECT, {"flip": 2.0}, "flip is 2.0"),
        (DETECT, {"vertical_flip": 2.0}, "vertical_flip is 2.0"),
        (DETECT, {"color_jitter": -1.0}, "color_jitter is -1.0"),
        (DETECT, {"scale": (1.0, 0.5)}, "scale is 1.0, 0.5"),
        (DETECT, {"anchor_sizes": (8, 16)}, "anchor_sizes is .8, 16.: give five, one for each level"),
        (DETECT, {"epochs": 0}, "epochs is 0"),
        (CHANGE, {"block": 0}, "block is 0"),
        (CHANGE, {"dim": 0}, "dim is 0"),
        (CHANGE, {"detail_dim": 0}, "detail_dim is 0"),
        (CHANGE, {"crop": 0}, "crop is 0"),
        (CHANGE, {"crops": 0}, "crops is 0"),
        (CHANGE, {"tile": 0}, "tile is 0"),
        (CHANGE, {"dropout": 1.5}, "dropout is 1.5"),
        (CHANGE, {"guard": -1}, "guard is -1"),
        (CHANGE, {"folds": 1}, "folds is 1: give 2 or more"),
        (CHANGE, {"fold": 4}, "fold is 4: give 0 to 3, one of the 4 folds"),
        (CHANGE, {"fold": -1}, "fold is -1"),
        (CHANGE, {"class_names": ("changed",)}, "class_names is .*: give 2 to 255"),
        (CHANGE, {"lr": -1.0}, "lr is -1.0"),
    ],
)
def test_what_cannot_work_is_refused_by_every_task(recipe, changes, message):
    recipe.check()
    with pytest.raises(ValueError, match=f"^{message}"):
        dataclasses.replace(recipe, **changes).check()


def test_tests_may_be_any_number_of_epochs_apart():
    for recipe in (GOOD, SEGMENT, DETECT, CHANGE):
        for epochs in (1, 3, 5):
            dataclasses.replace(recipe, epochs=epochs, val_every=3).check()


def test_only_mask_rcnn_needs_masks():
    kinds = ("faster-rcnn", "retinanet", "mask-rcnn")
    assert [dataclasses.replace(DETECT, detector=kind).masks for kind in kinds] == [False, False, True]
