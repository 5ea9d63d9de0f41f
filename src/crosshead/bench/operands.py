"""What the providers of a benchmark are given.

Legend: `B` batch, `H` heads, `N` tokens, `L` landmarks, `D` head dim, `C = H D` channels.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from crosshead.attention.mixing import HeadMixing, Mixing

INPUT_SEED, COTANGENT_SEED, WEIGHT_SEED = 0, 1, 2
# Residual mixing of this size changes every result visibly and leaves logits of the order of one.
MIXING_SIZE = 0.1


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Everything about a case but its provider, its pass and its length; plain values, to travel as JSON."""

    batch: int = 1
    heads: int = 8
    head_dim: int = 64
    landmarks: int = 64
    mixing: Mixing = "both"
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

    def mixings(self) -> tuple[HeadMixing, HeadMixing]:
        """The matrices of the query factor and of the key factor."""
        return (
            HeadMixing(logits=self.query_logits, weights=self.query_weights),
            HeadMixing(logits=self.key_logits, weights=self.key_weights),
        )

    def named(self, names: tuple[str, ...] = ()) -> dict[str, Tensor]:
        """Those of these names (all by default) that there are."""
        wanted = names or self._fields
        return {name: x for name, x in self._asdict().items() if name in wanted and x is not None}

    def to(self, dtype: torch.dtype) -> "Operands":
        """The same numbers in another dtype, as leaves that need gradients where these do."""
        return self._replace(
            **{name: x.detach().to(dtype).requires_grad_(x.requires_grad) for name, x in self.named().items()}
        )

    def backwards(self) -> "Operands":
        """The tokens in the other order: the same result, summed in another order."""
        turned = {name: getattr(self, name).detach().flip(2) for name in ("query", "key", "value")}
        grad = self.query.requires_grad
        return self._replace(**{name: x.requires_grad_(grad) for name, x in turned.items()})


def make_operands(setting: Setting, tokens: int, *, requires_grad: bool) -> Operands:
    """Random operands, the same for the same setting on every machine of one kind."""
    draw = _normal(setting, INPUT_SEED, requires_grad)
    many = (setting.batch, setting.heads, tokens, setting.head_dim)
    few = (setting.batch, setting.heads, setting.landmarks, setting.head_dim)
    tensors = [draw(*shape) for shape in (many, many, many, few, few)]
    matrices = [
        draw(setting.heads, setting.heads, size=MIXING_SIZE) if setting.mixing in (kind, "both") else None
        for kind in ("logits", "weights", "logits", "weights")
    ]
    return Operands(*tensors, *matrices)


def make_tokens(setting: Setting, tokens: int, *, requires_grad: bool) -> Tensor:
    """Random tokens `(B, N, C)` for a layer."""
    draw = _normal(setting, INPUT_SEED, requires_grad)
    return draw(setting.batch, tokens, setting.channels)


def make_cotangent(setting: Setting, *shape: int) -> Tensor:
    """The gradient that arrives at an output."""
    return _normal(setting, COTANGENT_SEED, False)(*shape)


def _normal(setting: Setting, seed: int, requires_grad: bool) -> Callable[..., Tensor]:
    generator = torch.Generator(setting.device).manual_seed(seed)

    def draw(*shape: int, size: float = 1.0) -> Tensor:
        x = torch.randn(shape, generator=generator, device=setting.device) * size
        return x.to(setting.torch_dtype).requires_grad_(requires_grad)

    return draw
