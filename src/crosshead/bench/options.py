"""What a benchmark is asked to do, and what it compares. Nothing here imports torch: help is quick."""

import dataclasses
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

INPUT_SEED, COTANGENT_SEED, WEIGHT_SEED = 0, 1, 2
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


# Implementations of the library's own operator: compared with float64 before a time is shown.
OURS = ("reference", "streamed", "fused", "compiled")


def _operator(name: str, what: str, package: str = "crosshead", **traits: Any) -> Provider:
    return Provider(name=name, level="operator", what=what, package=package, **traits)


def _layer(name: str, what: str, package: str, **traits: Any) -> Provider:
    return Provider(name=name, level="layer", what=what, package=package, **traits)


PROVIDERS: tuple[Provider, ...] = (
    _operator("reference", "interactive attention, the equations", mixes_heads=True),
    _operator("streamed", "interactive attention, in tiles", mixes_heads=True),
    _operator("fused", "interactive attention, kernels", mixes_heads=True),
    _operator("compiled", "interactive attention, torch.compile of reference", mixes_heads=True),
    _operator("landmarks-only", "SDPA(Q, Kl, SDPA(Ql, K, V)): landmarks without mixing", "torch"),
    _operator("exact", "exact softmax attention (SDPA)", "torch", linear=False),
    _operator(
        "talking-heads",
        "exact attention with both head mixings, plainly written",
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
        ValueError: if a name is unknown, or of the other level.

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


Pass = Literal["forward", "forward+backward"]
ModelPass = Literal["inference", "train"]
MODELS = (
    "ivit_small",
    "swin_tiny_patch4_window7_224",
    "pvt_v2_b2",
    "xcit_small_12_p16_224",
    "convnext_tiny",
    "deit_small_patch16_224",
    "efficientvit_b2",
    "poolformer_s24",
)


@dataclass(frozen=True, kw_only=True)
class AttentionOptions:
    """Time and memory of attention against the number of tokens, beside its rivals.

    Every provider is checked before it is timed, all take turns within one process, and each time is set
    beside what the machine could do at best. Writes a table of every measurement (results.csv), what follows
    from it (ratios.csv, slopes.csv, crossover.csv) and pictures (time.png, memory.png). About ten minutes on
    two cores.

    Operators take (B, H, N, D) tensors and given landmarks: reference, streamed, fused, compiled,
    landmarks-only, exact, talking-heads, performer. Layers take (B, N, C) and have projections:
    interactive-layer, softmax-layer, talking-heads-layer, xca-layer, linear-layer, agent-layer,
    nystrom-layer, linformer-layer, performer-layer.
    """

    providers: tuple[str, ...] = ()
    """Which providers, by name; by default all of the level."""
    level: Literal["all", "operator", "layer"] = "all"
    """Operators alone, layers alone, or both."""
    tokens: tuple[int, ...] = (256, 1024, 4096, 16_384, 65_536)
    """Numbers of tokens N."""
    heads: int = 8
    """Heads H."""
    head_dim: int = 64
    """Head dim D; layers have H D channels."""
    landmarks: int = 64
    """Landmarks L; also agents, and the projected length of Linformer."""
    batch: int = 1
    """Batch B."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Of tokens and parameters."""
    mixing: Literal["none", "logits", "weights", "both"] = "both"
    """Where heads talk, in interactive attention and talking heads."""
    mixing_group_size: int | None = None
    """Heads that talk to each other in interactive attention; by default all."""
    passes: tuple[Pass, ...] = ("forward", "forward+backward")
    """Which passes."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to measure; auto is cuda where there is one."""
    threads: int | None = None
    """Threads of torch; by default torch's own choice."""
    repeats: int = 5
    """Rounds in which all providers take turns."""
    budget: float = 10.0
    """Seconds for one provider, pass and length; what would not fit once is skipped, with the estimate."""
    output: Path | None = None
    """New folder; by default the next free bench/attention-NUMBER."""
    quick: bool = False
    """Under a minute: at most 1,024 tokens, three rounds, a second each."""

    def resolved(self) -> "AttentionOptions":
        """The options with `quick` worked in.

        Raises:
            ValueError: if a number is too small or a name unknown.
        """
        _check_positive(self, "heads", "head_dim", "landmarks", "batch", "repeats", "budget", "threads")
        _check_list("tokens", self.tokens)
        _check_some("passes", self.passes)
        choose_providers(self.providers, self.level)
        tokens = tuple(sorted(set(self.tokens)))
        if not self.quick:
            return dataclasses.replace(self, tokens=tokens)
        short = tuple(n for n in tokens if n <= 1024) or tokens[:1]
        return dataclasses.replace(
            self, tokens=short, repeats=min(self.repeats, 3), budget=min(self.budget, 1.0)
        )


@dataclass(frozen=True, kw_only=True)
class BackboneOptions:
    """Images per second, latency and peak memory of iViT and of models of like size.

    Models take turns within one process. Writes results.csv, ratios.csv and images_per_second.png. Weights
    are random: speed does not depend on them. About fifteen minutes on two cores.
    """

    models: tuple[str, ...] = MODELS
    """Names of timm models; ratios are against the first."""
    sizes: tuple[int, ...] = (224, 512, 1024, 2048)
    """Height and width in pixels."""
    passes: tuple[ModelPass, ...] = ("inference", "train")
    """Inference, or forward and backward as in training, without the optimiser."""
    batch: int = 1
    """Images at a time."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Of images and parameters."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to measure; auto is cuda where there is one."""
    threads: int | None = None
    """Threads of torch; by default torch's own choice."""
    compile: bool = False
    """Compile every model by torch.compile."""
    repeats: int = 3
    """Rounds in which all models take turns."""
    budget: float = 25.0
    """Seconds for one model, pass and size; what would not fit once is skipped, with the estimate."""
    output: Path | None = None
    """New folder; by default the next free bench/backbone-NUMBER."""
    quick: bool = False
    """About a minute: at most 224 pixels, two rounds, two seconds each."""

    def resolved(self) -> "BackboneOptions":
        """The options with `quick` worked in.

        Raises:
            ValueError: if a number is too small, or there is nothing to measure.
        """
        _check_positive(self, "batch", "repeats", "budget", "threads")
        _check_list("sizes", self.sizes)
        _check_some("models", self.models)
        _check_some("passes", self.passes)
        sizes = tuple(sorted(set(self.sizes)))
        if not self.quick:
            return dataclasses.replace(self, sizes=sizes)
        small = tuple(n for n in sizes if n <= 224) or sizes[:1]
        return dataclasses.replace(
            self, sizes=small, repeats=min(self.repeats, 2), budget=min(self.budget, 2.0)
        )


def _check_positive(options: object, *names: str) -> None:
    for name in names:
        value = getattr(options, name)
        if value is not None and not 0 < value < float("inf"):
            raise ValueError(f"{name} is {value}: give a number above 0")


def _check_list(name: str, numbers: tuple[int, ...]) -> None:
    _check_some(name, numbers)
    for number in numbers:
        if number < 1:
            raise ValueError(f"{name} holds {number}: give numbers of 1 and more")


def _check_some(name: str, values: tuple) -> None:
    if not values:
        raise ValueError(f"{name} is empty: name at least one")
