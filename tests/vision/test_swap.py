"""Swapping the attention of an existing ViT: what stays, what changes, what is refused."""

import copy
import logging
from typing import Any

import pytest
import timm
import torch
import torchvision
from timm.layers import Attention, DiffAttention
from timm.models.vision_transformer import (
    Block,
    DiffParallelScalingBlock,
    ParallelScalingBlock,
    ParallelThingsBlock,
    VisionTransformer,
)
from torch import nn
from torch.testing import assert_close

from crosshead import InteractiveAttention
from crosshead.vision import IsotropicViT, swap_attention

SIZE: Any = {"img_size": 32, "patch_size": 4, "embed_dim": 24, "depth": 2, "num_heads": 3, "num_classes": 5}


def vit(**options) -> Any:
    torch.manual_seed(0)
    model: Any = VisionTransformer(**{**SIZE, **options}).eval()
    for name, parameter in model.named_parameters():
        if name.endswith("qkv.weight"):
            parameter.data *= 20  # fresh weights attend almost uniformly, which no attention would change
    return model


def images(height: int = 32, width: int = 32) -> torch.Tensor:
    return torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(1))


def layers(model: Any) -> list[Any]:
    return [module for module in model.modules() if isinstance(module, InteractiveAttention)]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"qk_norm": True, "qkv_bias": False, "proj_bias": False},
        {"class_token": False, "global_pool": "avg"},
        {"reg_tokens": 4, "dynamic_img_size": True},
        {"block_fn": ParallelThingsBlock},
    ],
    ids=["plain", "qk_norm", "pooled", "registers", "parallel"],
)
def test_weights_stay_and_the_function_changes(options):
    model, x = vit(**options), images()
    before, output = copy.deepcopy(model.state_dict()), model(x)
    kept = dict(model.named_parameters())
    assert swap_attention(model, landmarks=4) is model
    after = model.state_dict()
    assert set(before) < set(after)
    assert {name.rsplit(".", 2)[-2] for name in set(after) - set(before)} == {"query_mixing", "key_mixing"}
    for name, value in before.items():
        assert torch.equal(after[name], value), name
    assert all(kept[name] is p for name, p in model.named_parameters() if name in kept)
    assert not any(isinstance(module, Attention) for module in model.modules())
    assert (model(x) - output).abs().max() > 0.01


def test_computes_what_an_isotropic_vit_of_these_weights_computes():
    options: Any = {"reg_tokens": 2, "qk_norm": True, **SIZE}
    model = vit(**options)
    for name, parameter in model.named_parameters():
        if "_norm." in name:
            parameter.data.uniform_(0.5, 3)
    swap_attention(model, landmarks=(3, 5), mixing="weights")
    isotropic = IsotropicViT(attention_options={"landmarks": (3, 5), "mixing": "weights"}, **options)
    isotropic.load_state_dict(model.state_dict())
    assert_close(model(images()), isotropic.eval()(images()))


def test_one_landmark_per_token_and_uniform_keys_leave_the_function_as_it_was():
    """Where all keys are equal, softmax attention and every factored attention average the values."""
    model = vit(qkv_bias=False)
    for name, parameter in model.named_parameters():
        if name.endswith("qkv.weight"):
            parameter.data[24:48] = 0
    expected = model(images())
    assert_close(swap_attention(model, landmarks=8)(images()), expected)


def test_class_and_register_tokens_are_landmarks_of_their_own():
    assert {layer.num_prefix_tokens for layer in layers(swap_attention(vit(reg_tokens=4)))} == {5}
    assert {
        layer.num_prefix_tokens for layer in layers(swap_attention(vit(class_token=False, global_pool="avg")))
    } == {0}


def test_options_reach_every_layer():
    model = swap_attention(
        vit(), landmarks=(2, 3), mixing="logits", mixing_group_size=1, local_kernel=3, impl="reference"
    )
    assert len(layers(model)) == 2
    for layer in layers(model):
        assert (layer.landmarks, layer.mixing, layer.impl) == ((2, 3), "logits", "reference")
        assert layer.key_mixing.group_size == 1
        assert layer.local is not None


def test_mode_dtype_dropout_and_frozen_parameters_stay():
    model = vit(proj_drop_rate=0.3).double().train()
    model.blocks[0].eval()
    model.blocks[0].attn.qkv.requires_grad_(False)
    swap_attention(model)
    assert {p.dtype for p in model.parameters()} == {torch.float64}
    assert [layer.training for layer in layers(model)] == [False, True]
    assert [layer.proj_drop.p for layer in layers(model)] == [0.3, 0.3]
    assert not model.blocks[0].attn.qkv.weight.requires_grad
    assert model.blocks[0].attn.query_mixing.logits.requires_grad


def test_learns():
    model, x = swap_attention(vit()).train(), images()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(12):
        loss = nn.functional.cross_entropy(model(x), torch.tensor([1, 3]))
        optimizer.zero_grad()
        loss.backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 4
    assert all(layer.query_mixing.logits.any() for layer in layers(model))


def test_says_that_fine_tuning_is_needed(caplog):
    with caplog.at_level(logging.WARNING, logger="crosshead.vision.swap"):
        swap_attention(vit())
    assert "replaced 2 layers of VisionTransformer" in caplog.text
    assert "fine-tune" in caplog.text


def test_swaps_models_of_the_registry():
    model = timm.create_model("deit_tiny_distilled_patch16_224", depth=1, num_classes=3)
    swap_attention(model)
    assert [layer.num_prefix_tokens for layer in layers(model)] == [2]
    assert model.eval()(images(224, 224)).shape == (2, 3)


class Gated(Attention):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, gated=True, **kwargs)


class Wide(Attention):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, attn_head_dim=4, **kwargs)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"patch_drop_rate": 0.5}, NotImplementedError, "drops patches.*patch_drop_rate=0"),
        ({"attn_drop_rate": 0.1}, NotImplementedError, r"blocks.0.attn has attention dropout"),
        ({"scale_attn_norm": True}, NotImplementedError, "a norm on its output"),
        ({"attn_layer": Gated}, NotImplementedError, "a gate"),
        ({"attn_layer": Wide}, NotImplementedError, "heads of another total width"),
        ({"attn_layer": DiffAttention, "num_heads": 2}, NotImplementedError, "take attn_layer='attn'"),
        ({"block_fn": ParallelScalingBlock}, NotImplementedError, "take block_fn=Block or ParallelThings"),
        ({"block_fn": DiffParallelScalingBlock, "num_heads": 2}, NotImplementedError, "attn_layer='attn'"),
        ({"depth": 0}, ValueError, "must have layers of timm's Attention"),
    ],
)
def test_refuses_what_it_cannot_keep_and_changes_nothing(options, error, message):
    model = vit(**options)
    before = [type(module) for module in model.modules()]
    with pytest.raises(error, match=message):
        swap_attention(model)
    assert [type(module) for module in model.modules()] == before


@pytest.mark.parametrize(
    ("name", "options", "error", "message"),
    [
        ("eva02_tiny_patch14_224", {"depth": 1}, NotImplementedError, "eva.Eva, which rotates"),
        ("vit_small_patch16_dinov3", {"depth": 1}, NotImplementedError, "eva.Eva, which rotates"),
        (
            "vit_relpos_small_patch16_224",
            {"depth": 1},
            NotImplementedError,
            "RelPos, which adds relative pos",
        ),
        (
            "beit_base_patch16_224",
            {"depth": 1},
            NotImplementedError,
            "beit.Beit, which adds relative positions",
        ),
        ("samvit_base_patch16_224", {"depth": 1}, NotImplementedError, "SAM, which adds relative positions"),
        ("swin_tiny_patch4_window7_224", {}, NotImplementedError, "which adds relative positions"),
        (
            "cait_xxs24_224",
            {"depth": 1},
            NotImplementedError,
            "cait.Cait, which mixes heads on the N x N map",
        ),
        ("hiera_tiny_224", {}, NotImplementedError, "hiera.Hiera, which attends inside windows"),
        ("resnet18", {}, TypeError, "got timm.models.resnet.ResNet: take one of timm's ViTs"),
        (
            "vit_tiny_patch16_224",
            {"depth": 3, "features_only": True},
            TypeError,
            "which holds one: swap its part",
        ),
    ],
)
def test_refuses_other_families(name, options, error, message):
    with torch.device("meta"):
        model = timm.create_model(name, **options)
    with pytest.raises(error, match=message):
        swap_attention(model)


def test_tells_the_vit_of_torchvision_from_that_of_timm():
    with torch.device("meta"):
        model = torchvision.models.VisionTransformer(
            32, 4, num_layers=1, num_heads=2, hidden_dim=8, mlp_dim=8
        )
    with pytest.raises(TypeError, match=r"got torchvision.models.vision_transformer.*timm.create_model"):
        swap_attention(model)


class OwnFeatures(VisionTransformer):
    """A subclass as research code writes it, with a forward pass of its own."""

    def forward_features(self, x):  # pyright: ignore[reportIncompatibleMethodOverride]
        return self.norm(self.blocks(self._pos_embed(self.patch_embed(x))))


def test_swaps_subclasses_with_a_forward_pass_of_their_own():
    model = swap_attention(OwnFeatures(**SIZE))
    assert isinstance(model, OwnFeatures)
    x = model.norm(model.blocks(model._pos_embed(model.patch_embed(images()))))
    assert_close(model.forward_features(images()), x)


def test_refuses_them_where_the_grid_cannot_travel():
    with pytest.raises(NotImplementedError, match=r"forward_features of .*OwnFeatures must take attn_mask"):
        swap_attention(OwnFeatures(dynamic_img_size=True, **SIZE))


def test_refuses_to_swap_twice():
    with pytest.raises(ValueError, match="was replaced before"):
        swap_attention(swap_attention(vit()))


def test_refuses_bad_landmarks_before_it_changes_anything():
    model = vit()
    with pytest.raises(ValueError, match="landmarks"):
        swap_attention(model, landmarks=0)
    assert all(isinstance(block.attn, Attention) for block in model.blocks if isinstance(block, Block))


def test_hybrid_vits_of_free_size_take_multiples_of_their_patch():
    model = timm.create_model("vit_tiny_r_s16_p8_224", depth=1, num_classes=3, dynamic_img_size=True)
    model = swap_attention(model.eval(), landmarks=3)
    with torch.no_grad():
        assert model(images(96, 64)).shape == (2, 3)
    with pytest.raises(ValueError, match=r"multiples of 32 and 32 for the HybridEmbed.*got 100 x 64: resize"):
        model(images(100, 64))


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize(("keep", "kept"), [((), []), ((-1,), [2]), ((0, 2), [0, 2]), ((-3, 1, 0), [0, 1])])
def test_layers_may_keep_their_softmax_attention(dynamic, keep, kept):
    model = vit(depth=3, dynamic_img_size=dynamic)
    before = dict(model.named_parameters())
    swapped = swap_attention(model, landmarks=2, keep=keep)
    softmax = [
        place for place, block in enumerate(swapped.blocks.children()) if isinstance(block.attn, Attention)
    ]
    assert softmax == kept
    assert all(parameter is before[name] for name, parameter in swapped.named_parameters() if name in before)
    assert swapped(images(40, 24) if dynamic else images()).shape == (2, 5)


def test_a_kept_layer_computes_what_it_did_before():
    model = vit(dynamic_img_size=True, reg_tokens=2)
    layer: Any = copy.deepcopy(model.blocks[1].attn)
    x = torch.randn(2, 3 + 24, 24)
    kept: Any = swap_attention(model, keep=(-1,)).get_submodule("blocks.1.attn")
    assert torch.equal(kept(x), layer(x))
    assert torch.equal(kept(x, attn_mask=model.carried(16, 24)), layer(x))
    with pytest.raises(NotImplementedError, match="attn_mask must be None"):
        kept(x, attn_mask=torch.ones(27, 27))
    with pytest.raises(NotImplementedError, match="is_causal False"):
        kept(x, is_causal=True)


@pytest.mark.parametrize(
    ("keep", "words"),
    [
        ((2,), "from -2 to 1; got 2"),
        ((-3,), "from -2 to 1; got -3"),
        ((0, 1), "got all 2"),
        ((0, -1), "all 2"),
    ],
)
def test_layers_that_are_not_there_and_all_of_them_cannot_be_kept(keep, words):
    model = vit()
    with pytest.raises(ValueError, match=f"keep must .*{words}"):
        swap_attention(model, keep=keep)
    assert not layers(model)
