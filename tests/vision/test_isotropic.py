"""timm's plain ViT with another attention: grid, prefix tokens and free image sizes."""

from typing import Any

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from crosshead import InteractiveAttention
from crosshead.vision import IsotropicViT
from crosshead.vision.isotropic import bind_attention

SIZE = {"img_size": 32, "patch_size": 4, "embed_dim": 24, "depth": 2, "num_heads": 3, "num_classes": 5}


def build(**options) -> Any:
    torch.manual_seed(0)
    return IsotropicViT(**{**SIZE, **options}).eval()


def images(height: int = 32, width: int = 32, channels: int = 3) -> torch.Tensor:
    return torch.randn(2, channels, height, width, generator=torch.Generator().manual_seed(1))


class Recording(nn.Module):
    """Any attention of the call shape; notes what it is given."""

    def __init__(
        self, dim: int, num_heads: int, *, gain: float = 1.0, num_prefix_tokens: int = 0, **timm_options
    ):
        super().__init__()
        self.gain, self.num_prefix_tokens, self.timm_options = gain, num_prefix_tokens, timm_options
        self.grids: list = []

    def forward(self, x, *, grid):
        self.grids.append(grid)
        return self.gain * x


def test_attends_by_landmarks_in_every_block():
    layers = [m for m in build().modules() if isinstance(m, InteractiveAttention)]
    assert [(layer.landmarks, layer.num_heads, layer.num_prefix_tokens) for layer in layers] == [
        ((7, 7), 3, 1)
    ] * 2


def test_attention_is_called_with_the_grid_of_a_non_square_image():
    model = build(attention=Recording, attention_options={"gain": 2.0}, img_size=(32, 16), qkv_bias=False)
    assert model(images(32, 16)).shape == (2, 5)
    layers = [m for m in model.modules() if isinstance(m, Recording)]
    assert [layer.grids for layer in layers] == [[(8, 4)], [(8, 4)]]
    assert layers[0].gain == 2.0
    assert layers[0].timm_options["qkv_bias"] is False


@pytest.mark.parametrize(
    ("options", "prefix"),
    [
        ({}, 1),
        ({"reg_tokens": 4}, 5),
        ({"class_token": False, "reg_tokens": 2, "global_pool": "avg"}, 2),
        ({"class_token": False, "global_pool": "avg"}, 0),
    ],
)
def test_counts_prefix_tokens(options, prefix):
    model = build(attention=Recording, **options)
    assert model(images()).shape == (2, 5)
    assert model.blocks[0].attn.num_prefix_tokens == prefix
    assert build(**options)(images()).shape == (2, 5)


def test_free_image_sizes_bring_their_own_grid():
    model = build(attention=Recording, dynamic_img_size=True)
    for size in [(32, 32), (16, 48), (48, 16)]:
        model(images(*size))
    assert model.blocks[0].attn.grids == [(8, 8), (4, 12), (12, 4)]


def test_free_and_fixed_image_sizes_agree():
    assert_close(build(dynamic_img_size=True)(images()), build()(images()))


@pytest.mark.parametrize("patch_size", [2, 4])
def test_takes_patches_of_small_images(patch_size):
    model = build(img_size=28, patch_size=patch_size, in_chans=1)
    assert model(images(28, 28, channels=1)).shape == (2, 5)


def test_keeps_timms_contract():
    model, x = build(dynamic_img_size=True), images()
    maps = model.forward_intermediates(x, intermediates_only=True)
    assert [m.shape for m in maps] == [(2, 24, 8, 8)] * 2
    expected = model(x)
    model.set_grad_checkpointing(True)
    assert_close(model.train()(x), expected)
    model.reset_classifier(3)
    assert model(x).shape == (2, 3)


def test_every_parameter_gets_a_gradient():
    model = build(reg_tokens=1, qk_norm=True).train()
    model(images()).square().sum().backward()
    assert [n for n, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []


def test_mixing_matrices_are_not_decayed():
    model = build()
    mixing = {name for name, _ in model.named_parameters() if "_mixing." in name}
    assert len(mixing) == 8
    assert model.no_weight_decay() == mixing | {"pos_embed", "cls_token", "reg_token", "dist_token"}


def test_refuses_what_is_no_class():
    with pytest.raises(TypeError, match="attention must be a class"):
        bind_attention(InteractiveAttention(24, 3, landmarks=2))  # pyright: ignore[reportArgumentType]


def test_refuses_a_norm_that_it_does_not_have():
    with pytest.raises(NotImplementedError, match="scale_attn_norm must be False"):
        build(scale_attn_norm=True)
