"""What the ranks of a process group send each other per layer, by arithmetic alone.

Legend: `B` batch, `C` channels, `H` heads, `N` tokens of all ranks, `P` prefix tokens, `L` landmarks, prefix
tokens included, `R` ranks, `s` bytes of a token's number, `w = max(s, 4)` bytes of a sum.

    forward     landmarks 2 L C, largest logits and sums 2 L H, aggregate L C    B L (3 C + 2 H) w
    backward    aggregate L C, softmax L H, landmarks 2 L C                      B L (3 C + H) w

No `N` is in it. A mask adds the count of valid tokens in each cell, a local term the rows of its halo.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from crosshead.measure.cost import cells_along

_BYTES = {"float64": 8, "float32": 4, "bfloat16": 2, "float16": 2}
# What ranks tell each other at each call, so that none computes from other tokens than it believes.
AGREEMENT = 32


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """Bytes that one rank gives to collectives in one layer.

    Attributes:
        forward: of sums, forward.
        backward: of sums, backward.
        gathered: of what is gathered from all ranks, forward.
        halo: of rows for both neighbours, forward and again backward; a rank at an end has one neighbour.
    """

    forward: int
    backward: int
    gathered: int = AGREEMENT
    halo: int = 0

    def sent(self, ranks: int) -> int:
        """Bytes that leave one rank, forward and backward together, where sums go round in a ring.

        A ring adds up in `R - 1` steps and hands round in as many, each of `1 / R` of the numbers.
        """
        sums = 2 * (ranks - 1) * (self.forward + self.backward) // ranks
        return sums + (ranks - 1) * self.gathered + 2 * self.halo


def sharded_traffic(
    *,
    dim: int,
    heads: int,
    grid: Sequence[int],
    landmarks: int | Sequence[int],
    context_grid: Sequence[int] | None = None,
    num_prefix_tokens: int = 0,
    local_kernel: int = 0,
    masked: bool = False,
    batch: int = 1,
    dtype: str = "float32",
) -> Traffic:
    """What an `InteractiveAttention` exchanges once `crosshead.shard_tokens` has shared out its tokens.

    Args:
        dim: `C`.
        heads: `H`.
        grid: query tokens of all ranks along each axis.
        landmarks: cells along each axis, one number for all axes or one for each.
        context_grid: key tokens of all ranks along each axis; None for self-attention.
        num_prefix_tokens: `P`.
        local_kernel: as the layer's; each rank is taken to have as many rows as half of it.
        masked: whether the tokens have a mask, those of both sides where there is a context.
        batch: `B`.
        dtype: of the tokens.

    Raises:
        ValueError: if a size is below one, landmarks are not one per axis, or `dtype` is unknown.

    Example:
        >>> layer = {"dim": 384, "heads": 12, "landmarks": (16, 16)}
        >>> small, large = (sharded_traffic(grid=(side, side), **layer) for side in (64, 1024))
        >>> small == large, small.forward
        (True, 1204224)
    """
    if dtype not in _BYTES:
        raise ValueError(f"dtype must be one of {', '.join(_BYTES)}; got {dtype!r}")
    if min(dim, heads, batch) < 1:
        raise ValueError(f"dim, heads and batch must be at least 1; got {dim}, {heads} and {batch}")
    sides = [grid] if context_grid is None else [grid, context_grid]
    cells = prod(map(min, *(cells_along(side, landmarks) for side in (sides[0], sides[-1]))))
    wide, rows = max(_BYTES[dtype], 4), batch * (num_prefix_tokens + cells)
    # Valid tokens of a sequence are counted on each rank, and the counts gathered; those of a grid are added
    # up cell by cell.
    by_order = masked and len(grid) == 1
    fractions = len(sides) * batch * cells * wide if masked and not by_order else 0
    return Traffic(
        forward=rows * (3 * dim + 2 * heads) * wide + fractions,
        backward=rows * (3 * dim + heads) * wide,
        gathered=AGREEMENT * (1 + bool(local_kernel)) + (len(sides) * batch * 8 if by_order else 0),
        halo=2 * (local_kernel // 2) * prod(grid[1:]) * batch * dim * _BYTES[dtype],
    )


def ring_attention_traffic(
    *, tokens: int, dim: int, ranks: int, batch: int = 1, dtype: str = "float32"
) -> int:
    """Bytes that leave one rank for exact attention, forward and backward together.

    Keys and values of all others pass through each rank, backward with their gradients.

    Args:
        tokens: `N`.
        dim: `C`.
        ranks: `R`.
        batch: `B`.
        dtype: of keys, values and their gradients.

    Source: ring attention is arXiv 2310.01889.

    Example:
        >>> ring_attention_traffic(tokens=2**20, dim=384, ranks=8) // 2**20
        8064
    """
    own = batch * tokens * dim * _BYTES[dtype] // ranks
    return (ranks - 1) * own * (2 + 4)
