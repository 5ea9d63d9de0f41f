"""The model of a trial: one backbone in which only the attention differs, and parameters that match.

Legend: `B` batch, `N` tokens, `C` channels, `K` classes; of look-ups, `Q` queries, `T` tokens, `A + 1` words
of a token.
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
from crosshead.study.conjunctions import ATTRIBUTES, LOOK_UPS
from crosshead.study.trial import Data, Shape, attention_options
from crosshead.study.variants import VARIANTS
from crosshead.vision.isotropic import IsotropicViT

REFERENCE = "softmax"
# Models whose parameters differ by more than this fraction of those of softmax attention get MLPs of another
# width; a smaller difference is that of the mechanism.
TOLERANCE = 0.01


class UnknownAttention(ValueError):
    """No mechanism has that name."""


def build_model(data: Data, attention: str, shape: Shape, *, num_classes: int, in_chans: int) -> nn.Module:
    """A model around a mechanism, with as many parameters as the same model around softmax attention.

    The hidden width of its MLPs makes up for what the mechanism has more or less. Images get a ViT whose
    positions start as sines and cosines and are learned; there is no class token, and the mean of all
    tokens is classified. Look-ups get a `LookUpNet`. The mechanism `ivit` stands for a small iViT
    of four stages, with parameters of its own; its options are those of `IViT`.

    Args:
        data: what it will learn.
        attention: a mechanism with its options.
        shape: sizes.
        num_classes: classes `K`.
        in_chans: channels of the images, or words of the look-ups.

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
    """Samples without meaning, of the right shape: images, or words of look-ups."""
    generator = torch.Generator().manual_seed(INPUT_SEED)
    side = shape.image_size
    if data in LOOK_UPS:
        size = batch, LOOK_UPS[data].queries + side, ATTRIBUTES + 1
        return torch.randint(in_chans, size, generator=generator).to(device)
    return torch.randn(batch, in_chans, side, side, generator=generator).to(device)


def attention_layer(data: Data, attention: str, shape: Shape) -> tuple[type[nn.Module], dict[str, Any]]:
    """The class of a mechanism, and what to build it with besides what blocks say.

    Raises:
        UnknownAttention: if the name is neither ours nor a rival's.
    """
    name, options = attention_options(attention)
    queries = LOOK_UPS[data].queries if data in LOOK_UPS else 0
    if name == "interactive" or name in VARIANTS:
        own = (
            {"landmarks": (shape.landmarks,), "num_prefix_tokens": queries}
            if queries
            else {"landmarks": (shape.landmarks, shape.landmarks)}
        )
        return VARIANTS.get(name, InteractiveAttention), {**own, **options}
    if name not in MECHANISMS:
        known = ", ".join(["interactive", *VARIANTS, *MECHANISMS])
        raise UnknownAttention(f"attention {name} is unknown: it is one of {known}")
    grid, landmarks = (shape.side, shape.side), (shape.landmarks, shape.landmarks)
    if queries:
        grid, landmarks = (1, queries + shape.side), (1, shape.landmarks)
    return attention_class(name), {"grid": grid, "landmarks": landmarks, **options}


def _build(
    data: Data, attention: str, shape: Shape, hidden: int, *, num_classes: int, in_chans: int
) -> nn.Module:
    layer, options = attention_layer(data, attention, shape)
    if data in LOOK_UPS:
        return LookUpNet(
            layer(shape.dim, shape.heads, **options),
            grid=options.get("grid", (shape.side,)),
            queries=LOOK_UPS[data].queries,
            dim=shape.dim,
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


class LookUpNet(nn.Module):
    """Answers look-ups: a token is the sum of its words, one block attends, a linear layer reads the queries.

    Tokens have no positions: what an item is decides, not where it lies.

    Args:
        attention: the attention over queries and items, `(B, T, C)`.
        grid: what it is told of the tokens.
        queries: `Q`.
        dim: channels `C`.
        hidden: hidden channels of the MLP.
        vocabulary: words.
        num_classes: payloads `K`.

    Example:
        >>> from crosshead import InteractiveAttention
        >>> attention = InteractiveAttention(16, 4, landmarks=(4,), num_prefix_tokens=1)
        >>> net = LookUpNet(
        ...     attention, grid=(24,), queries=1, dim=16, hidden=32, vocabulary=85, num_classes=16
        ... )
        >>> net(torch.zeros(2, 25, 5, dtype=torch.long)).shape
        torch.Size([2, 16, 1])
    """

    def __init__(
        self,
        attention: nn.Module,
        *,
        grid: tuple[int, ...],
        queries: int,
        dim: int,
        hidden: int,
        vocabulary: int,
        num_classes: int,
    ) -> None:
        super().__init__()
        self.grid, self.queries = grid, queries
        self.embedding = nn.Embedding(vocabulary, dim)
        self.norm1, self.norm2, self.norm = (nn.LayerNorm(dim) for _ in range(3))
        self.attention = attention
        self.mlp = Mlp(dim, hidden)
        self.head = nn.Linear(dim, num_classes)

    def forward(self, words: Tensor) -> Tensor:
        """Words `(B, T, A + 1)`, queries first, to logits `(B, K, Q)`."""
        x = self.embedding(words).sum(2)
        x = x + self.attention(self.norm1(x), grid=self.grid)
        x = x[:, : self.queries]
        x = x + self.mlp(self.norm2(x))
        return self.head(self.norm(x)).mT
