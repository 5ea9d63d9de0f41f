import inspect

import pytest
import timm

import crosshead.vision  # noqa: F401  registers the models
from crosshead.recipes import RECIPES
from crosshead.runs.classify.model import build_model
from crosshead.runs.facts import ImageFacts


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_says_what_to_expect_in_what_time_by_which_command(name):
    document = inspect.getdoc(RECIPES[name]) or ""
    assert "Expect: " in document
    assert "Time: " in document
    assert f"Command: crosshead train {name}" in document


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_sound_and_names_a_model_that_can_be_built(name):
    recipe = RECIPES[name]()
    recipe.check()
    assert recipe.data == name
    assert timm.is_model(recipe.model)
    grey = recipe.data in ("digits", "fashion-mnist")
    facts = ImageFacts(
        classes=tuple("abc"), in_chans=1 if grey else 3, image_size=32, mean=(0.5,), std=(0.5,)
    )
    assert build_model(recipe, facts).num_classes == 3


def test_the_recipe_of_imagenet_is_at_the_scale_of_published_results():
    recipe = RECIPES["imagenet1k"]()
    assert recipe.epochs == 300
    assert recipe.batch_size * recipe.devices * recipe.nodes * recipe.accumulate == 1024
    assert recipe.precision == "bf16-mixed"
    used = (recipe.mixup, recipe.cutmix, recipe.erasing, recipe.smoothing, recipe.drop_path, recipe.ema)
    assert all(value > 0 for value in used)
    assert recipe.rand_augment
