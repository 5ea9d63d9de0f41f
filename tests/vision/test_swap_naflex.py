"""timm's NaFlexVit with interactive attention: images of any size, but of one grid in a batch."""

import copy
from typing import Any

import pytest
import timm
import torch
from timm.models.naflexvit import NaFlexVit, NaFlexVitCfg
from timm.models.vision_transformer import VisionTransformer
from torch.testing import assert_close

from crosshead.vision import swap_attention
from crosshead.vision.on_grid import Carried


def naflex(**options) -> Any:
    torch.manual_seed(0)
    sizes: Any = {"patch_size": 4, "embed_dim": 24, "depth": 2, "num_heads": 3, "pos_embed_grid_size": (8, 8)}
    cfg = NaFlexVitCfg(**sizes, **options)
    model: Any = NaFlexVit(cfg, num_classes=5).eval()
    for name, parameter in model.named_parameters():
        parameter.data *= 20 if name.endswith("qkv.weight") else 1
    return model


def images(height: int = 32, width: int = 32) -> torch.Tensor:
    return torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(1))


def test_takes_images_of_any_size():
    model = naflex()
    before, output = copy.deepcopy(model.state_dict()), model(images())
    swap_attention(model, landmarks=3)
    after = model.state_dict()
    assert set(before) < set(after)
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert (model(images()) - output).abs().max() > 1e-4
    for size in [(32, 32), (20, 36), (44, 8)]:
        x = images(*size)
        assert model(x).shape == (2, 5)
        assert_close(model(x)[:1], model(x[:1]))
        features, maps = model.forward_intermediates(x)
        assert_close(features, model.forward_features(x))
        assert maps[-1].shape == (2, 24, size[0] // 4, size[1] // 4)


def test_computes_what_a_vit_of_these_weights_computes():
    size: Any = {"img_size": 32, "patch_size": 4, "embed_dim": 24, "depth": 2, "num_heads": 3}
    vit: Any = VisionTransformer(**size).eval()
    tokens = torch.randn(2, 65, 24, generator=torch.Generator().manual_seed(0))
    model = naflex(class_token=True)
    vit.blocks.load_state_dict(model.blocks.state_dict())
    for net in (vit, model):
        swap_attention(net, landmarks=3)
    expected = vit.blocks(tokens)
    for block in model.blocks:
        tokens = block(tokens, attn_mask=Carried((8, 8)))
    assert_close(tokens, expected)


def test_checkpointing_changes_no_gradient():
    model = swap_attention(naflex(), landmarks=3).train()
    found = []
    for enable in (False, True):
        model.set_grad_checkpointing(enable)
        model(images(20, 36)).square().sum().backward()
        found.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
        model.zero_grad(set_to_none=True)
    assert found[0].keys() == found[1].keys()
    for name, gradient in found[0].items():
        assert_close(found[1][name], gradient, msg=name)


def test_refuses_patches_behind_a_mask():
    model: Any = swap_attention(naflex(), landmarks=3)
    patches = torch.zeros(2, 6, 48)
    coordinates, valid = torch.zeros(2, 6, 2, dtype=torch.long), torch.ones(2, 6, dtype=torch.bool)
    batch = {"patches": patches, "patch_coord": coordinates, "patch_valid": valid}
    calls: list[Any] = [
        lambda: model(batch),
        lambda: model(patches, patch_coord=coordinates, patch_valid=valid),
        lambda: model.forward_features(**batch),
        lambda: model.forward_intermediates(batch),
        lambda: model(patches),
    ]
    for call in calls:
        with pytest.raises(
            NotImplementedError, match=r"images must be one tensor .* batch images of one size"
        ):
            call()
    with pytest.raises(NotImplementedError, match="attn_mask must be None"):
        model(images(), attn_mask=torch.ones(65, 65))


def test_swaps_models_of_the_registry():
    model: Any = timm.create_model(
        "naflexvit_base_patch16_gap", depth=1, embed_dim=48, num_heads=4, num_classes=3
    )
    assert swap_attention(model.eval(), landmarks=4)(images(96, 64)).shape == (2, 3)


def test_refuses_rotary_positions():
    model = naflex(rope_type="axial")
    with pytest.raises(NotImplementedError, match="rotates queries and keys by their positions"):
        swap_attention(model)
