"""The model of a trial: one backbone in which only the attention differs, and parameters that match.

Legend: `B` batch, `N` tokens, `C` channels, `K` classes.
"""

from typing import Any

import timm
import torch
from timm.layers import Mlp, build_sincos2d_pos_embed
from torch import Tensor, nn

import crosshead.vision  # noqa: F401  registers iViT with timm
from crosshead.attention.module import InteractiveAttention
from crosshead.bench.options import INPUT_SEED
from crosshead.rivals.registry import MECHANISMS, attention_class
from crosshead.runs.model import count_parameters
from crosshead.study.trial import Data, Shape, attention_options
from crosshead.study.variants import VARIANTS
from crosshead.vision.isotropic import IsotropicViT

REFERENCE = "softmax"
# Models whose parameters differ by more than this fraction of those of softmax attention get MLPs of another
# width; a smaller difference is that of the mechanism.
TOLERANCE = 0.01
PADDING = 0


class UnknownAttention(ValueError):
    """No mechanism has that name."""


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
        in_chans: channels of the images, or symbols of the sequences.

    Raises:
        UnknownAttention: if there is no such mechanism.
        ValueError: if no width of the MLPs can match the parameters.

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
        UnknownAttention: if the name is neither ours nor a rival's.
        NotImplementedError: if a rival cannot take sequences.
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


class SequenceClassifier(nn.Module):
    """Embedding, blocks of attention and MLP, the mean over the tokens that are there, and a linear layer.

    Args:
        attention: the class of the attention, called as `attention(x, grid=grid, key_mask=mask)`.
        attention_options: what to build it with besides channels and heads.
        grid: what to call the tokens in the attention's own terms: `(N,)` or `(1, N)`.
        dim: channels `C`.
        depth: blocks.
        num_heads: heads.
        hidden: hidden channels of the MLPs.
        vocabulary: symbols, the first of them padding.
        num_classes: classes `K`.

    Example:
        >>> from crosshead import InteractiveAttention
        >>> model = SequenceClassifier(
        ...     InteractiveAttention, {"landmarks": (4,)}, grid=(9,), dim=16, depth=1, num_heads=4, hidden=32,
        ...     vocabulary=16, num_classes=10,
        ... )
        >>> model(torch.tensor([[3, 7, 15, 0, 0, 0, 0, 0, 0]])).shape
        torch.Size([1, 10])
    """

    def __init__(
        self,
        attention: type[nn.Module],
        attention_options: dict[str, Any],
        *,
        grid: tuple[int, ...],
        dim: int,
        depth: int,
        num_heads: int,
        hidden: int,
        vocabulary: int,
        num_classes: int,
    ) -> None:
        super().__init__()
        self.grid = grid
        self.embedding = nn.Embedding(vocabulary, dim, padding_idx=PADDING)
        nn.init.normal_(self.embedding.weight)
        self.register_buffer("positions", sinusoids(grid[-1], dim), persistent=False)
        self.blocks = nn.ModuleList(
            SequenceBlock(attention(dim, num_heads, **attention_options), dim, hidden) for _ in range(depth)
        )
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, num_classes)

    def forward(self, tokens: Tensor) -> Tensor:
        """Integers `(B, N)`, 0 behind the end of a sequence, to logits `(B, K)`."""
        mask = tokens != PADDING
        x = self.embedding(tokens) + self.positions
        for block in self.blocks:
            x = block(x, self.grid, mask)
        x = self.norm(x).masked_fill(~mask[..., None], 0)
        return self.head(x.sum(1) / mask.sum(1, keepdim=True).clamp(min=1))


class SequenceBlock(nn.Module):
    """A pre-norm block: attention, then an MLP.

    Args:
        attention: the attention.
        dim: channels `C`.
        hidden: hidden channels of the MLP.
    """

    def __init__(self, attention: nn.Module, dim: int, hidden: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attention = attention
        self.mlp = Mlp(dim, hidden)

    def forward(self, x: Tensor, grid: tuple[int, ...], mask: Tensor) -> Tensor:
        """`(B, N, C)` to `(B, N, C)`."""
        x = x + self.attention(self.norm1(x), grid=grid, key_mask=mask)
        return x + self.mlp(self.norm2(x))


def sinusoids(length: int, dim: int) -> Tensor:
    """Positions `(length, dim)` as sines and cosines of falling frequency.

    Source: A. Vaswani et al., arXiv 1706.03762, section 3.5.

    Example:
        >>> sinusoids(3, 4)[0]
        tensor([0., 0., 1., 1.])
    """
    rates = 10_000.0 ** (-torch.arange(0, dim, 2) / dim)
    angles = torch.arange(length)[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], 1)
