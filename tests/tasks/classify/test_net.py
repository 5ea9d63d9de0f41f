import dataclasses
from typing import Any

import pytest
import torch

from crosshead.tasks.classify.data import ClassifyMeta
from crosshead.tasks.classify.net import build_model, model_arguments, model_config
from crosshead.tasks.classify.recipe import ClassifyRecipe

GREY = ClassifyMeta(classes=tuple("abc"), in_chans=1, image_size=16, mean=(0.5,), std=(0.25,))
VIT = ClassifyRecipe(
    data="digits",
    model="vit_tiny_patch16_224",
    model_args={"patch_size": 4, "embed_dim": 16, "depth": 1, "num_heads": 2},
    epochs=1,
)
TINY = ClassifyRecipe(
    data="digits",
    model="ivit_nano",
    model_args={"depths": (1, 1, 1, 1), "dims": (8, 16, 16, 16), "head_dim": 8},
    epochs=1,
)


def test_the_image_size_reaches_models_that_depend_on_it():
    assert model_arguments(VIT, GREY) == {"img_size": 16, **VIT.model_args}
    assert build_model(VIT, GREY)(torch.randn(2, 1, 16, 16)).shape == (2, 3)
    assert "img_size" not in model_arguments(TINY, GREY)


def test_the_attention_of_a_vit_is_exchanged():
    model = build_model(dataclasses.replace(VIT, swap_landmarks=(2, 2)), GREY)
    assert model(torch.randn(2, 1, 16, 16)).shape == (2, 3)
    assert any("mixing" in name for name in model.state_dict())


def test_dropout_and_checkpointing_reach_the_model():
    model: Any = build_model(dataclasses.replace(VIT, dropout=0.25, grad_checkpointing=True), GREY)
    assert model.head_drop.p == 0.25
    assert model.grad_checkpointing is True


def test_the_config_says_what_the_net_expects_of_images():
    recipe = dataclasses.replace(VIT, crop_fraction=0.875)
    config = model_config(recipe, GREY, build_model(recipe, GREY))
    assert config["label_names"] == ["a", "b", "c"]
    wanted = {"input_size": [1, 16, 16], "mean": [0.5], "std": [0.25], "crop_pct": 0.875}
    assert {name: config["pretrained_cfg"][name] for name in wanted} == wanted


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "ivit_nanno"}, "ivit_nanno is unknown: did you mean ivit_nano"),
        ({"model": "zzzzzzzz"}, "zzzzzzzz is unknown: see `crosshead models`"),
        ({"model_args": {"wings": 2}}, "cannot be built.*wings"),
        ({"model_args": {"depths": (1, 2)}}, "cannot be built"),
        ({"swap_landmarks": (2, 2)}, "cannot be built.*VisionTransformer"),
    ],
)
def test_a_model_that_cannot_be_built_is_refused_in_one_line(changes, message):
    with pytest.raises(ValueError, match=rf"^[^\n]*{message}[^\n]*$"):
        build_model(dataclasses.replace(TINY, **changes), GREY)
