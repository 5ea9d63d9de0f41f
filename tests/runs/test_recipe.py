import dataclasses
import subprocess
import sys

import pytest

from crosshead.runs.classify.recipe import ClassifyRecipe

GOOD = ClassifyRecipe(data="digits", model="ivit_nano", epochs=3)


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
        ({"warmup_epochs": -1}, "warmup_epochs is -1: give 0 or more"),
        ({"rand_augment": "strong"}, "rand_augment is strong: give a policy such as rand-m9"),
        ({"mixup": 0.2, "batch_size": 5}, "batch_size is 5: mixup and cutmix pair images"),
        ({"ema": 0.99, "strategy": "fsdp"}, "ema=0.99 with strategy=fsdp.*--ema 0"),
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
