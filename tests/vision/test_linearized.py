"""A ViT with interactive attention as timm makes and loads it."""

import json
import logging
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file

import crosshead.vision  # noqa: F401  registers the model
from crosshead.vision import swap_attention

SMALL: Any = {"img_size": 32, "patch_size": 4, "embed_dim": 24, "depth": 3, "num_heads": 3}
CHOICES: Any = {"landmarks": (2, 3), "mixing": "weights", "mixing_group_size": 3, "keep": (-1,)}


def create(**options: Any) -> Any:
    torch.manual_seed(0)
    return timm.create_model("linearized_vit", architecture="vit_tiny_patch16_224", **{**SMALL, **options})


def test_is_the_architecture_after_a_swap():
    model = create(num_classes=4, local_kernel=5, **CHOICES).eval()
    torch.manual_seed(0)
    vit = timm.create_model("vit_tiny_patch16_224", num_classes=4, **SMALL).eval()
    swapped = swap_attention(vit, local_kernel=5, **CHOICES)
    swapped.load_state_dict(model.state_dict())
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(model(images), swapped(images))
    assert model(images).shape == (2, 4)


def test_has_a_local_term_unless_told_otherwise():
    assert create().blocks[0].attn.local is not None
    assert create(local_kernel=0).blocks[0].attn.local is None


def test_makes_no_warning(caplog):
    with caplog.at_level(logging.WARNING):
        create()
    assert not caplog.records


def test_its_folder_is_loaded_at_other_sizes_and_for_other_classes(tmp_path):
    model = create(num_classes=4, dynamic_img_size=True, **CHOICES).eval()
    arguments = {"architecture": "vit_tiny_patch16_224", "dynamic_img_size": True, **SMALL, **CHOICES}
    config = {"input_size": [3, 32, 32], "num_classes": 4, "mean": [0.1] * 3, "std": [0.2] * 3}
    config |= {"first_conv": "patch_embed.proj", "classifier": "head"}
    document = {"architecture": "linearized_vit", "num_classes": 4, "model_args": arguments}
    (tmp_path / "config.json").write_text(json.dumps({**document, "pretrained_cfg": config}))
    save_file(model.state_dict(), tmp_path / "model.safetensors")

    def load(**options: Any) -> Any:
        return timm.create_model(f"local-dir:{tmp_path}", pretrained=True, **options).eval()

    images = torch.randn(2, 3, 40, 24)
    assert torch.equal(load()(images), model(images))
    assert load(num_classes=7)(images).shape == (2, 7)
    assert load(img_size=48)(torch.randn(1, 3, 48, 48)).shape == (1, 4)
    assert [x.shape for x in load(features_only=True)(images)] == 3 * [(2, 24, 10, 6)]
    assert load().pretrained_cfg["mean"] == [0.1] * 3


def test_an_architecture_of_another_kind_is_refused():
    with pytest.raises(TypeError, match="must be a timm VisionTransformer"):
        timm.create_model("linearized_vit", architecture="resnet18")
