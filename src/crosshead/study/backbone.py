"""The model of a trial: one backbone in which only the attention differs, and parameters that match."""

from typing import Any

import timm
import torch
from timm.layers import build_sincos2d_pos_embed
from torch import Tensor, nn

import crosshead.vision  # noqa: F401  registers iViT with timm
from crosshead.attention.module import InteractiveAttention
from crosshead.bench.operands import INPUT_SEED
from crosshead.rivals.registry import MECHANISMS, attention_class
from crosshead.runs.model import count_parameters
from crosshead.study.sequence import SequenceClassifier
from crosshead.study.trial import Data, Shape, attention_options
from crosshead.study.variants import VARIANTS
from crosshead.vision.isotropic import IsotropicViT

REFERENCE = "softmax"
# Models whose parameters differ by more than this share of those of softmax attention get MLPs of another
# width; a difference below it is that of the mechanism.
TOLERANCE = 0.01


class UnknownAttention(ValueError):
    """There is no mechanism of that name."""


def build_model(data: Data, attention: str, shape: Shape, *, num_classes: int, in_chans: int) -> nn.Module:
    """A model around a mechanism, with as many parameters as the same model around softmax attention.

    The hidden width of its MLPs makes up for what the mechanism has more or less. Images get a ViT whose
    positions start as sines and cosines and are learned; there is no class token, and the mean of all
    tokens is classified. Sequences get a `SequenceClassifier`. The mechanism `ivit` stands for a small iViT
    of four stages, with parameters of its own; its options are those of `IViT`.

    Args:
        data: what it will learn.
        attention: a mechanism with its options.
        shape: sizes.
        num_classes: classes `K`.
        in_chans: bands of the images, or symbols of the sequences.

    Raises:
        UnknownAttention: there is no such mechanism.
        ValueError: parameters that no width of the MLPs can match.

    Example:
        >>> shape = Shape(image_size=8, patch_size=2, dim=16, depth=1, heads=4, mlp_ratio=2, landmarks=2)
        >>> model = build_model("digits", "interactive", shape, num_classes=10, in_chans=1)
        >>> model(torch.zeros(2, 1, 8, 8)).shape
        torch.Size([2, 10])
    """
    sizes = {"num_classes": num_classes, "in_chans": in_chans}
    name, options = attention_options(attention)
    if name == "ivit":
        return _ivit(shape, options, **sizes)
    hidden = round(shape.dim * shape.mlp_ratio)
    if attention == REFERENCE:
        return _build(data, attention, shape, hidden, **sizes)
    with torch.random.fork_rng(devices=[]):
        wanted = count_parameters(_build(data, REFERENCE, shape, hidden, **sizes))
        surplus = count_parameters(_build(data, attention, shape, hidden, **sizes)) - wanted
    if abs(surplus) > TOLERANCE * wanted:
        hidden -= round(surplus / (shape.depth * (2 * shape.dim + 1)))
    if hidden < 1:
        raise ValueError(
            f"attention {attention} has {surplus:,} parameters more than {REFERENCE}, and the MLPs have "
            f"fewer to give: choose fewer landmarks than {shape.landmarks} or more channels than {shape.dim}"
        )
    return _build(data, attention, shape, hidden, **sizes)


def random_input(data: Data, shape: Shape, *, batch: int, in_chans: int, device: str) -> Tensor:
    """Samples without meaning, of the right shape: images, or whole sequences of symbols."""
    generator = torch.Generator().manual_seed(INPUT_SEED)
    if data == "list-ops":
        return torch.randint(1, in_chans, (batch, shape.image_size), generator=generator).to(device)
    side = shape.image_size
    return torch.randn(batch, in_chans, side, side, generator=generator).to(device)


def attention_layer(data: Data, attention: str, shape: Shape) -> tuple[type[nn.Module], dict[str, Any]]:
    """The class of a mechanism, and what to build it with besides what blocks say.

    Raises:
        UnknownAttention: a name that is neither ours nor a rival's.
        NotImplementedError: sequences, and a rival that cannot take them.
    """
    name, options = attention_options(attention)
    sequence = data == "list-ops"
    if name == "interactive" or name in VARIANTS:
        landmarks = (shape.landmarks,) if sequence else (shape.landmarks, shape.landmarks)
        return VARIANTS.get(name, InteractiveAttention), {"landmarks": landmarks, **options}
    if name not in MECHANISMS:
        known = ", ".join(["interactive", *VARIANTS, *MECHANISMS])
        raise UnknownAttention(f"attention {name} is unknown: it is one of {known}")
    grid, landmarks = (shape.side, shape.side), (shape.landmarks, shape.landmarks)
    if sequence:
        can = MECHANISMS[name].mechanism.capabilities
        if not (can.key_mask and can.any_grid):
            raise NotImplementedError(
                f"attention {name} takes no padded sequences: choose one that takes a key mask and any grid"
            )
        grid, landmarks = (1, shape.side), (1, shape.landmarks)
    return attention_class(name), {"grid": grid, "landmarks": landmarks, **options}


def _build(
    data: Data, attention: str, shape: Shape, hidden: int, *, num_classes: int, in_chans: int
) -> nn.Module:
    layer, options = attention_layer(data, attention, shape)
    if data == "list-ops":
        return SequenceClassifier(
            layer,
            options,
            grid=options.get("grid", (shape.side,)),
            dim=shape.dim,
            depth=shape.depth,
            num_heads=shape.heads,
            hidden=hidden,
            vocabulary=in_chans,
            num_classes=num_classes,
        )
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
    assert model.pos_embed is not None
    model.pos_embed.data.copy_(positions.reshape_as(model.pos_embed))
    return model


def _ivit(shape: Shape, options: dict[str, Any], *, num_classes: int, in_chans: int) -> nn.Module:
    landmarks = shape.landmarks
    sizes = {
        "stem_stride": shape.patch_size,
        "dims": (shape.dim // 2, shape.dim, 2 * shape.dim, 3 * shape.dim),
        "depths": (1, 2, 2, 1),
        "landmarks": (landmarks, landmarks, max(1, landmarks // 2), max(1, landmarks // 4)),
        "head_dim": shape.dim // shape.heads,
        "kernel_size": 3,
        "mlp_ratio": shape.mlp_ratio,
    }
    return timm.create_model("ivit_nano", num_classes=num_classes, in_chans=in_chans, **{**sizes, **options})
