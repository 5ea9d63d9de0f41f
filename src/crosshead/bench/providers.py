"""The providers of a benchmark, prepared to run: their operands, operators and layers.

Legend: `B` batch, `H` heads, `N` tokens, `L` landmarks, `D` head dim, `C = H D` channels. An operator maps
`(B, H, N, D)` operands with given landmarks to `(B, H, N, D)`, a layer `(B, N, C)` to `(B, N, C)`. Optional
packages are imported when what needs them is built.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from crosshead.attention.functional import Implementation, interactive_attention
from crosshead.attention.mixing import HeadMixing, Mixing, matrix_shape, mix_heads
from crosshead.attention.module import InteractiveAttention
from crosshead.bench.options import BY_NAME, COTANGENT_SEED, INPUT_SEED, WEIGHT_SEED
from crosshead.measure.workload import Workload, make_workload
from crosshead.rivals.registry import attention_class

# Residual mixing of this size changes every result visibly and leaves logits of the order of one.
MIXING_SIZE = 0.1
PLAIN = ("query", "key", "value")
# The operands that a provider reads, and so has gradients for; all where it is not named here.
USED = {
    "landmarks-only": (*PLAIN, "query_landmarks", "key_landmarks"),
    "exact": PLAIN,
    "talking-heads": (*PLAIN, "query_logits", "query_weights"),
    "performer": PLAIN,
}
RIVAL_LAYERS = {
    "softmax-layer": "softmax",
    "talking-heads-layer": "talking-heads",
    "xca-layer": "xca",
    "linear-layer": "efficientvit",
    "agent-layer": "agent-talking-heads",
    "nystrom-layer": "nystromformer",
    "linformer-layer": "linformer",
    "performer-layer": "performer",
}
# The only layer here whose work depends on rows and columns: it convolves. For all others tokens are one row,
# so that they have exactly `L` landmarks.
ON_IMAGES = "linear-layer"


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Everything about a case but its provider, its pass and its length; plain values, to travel as JSON."""

    batch: int = 1
    heads: int = 8
    head_dim: int = 64
    landmarks: int = 64
    mixing: Mixing = "both"
    mixing_group_size: int | None = None
    dtype: str = "float32"
    device: str = "cpu"

    @property
    def channels(self) -> int:
        """`C`."""
        return self.heads * self.head_dim

    @property
    def torch_dtype(self) -> torch.dtype:
        """The dtype itself."""
        return getattr(torch, self.dtype)


class Operands(NamedTuple):
    """The operands of one call of an operator; mixing matrices are `(H, H)` or None."""

    query: Tensor
    key: Tensor
    value: Tensor
    query_landmarks: Tensor
    key_landmarks: Tensor
    query_logits: Tensor | None
    query_weights: Tensor | None
    key_logits: Tensor | None
    key_weights: Tensor | None

    def named(self, names: tuple[str, ...] = ()) -> dict[str, Tensor]:
        """The operands of these names (all by default) that exist."""
        wanted = names or self._fields
        return {name: x for name, x in self._asdict().items() if name in wanted and x is not None}

    def to(self, dtype: torch.dtype) -> "Operands":
        """The same numbers in another dtype, as leaves that need gradients where these do."""
        return self._replace(
            **{name: x.detach().to(dtype).requires_grad_(x.requires_grad) for name, x in self.named().items()}
        )

    def backwards(self) -> "Operands":
        """The tokens in reverse order: the same result, summed in another order."""
        turned = {name: getattr(self, name).detach().flip(2) for name in PLAIN}
        grad = self.query.requires_grad
        return self._replace(**{name: x.requires_grad_(grad) for name, x in turned.items()})


Operator = Callable[[Operands], Tensor]


def make_operands(setting: Setting, tokens: int, *, requires_grad: bool) -> Operands:
    """Random operands, the same for the same setting on every machine of one kind."""
    draw = _normal(setting, INPUT_SEED, requires_grad)
    many = (setting.batch, setting.heads, tokens, setting.head_dim)
    few = (setting.batch, setting.heads, setting.landmarks, setting.head_dim)
    tensors = [draw(*shape) for shape in (many, many, many, few, few)]
    shape = matrix_shape(setting.heads, setting.mixing_group_size or setting.heads)
    matrices = [
        draw(*shape, size=MIXING_SIZE) if setting.mixing in (kind, "both") else None
        for kind in ("logits", "weights", "logits", "weights")
    ]
    return Operands(*tensors, *matrices)


def make_tokens(setting: Setting, tokens: int, *, requires_grad: bool) -> Tensor:
    """Random tokens `(B, N, C)` for a layer."""
    return _normal(setting, INPUT_SEED, requires_grad)(setting.batch, tokens, setting.channels)


def make_cotangent(setting: Setting, *shape: int) -> Tensor:
    """The gradient that arrives at an output."""
    return _normal(setting, COTANGENT_SEED, False)(*shape)


def _normal(setting: Setting, seed: int, requires_grad: bool) -> Callable[..., Tensor]:
    generator = torch.Generator(setting.device).manual_seed(seed)

    def draw(*shape: int, size: float = 1.0) -> Tensor:
        x = torch.randn(shape, generator=generator, device=setting.device) * size
        return x.to(setting.torch_dtype).requires_grad_(requires_grad)

    return draw


def attention_workload(
    name: str, setting: Setting, tokens: int, *, backward: bool, operands: Operands | Tensor | None = None
) -> Workload:
    """Prepares a provider.

    Args:
        name: the provider.
        setting: sizes, dtype and device.
        tokens: `N`.
        backward: whether the gradients of everything that the provider reads are computed too.
        operands: what to compute on, where it exists already: `Operands` for an operator, tokens for a layer.

    Raises:
        ImportError: if its package is not installed.
        NotImplementedError: if it cannot do what the setting asks for.
    """
    if BY_NAME[name].level == "layer":
        x = operands if isinstance(operands, Tensor) else make_tokens(setting, tokens, requires_grad=backward)
        layer = build_layer(name, setting, tokens)
        compute, leaves = lambda: layer(x), [x, *layer.parameters()]
        shape = (setting.batch, tokens, setting.channels)
    else:
        given = operands if isinstance(operands, Operands) else None
        given = given or make_operands(setting, tokens, requires_grad=backward)
        attend = build_operator(name, setting)
        compute, leaves = lambda: attend(given), list(given.named(USED.get(name, ())).values())
        shape = (setting.batch, setting.heads, tokens, setting.head_dim)
    compiles = name == "compiled"
    if not backward:
        return make_workload(compute, leaves, compiles=compiles)
    cotangent = make_cotangent(setting, *shape)
    return make_workload(compute, [*leaves, cotangent], leaves=leaves, cotangent=cotangent, compiles=compiles)


def build_operator(name: str, setting: Setting) -> Operator:
    """The operator of a provider.

    Raises:
        ImportError: if its package is not installed.
        NotImplementedError: if it cannot do what the setting asks for.
    """
    match name:
        case "reference" | "streamed" | "fused":
            return interactive(name)
        case "compiled":
            # The best that it can do is a program for each length.
            return torch.compile(interactive("reference"), dynamic=False)
        case "landmarks-only":
            return _landmarks_only
        case "exact":
            return lambda given: scaled_dot_product_attention(given.query, given.key, given.value)
        case "talking-heads":
            return lambda given: dense(given, mixing=True)
    from performer_pytorch import FastAttention

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(WEIGHT_SEED)
        attention = FastAttention(setting.head_dim).to(setting.device)
    return lambda given: attention(given.query, given.key, given.value)


def interactive(impl: Implementation) -> Operator:
    """The library's own operator in one implementation."""

    def attend(given: Operands) -> Tensor:
        return interactive_attention(
            given.query,
            given.key,
            given.value,
            query_landmarks=given.query_landmarks,
            key_landmarks=given.key_landmarks,
            query_mixing=HeadMixing(logits=given.query_logits, weights=given.query_weights),
            key_mixing=HeadMixing(logits=given.key_logits, weights=given.key_weights),
            impl=impl,
        )

    return attend


def dense(given: Operands, *, mixing: bool) -> Tensor:
    """Attention with the N x N map in memory, its heads mixed before and after the softmax."""
    logits = given.query @ given.key.mT * given.query.shape[-1] ** -0.5
    if not mixing:
        return logits.softmax(-1) @ given.value
    weights = mix_heads(logits, given.query_logits).softmax(-1)
    return mix_heads(weights, given.query_weights) @ given.value


def _landmarks_only(given: Operands) -> Tensor:
    aggregate = scaled_dot_product_attention(given.query_landmarks, given.key, given.value)
    return scaled_dot_product_attention(given.query, given.key_landmarks, aggregate)


def build_layer(name: str, setting: Setting, tokens: int) -> nn.Module:
    """The layer of a provider, with random weights, in evaluation mode.

    It has `H` heads of head dim `D`, and `L` landmarks, agents or projected tokens where it has such.

    Raises:
        ImportError: if its package is not installed.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(WEIGHT_SEED)
        layer = _rival(name, setting, tokens) if name in RIVAL_LAYERS else _interactive_layer(setting)
    return layer.to(setting.device, setting.torch_dtype).eval()


def _interactive_layer(setting: Setting) -> nn.Module:
    layer = InteractiveAttention(
        setting.channels,
        setting.heads,
        landmarks=(setting.landmarks,),
        mixing=setting.mixing,
        mixing_group_size=setting.mixing_group_size,
    )
    for mixer in (layer.query_mixing, layer.key_mixing):
        for matrix in mixer.parameters():
            nn.init.normal_(matrix, std=MIXING_SIZE)
    return layer


def _rival(name: str, setting: Setting, tokens: int) -> nn.Module:
    rows = next(n for n in range(math.isqrt(tokens), 0, -1) if tokens % n == 0) if name == ON_IMAGES else 1
    grid = rows, tokens // rows
    layer = attention_class(RIVAL_LAYERS[name])
    return _OnGrid(layer(setting.channels, setting.heads, grid=grid, landmarks=(1, setting.landmarks)), grid)


class _OnGrid(nn.Module):
    """A layer that is always called with one grid."""

    def __init__(self, layer: nn.Module, grid: tuple[int, int]) -> None:
        super().__init__()
        self.layer, self.grid = layer, grid

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x, grid=self.grid)
