"""What a linearization may be asked to do."""

import pytest

from crosshead.tasks.linearize.recipe import LinearizeRecipe


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"lr": 0.0}, "lr is 0"),
        ({"pretrained": False}, "nothing to teach"),
        ({"epochs": -1}, "epochs is -1: give 0 or more"),
        ({"epochs": 0, "attention_epochs": 0, "blockwise": False}, "a student has to learn"),
        ({"attention_epochs": -1}, "attention_epochs is -1"),
        ({"block_lr": -1.0}, "block_lr is -1.0"),
        ({"ema": 0.9}, "lags behind"),
        ({"kept_crops": 0}, "kept_crops is 0"),
        ({"landmarks": (7, 7, 7)}, "one number or two"),
        ({"landmarks": (0,)}, "above 0"),
        ({"test_sizes": (0,)}, "test_sizes"),
        ({"test": 1}, "something to train on"),
        ({"test": 2}, "between 0 and 1"),
        ({"drop_path": 0.1}, "not matched by chance"),
        ({"feature_lr": -1.0}, "feature_lr is -1.0"),
        ({"mixing_group_size": 0}, "mixing_group_size is 0"),
        ({"image_size": (0,)}, "image_size is"),
        ({"crop_scale": (0.5, 0.1)}, "the smaller one first"),
        ({"devices": 2}, "ddp_find_unused_parameters_true"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_loaded(change, words):
    with pytest.raises(ValueError, match=words):
        LinearizeRecipe(**{"model": "vit_tiny_patch16_224", "epochs": 3, **change}).check()


def test_several_devices_are_fine_where_every_weight_has_a_gradient():
    LinearizeRecipe(
        model="vit_tiny_patch16_224", epochs=3, attention_epochs=0, blockwise=False, devices=2
    ).check()
    LinearizeRecipe(
        model="vit_tiny_patch16_224",
        epochs=3,
        devices=2,
        strategy="ddp_find_unused_parameters_true",
    ).check()
