"""What one call of a layer worked from, kept so that its map can be asked for piece by piece.

Legend: `B` batch, `H` heads, `N` query tokens, `M` key tokens, `L` landmarks, `C` channels, `D = C / H`.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from crosshead.attention.impl.precision import accumulation_dtype, autocast_exists
from crosshead.attention.mixing import HeadMixing
from crosshead.attention.module import InteractiveAttention
from crosshead.attention.pooling import Pooling
from crosshead.explain.factors import Factors, Tokens


@dataclass(frozen=True, kw_only=True, eq=False)
class LayerCall:
    """One call of a layer: its inputs, copied. Projections are computed again where they are needed.

    So it takes as much memory as the tokens that went in, `B N C` numbers (and `B M C` of a context),
    whatever the heads and landmarks. The layer itself is not copied: once the weights of its projections
    change, a call says so and gives no more numbers.

    Attributes:
        name: of the layer in its model.
        layer: the layer.
        x: `(B, N, C)`, the tokens that ask.
        context: `(B, M, C)`, those that are looked at, or None where these are the same.
        pooling: grids, cells and masks.
        query_landmarks: `(B, H, L, D)`.
        key_landmarks: `(B, H, L, D)`.
        query_mixing: the residual matrices of the query factor.
        key_mixing: those of the key factor.
        autocast: the dtype of an autocast region around the call, or None.
        output: `(B, H, N, D)`, what the heads gave, with its graph, where gradients were asked for.
    """

    name: str
    layer: InteractiveAttention
    x: Tensor = field(repr=False)
    context: Tensor | None = field(repr=False)
    pooling: Pooling = field(repr=False)
    query_landmarks: Tensor = field(repr=False)
    key_landmarks: Tensor = field(repr=False)
    query_mixing: HeadMixing = field(repr=False)
    key_mixing: HeadMixing = field(repr=False)
    autocast: torch.dtype | None = field(repr=False)
    output: Tensor | None = field(repr=False)
    versions: tuple[int, ...] = field(repr=False)

    @property
    def grid(self) -> tuple[int, ...]:
        """The axes of the tokens that ask."""
        return self.pooling.grid

    @property
    def key_grid(self) -> tuple[int, ...]:
        """The axes of the tokens that are looked at."""
        return self.pooling.context_grid or self.pooling.grid

    @property
    def cells(self) -> tuple[int, ...]:
        """The landmarks along each axis."""
        return self.pooling.landmarks

    @property
    def num_prefix_tokens(self) -> int:
        """The tokens before each grid, landmarks of their own."""
        return self.pooling.num_prefix_tokens

    @property
    def heads(self) -> int:
        """How many heads."""
        return self.layer.num_heads

    @property
    def looked_at(self) -> Tensor:
        """`(B, M, C)`, the tokens that are looked at."""
        return self.x if self.context is None else self.context

    @cached_property
    def factors(self) -> Factors:
        """The two factors of the map, formed where they are asked for."""
        return Factors(self)

    @property
    def nbytes(self) -> int:
        """The bytes of the tensors that a copy holds."""
        held = (self.x, self.context, *self.pooling, self.query_landmarks, self.key_landmarks)
        return sum(tensor.nbytes for tensor in held if isinstance(tensor, Tensor))

    def copy(self) -> "LayerCall":
        """The same call in tensors of its own, which nothing that the model does later can change."""
        return replace(
            self,
            x=_copied(self.x),
            context=_copied(self.context),
            pooling=Pooling._make(map(_copied, self.pooling)),
            query_landmarks=_copied(self.query_landmarks),
            key_landmarks=_copied(self.key_landmarks),
            query_mixing=HeadMixing._make(map(_copied, self.query_mixing)),
            key_mixing=HeadMixing._make(map(_copied, self.key_mixing)),
        )

    def queries(self, tokens: Tokens) -> Tensor:
        """`(B, H, T, D)`, the queries of T tokens, normalised where the layer does so."""
        return self._projected(self.x[:, tokens], 0, self.layer.q_norm)

    def keys(self, tokens: Tokens) -> Tensor:
        """`(B, H, T, D)`, the keys of T tokens, normalised where the layer does so."""
        return self._projected(self.looked_at[:, tokens], 1, self.layer.k_norm)

    def values(self, tokens: Tokens) -> Tensor:
        """`(B, H, T, D)`, the values of T tokens."""
        return self._projected(self.looked_at[:, tokens], 2, nn.Identity())

    def as_computed(self, x: Tensor) -> Tensor:
        """Queries, keys or landmarks as the operator took them, in the dtype of its sums."""
        rounded = x if self.autocast is None or x.dtype == torch.float64 else x.to(self.autocast)
        return rounded.to(accumulation_dtype(rounded.dtype))

    def _projected(self, x: Tensor, part: int, norm: Callable[[Tensor], Tensor]) -> Tensor:
        if self.versions != versions(self.layer):
            raise ValueError(
                f"the weights of layer {self.name!r} have changed since it was recorded: record it again"
            )
        with torch.no_grad(), _autocast(x.device.type, self.autocast):
            (heads,) = self.layer._heads(self.layer._project(x, part, part + 1))
            return self.as_computed(norm(heads))


def versions(layer: InteractiveAttention) -> tuple[int, ...]:
    """How often what projects was written to; weights made in inference mode never change.

    Matrices of mixing are not asked: a call holds its own.
    """
    weights = chain(*(part.parameters() for part in (layer.qkv, layer.q_norm, layer.k_norm)))
    return tuple(-1 if weight.is_inference() else weight._version for weight in weights)


def _copied(value: Any) -> Any:
    return value.detach().clone() if isinstance(value, Tensor) else value


def _autocast(device: str, dtype: torch.dtype | None) -> AbstractContextManager:
    if not autocast_exists(device):
        return nullcontext()
    return torch.autocast(device, dtype=dtype, enabled=dtype is not None)
