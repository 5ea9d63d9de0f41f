"""What every rival has in common: one way to build it, one call, and a declaration of what it can do.

Legend: `B` batch, `H` heads, `N` tokens, `C` channels, `D = C / H` head dim.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import ClassVar

import torch
from torch import Tensor, nn

from crosshead.attention.grid import check_mask, zero_outside


@dataclass(frozen=True, kw_only=True)
class Capabilities:
    """What a mechanism can do. Where it cannot, its layer says so instead of doing something else.

    Attributes:
        key_mask: takes a padded batch; masked tokens change nothing and come out as zero.
        any_grid: takes grids whose sides differ.
        any_length: one set of weights serves other grids than the one it was built for.
        linear: the multiply-adds grow in proportion to the tokens.
    """

    key_mask: bool
    any_grid: bool
    any_length: bool
    linear: bool


@dataclass(frozen=True, kw_only=True)
class Mechanism:
    """The facts of a mechanism, for tables.

    Attributes:
        title: its name in the field.
        paper: authors, year and address.
        complexity: of time, in the letters of the legend, with `L` landmarks and `m` random features.
        source: the library class that is adapted, or the equation that it is written from.
        heads_talk: whether heads see each other before the last projection.
        capabilities: what it can do.
    """

    title: str
    paper: str
    complexity: str
    source: str
    heads_talk: bool
    capabilities: Capabilities


class Rival(nn.Module):
    """A self-attention layer `(B, N, C), grid -> (B, N, C)`.

    Subclasses declare `mechanism` and define `attend`. The arguments after the first four are those with
    which timm's blocks build their attention.

    Args:
        dim: channels `C`.
        num_heads: `H`, a divisor of `dim`.
        grid: rows and columns of the tokens it is built for; other grids are accepted where the mechanism
            can take them.
        landmarks: cells along each axis, for mechanisms that have landmarks, agents or projected tokens: they
            get as many as there are cells.
        qkv_bias: whether the projections to queries, keys and values have a bias.
        qk_norm: always False; True raises.
        norm_layer: taken for timm's sake; without `qk_norm` nothing is normalised by it.
        proj_bias: whether the last projection has a bias.
        attn_drop: always 0; any other value raises.
        proj_drop: dropout after the last projection.
        device: where the parameters live.
        dtype: their floating-point type.

    Raises:
        ValueError: sizes that do not fit.
        NotImplementedError: `qk_norm`, or `attn_drop` above 0.
    """

    mechanism: ClassVar[Mechanism]

    def __init__(
        self,
        dim: int,
        num_heads: int,
        *,
        grid: Sequence[int],
        landmarks: Sequence[int] = (7, 7),
        qkv_bias: bool = True,
        qk_norm: bool = False,
        norm_layer: Callable[..., nn.Module] | None = None,
        proj_bias: bool = True,
        attn_drop: float = 0.0,
        proj_drop: float = 0.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if dim < 1 or num_heads < 1 or dim % num_heads:
            raise ValueError(f"dim must be a positive multiple of num_heads; got {dim=} and {num_heads=}")
        if len(grid) != 2 or min(grid) < 1:
            raise ValueError(f"grid must be positive rows and columns; got {tuple(grid)}")
        if len(landmarks) != 2 or min(landmarks) < 1:
            raise ValueError(
                f"landmarks must be a positive number for each of 2 axes; got {tuple(landmarks)}"
            )
        if qk_norm:
            raise NotImplementedError("qk_norm must be False: rivals are compared as they were published")
        if attn_drop:
            raise NotImplementedError(
                f"attn_drop must be 0, since not every rival has a map to drop from; got {attn_drop}: use "
                "proj_drop"
            )
        self.dim = dim
        self.num_heads = num_heads
        self.head_dim = dim // num_heads
        self.grid = grid[0], grid[1]
        # As in interactive attention, no axis has more cells than tokens.
        self.landmarks = min(landmarks[0], grid[0]), min(landmarks[1], grid[1])
        self.qkv_bias = qkv_bias
        self.proj_bias = proj_bias
        self.placed = {"device": device, "dtype": dtype}
        self.proj_drop = nn.Dropout(proj_drop)

    def forward(self, x: Tensor, *, grid: Sequence[int], key_mask: Tensor | None = None) -> Tensor:
        """Attends over all tokens of a grid.

        Args:
            x: `(B, N, C)`, row by row.
            grid: rows and columns, `N` their product.
            key_mask: bool `(B, N)`, True = takes part, where the mechanism can take one.

        Returns:
            `(B, N, C)`; zero where masked.

        Raises:
            ValueError: shapes that do not fit.
            TypeError: a mask that is not bool.
            NotImplementedError: a mask or a grid that the mechanism cannot take.
        """
        if x.ndim != 3 or x.shape[-1] != self.dim:
            raise ValueError(f"x must be (batch, tokens, dim={self.dim}); got {tuple(x.shape)}")
        if len(grid) != 2 or prod(grid) != x.shape[1]:
            raise ValueError(
                f"grid must be rows and columns of the {x.shape[1]} tokens of x; got {tuple(grid)}"
            )
        self._require(grid=(grid[0], grid[1]), masked=key_mask is not None)
        check_mask("key_mask", key_mask, x, tokens=x.shape[1])
        out = self.attend(zero_outside(key_mask, x), (grid[0], grid[1]), key_mask)
        return zero_outside(key_mask, self.proj_drop(out))

    def attend(self, x: Tensor, grid: tuple[int, int], key_mask: Tensor | None) -> Tensor:
        """The mechanism, `(B, N, C)` to `(B, N, C)`, masked tokens being zero in `x`."""
        raise NotImplementedError(f"{type(self).__name__} must define attend")

    def _require(self, *, grid: tuple[int, int], masked: bool) -> None:
        can, title = self.mechanism.capabilities, self.mechanism.title
        if masked and not can.key_mask:
            raise NotImplementedError(f"{title} takes no key_mask: cut padding away, and call it per sample")
        if not can.any_grid and grid[0] != grid[1]:
            raise NotImplementedError(f"{title} takes square grids only; got {grid}: pad or crop to a square")
        if not can.any_length and grid != self.grid:
            raise NotImplementedError(
                f"{title} was built for a grid of {self.grid} and takes no other; got {grid}: build it with "
                f"grid={grid}"
            )

    def extra_repr(self) -> str:
        """The constructor's arguments."""
        return f"{self.dim}, {self.num_heads}, grid={self.grid}, landmarks={self.landmarks}"


class Projected(Rival):
    """A rival with the usual projections around an operator on heads, which `attend_heads` defines.

    Args:
        dim: channels `C`.
        num_heads: `H`.
        **options: as `Rival` takes them.
    """

    def __init__(self, dim: int, num_heads: int, **options) -> None:
        super().__init__(dim, num_heads, **options)
        self.qkv = nn.Linear(dim, 3 * dim, bias=self.qkv_bias, **self.placed)
        self.proj = nn.Linear(dim, dim, bias=self.proj_bias, **self.placed)

    def attend(self, x: Tensor, grid: tuple[int, int], key_mask: Tensor | None) -> Tensor:
        """Projects, attends head by head, and projects again."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.num_heads, self.head_dim)).permute(2, 0, 3, 1, 4)
        out = self.attend_heads(q, k, v, grid, key_mask)
        return self.proj(out.transpose(1, 2).flatten(2))

    def attend_heads(
        self, q: Tensor, k: Tensor, v: Tensor, grid: tuple[int, int], key_mask: Tensor | None
    ) -> Tensor:
        """The operator, `(B, H, N, D)` to `(B, H, N, D)`."""
        raise NotImplementedError(f"{type(self).__name__} must define attend_heads")
