"""The model of a trial: one backbone in which only the attention differs, and parameters that match."""

from typing import Any

import torch
from timm.layers import build_sincos2d_pos_embed
from torch import nn

from crosshead.attention.module import InteractiveAttention
from crosshead.rivals.registry import MECHANISMS, attention_class
from crosshead.runs.model import count_parameters
from crosshead.study.trial import Shape, attention_options
from crosshead.study.variants import VARIANTS
from crosshead.vision.isotropic import IsotropicViT

# Models whose parameters differ by more than this share of those of softmax attention get MLPs of another
# width; a difference below it is that of the mechanism.
TOLERANCE = 0.01


def build_backbone(
    attention: str, shape: Shape, *, num_classes: int, in_chans: int, reference: str | None = "softmax"
) -> nn.Module:
    """A ViT around a mechanism, with as many parameters as the same ViT around `reference`.

    The hidden width of its MLPs makes up for parameters that the mechanism has more or less. Positions start
    as sines and cosines and are learned; there is no class token, and the mean of all tokens is classified.

    Args:
        attention: a mechanism with its options.
        shape: sizes.
        num_classes: classes `K`.
        in_chans: bands of the images.
        reference: whose parameters to match; None matches nothing.

    Raises:
        ValueError: an unknown mechanism, or parameters that no width of the MLPs can match.

    Example:
        >>> shape = Shape(image_size=8, patch_size=2, dim=16, depth=1, heads=4, mlp_ratio=2, landmarks=2)
        >>> build_backbone("interactive", shape, num_classes=10, in_chans=1)(torch.zeros(2, 1, 8, 8)).shape
        torch.Size([2, 10])
    """
    sizes = {"num_classes": num_classes, "in_chans": in_chans}
    hidden = round(shape.dim * shape.mlp_ratio)
    if reference is None or attention == reference:
        return _vit(attention, shape, hidden, **sizes)
    with torch.random.fork_rng(devices=[]):
        wanted = count_parameters(_vit(reference, shape, hidden, **sizes))
        surplus = count_parameters(_vit(attention, shape, hidden, **sizes)) - wanted
    if abs(surplus) > TOLERANCE * wanted:
        hidden -= round(surplus / (shape.depth * (2 * shape.dim + 1)))
    if hidden < 1:
        raise ValueError(
            f"attention {attention} has {surplus:,} parameters more than {reference}, which is more than the MLPs "
            f"of this model have: choose fewer landmarks than {shape.landmarks} or more channels than {shape.dim}"
        )
    return _vit(attention, shape, hidden, **sizes)


def _vit(attention: str, shape: Shape, hidden: int, *, num_classes: int, in_chans: int) -> IsotropicViT:
    layer, options = attention_layer(attention, shape)
    model = IsotropicViT(
        attention=layer,
        attention_options=options,
        class_token=False,
        global_pool="avg",
        img_size=shape.image_size,
        patch_size=shape.patch_size,
        in_chans=in_chans,
        num_classes=num_classes,
        embed_dim=shape.dim,
        depth=shape.depth,
        num_heads=shape.heads,
        # timm multiplies and cuts off; the half keeps rounding from losing a channel.
        mlp_ratio=(hidden + 0.5) / shape.dim,
        # timm's default, a standard deviation of 0.02, is made for many hundred channels: at 64 a model
        # spends a short training on growing out of it.
        weight_init="jax",
    )
    positions = build_sincos2d_pos_embed([shape.side, shape.side], dim=shape.dim)
    model.pos_embed.data.copy_(positions.reshape_as(model.pos_embed))
    return model


def attention_layer(attention: str, shape: Shape) -> tuple[type[nn.Module], dict[str, Any]]:
    """The class of a mechanism, and what to build it with besides what timm's blocks say.

    Raises:
        ValueError: a name that is neither ours nor a rival's.
    """
    name, options = attention_options(attention)
    landmarks = (shape.landmarks, shape.landmarks)
    if name == "interactive":
        return InteractiveAttention, {"landmarks": landmarks, **options}
    if name in VARIANTS:
        return VARIANTS[name], {"landmarks": landmarks, **options}
    if name not in MECHANISMS:
        raise ValueError(
            f"attention {name} is unknown: it is one of interactive, {', '.join([*VARIANTS, *MECHANISMS])}"
        )
    return attention_class(name), {"grid": (shape.side, shape.side), "landmarks": landmarks, **options}
