"""What `crosshead bench attention` compares, as plain data: help and tables need not wait for torch."""

from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Literal

Level = Literal["operator", "layer"]


@dataclass(frozen=True, kw_only=True)
class Provider:
    """One mechanism as one package computes it.

    Attributes:
        name: what it is called in tables and on the command line.
        level: "operator": `(B, H, N, D)` queries, keys and values, landmarks given, to `(B, H, N, D)`;
            "layer": `(B, N, C)` to `(B, N, C)`, with projections and pooling.
        what: what it computes.
        package: the distribution that it comes from.
        mixes_heads: whether heads exchange anything before the last projection.
        linear: whether time grows with N (and not with its square).
        maps: how many N x N maps it holds in memory at a time, for each head.
    """

    name: str
    level: Level
    what: str
    package: str = "crosshead"
    mixes_heads: bool = False
    linear: bool = True
    maps: int = 0

    @property
    def order(self) -> int:
        """The power of N that time grows with."""
        return 1 if self.linear else 2


# Implementations of the library's own operator: compared with float64 before a time is shown.
OURS = ("reference", "streamed", "fused", "compiled")


def _ours(name: str, what: str) -> Provider:
    return Provider(name=name, level="operator", what=f"interactive attention, {what}", mixes_heads=True)


def _operator(name: str, what: str, package: str, **traits: Any) -> Provider:
    return Provider(name=name, level="operator", what=what, package=package, **traits)


def _layer(name: str, what: str, package: str, **traits: Any) -> Provider:
    return Provider(name=name, level="layer", what=what, package=package, **traits)


PROVIDERS: tuple[Provider, ...] = (
    _ours("reference", "the equations"),
    _ours("streamed", "in tiles"),
    _ours("fused", "kernels"),
    _ours("compiled", "torch.compile of reference"),
    _operator("landmarks-only", "SDPA(Q, Kl, SDPA(Ql, K, V)): landmarks without mixing", "torch"),
    _operator("exact", "exact softmax attention (SDPA)", "torch", linear=False),
    _operator(
        "talking-heads",
        "exact attention with both head mixings, plainly written",
        "crosshead",
        mixes_heads=True,
        linear=False,
        maps=3,
    ),
    _operator("performer", "Performer's FastAttention", "performer-pytorch"),
    _layer("interactive-layer", "InteractiveAttention", "crosshead", mixes_heads=True),
    _layer("softmax-layer", "softmax attention (SDPA)", "timm", linear=False),
    _layer("talking-heads-layer", "talking heads of CaiT", "timm", mixes_heads=True, linear=False, maps=4),
    _layer("xca-layer", "cross-covariance attention of XCiT", "timm"),
    _layer("linear-layer", "ReLU linear attention of EfficientViT (LiteMLA)", "timm"),
    _layer("agent-layer", "agent attention with talking heads", "agent-attention-pytorch", mixes_heads=True),
    _layer("nystrom-layer", "Nystromformer", "nystrom-attention"),
    _layer("linformer-layer", "Linformer", "linformer"),
    _layer("performer-layer", "Performer", "performer-pytorch"),
)
BY_NAME = {provider.name: provider for provider in PROVIDERS}


def choose_providers(names: tuple[str, ...], level: Level | Literal["all"]) -> tuple[Provider, ...]:
    """The providers of these names, or of a level where no name is given, in the order of the catalogue.

    Raises:
        ValueError: If a name is unknown, or of the other level.

    Example:
        >>> [provider.name for provider in choose_providers(("exact", "fused"), "all")]
        ['fused', 'exact']
    """
    for name in names:
        if name not in BY_NAME:
            near = get_close_matches(name, BY_NAME, n=1)
            raise ValueError(
                f"provider {name!r} is unknown: "
                + (f"did you mean {near[0]}? " if near else "")
                + f"There are {', '.join(BY_NAME)}"
            )
        if level not in ("all", BY_NAME[name].level):
            raise ValueError(
                f"provider {name!r} is of level {BY_NAME[name].level}: leave out --level {level}"
            )
    return tuple(
        provider
        for provider in PROVIDERS
        if (provider.name in names if names else level in ("all", provider.level))
    )
