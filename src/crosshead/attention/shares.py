"""What a call pools and masks where each rank has a part of the tokens: some rows of the grid's first axis.

Legend: `B` batch, `H` heads, `N` query tokens and `M` key tokens of this rank, `D` head dim, `L` landmarks.

A landmark is a mean, so each rank adds its tokens' part to it, and the parts are summed over the ranks; a
cell may lie on several of them. Prefix tokens are on every rank; as keys and as landmarks the first rank
brings them in, and the copies of the others only ask.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from crosshead.attention.collectives import gather, refuse_transforms, sum_over_ranks
from crosshead.attention.grid import cells_per_axis, zero_outside
from crosshead.attention.impl.precision import accumulation_dtype, cast, without_autocast
from crosshead.attention.landmarks import average_in_order, average_over_grid, averaging_matrices
from crosshead.attention.pooling import Pooling, with_both_masks, with_landmark_mask

if TYPE_CHECKING:
    from crosshead.attention.sequence_parallel import Ranks


class Part(NamedTuple):
    """The tokens of one rank on one side, queries or keys.

    Attributes:
        rows: how many rows of the first axis each rank has.
        grid: axis lengths of all ranks' tokens together.
        own: which rows of that grid are here.
        before: `(B,)`, valid tokens of a masked sequence on earlier ranks, or None.
        in_all: `(B,)`, its valid tokens on all ranks, or None.
        fraction: `(B, L, 1)`, how much of each cell of a masked grid is valid, all ranks together, or None.
    """

    rows: tuple[int, ...]
    grid: tuple[int, ...]
    own: slice
    before: Tensor | None = None
    in_all: Tensor | None = None
    fraction: Tensor | None = None

    def sums(self, x: Tensor, mask: Tensor | None, pooling: Pooling) -> Tensor:
        """What tokens `(B, ..., N, D)` without prefix add to the landmarks."""
        dtype = accumulation_dtype(x.dtype)
        x = cast(zero_outside(mask, x), dtype)
        if mask is not None and self.in_all is not None and pooling.cells is not None:
            limit = pooling.landmarks[0]
            return average_in_order(x, mask, pooling.cells, limit, before=self.before, in_all=self.in_all)
        matrices = averaging_matrices(self.grid, pooling.landmarks, dtype, x.device, self.own)
        sums = average_over_grid(x, matrices)
        if self.fraction is None:
            return sums
        fraction = self.fraction.masked_fill(self.fraction == 0, 1)
        return sums / fraction.reshape(len(x), *[1] * (x.ndim - 3), -1, 1)


class Shares(NamedTuple):
    """The parts of a rank; `keys` are its `queries` where there is no context."""

    ranks: "Ranks"
    queries: Part
    keys: Part

    @property
    def owns_prefix(self) -> bool:
        """Whether the prefix tokens of this rank are those that are looked at."""
        return self.ranks.rank == 0

    def pooled(self, q: Tensor, k: Tensor, pooling: Pooling) -> tuple[Tensor, Tensor]:
        """Of queries `(B, H, N, D)` and keys `(B, H, M, D)` the landmarks of all, `(B, H, L, D)` each."""
        first, sums = pooling.num_prefix_tokens, []
        for x, mask, part in ((q, pooling.mask, self.queries), (k, pooling.context_mask, self.keys)):
            of_prefix, of_body = (None, None) if mask is None else (mask[:, :first], mask[:, first:])
            with without_autocast(x):
                body = part.sums(x[..., first:, :], of_body, pooling)
            prefix = cast(zero_outside(of_prefix, x[..., :first, :]), body.dtype)
            sums.append(torch.cat([prefix if self.owns_prefix else torch.zeros_like(prefix), body], dim=-2))
        ql, kl = sum_over_ranks(torch.stack(sums), self.ranks.group)
        return cast(ql, q.dtype), cast(kl, k.dtype)


def agree_on_shares(
    check: Callable[[], Pooling],
    x: Tensor,
    context: Tensor | None,
    *,
    ranks: "Ranks",
    landmarks: int | tuple[int, ...],
    impl: str,
) -> Pooling:
    """What a call of the layer pools, all ranks together.

    Args:
        check: gives what follows from the arguments on this rank, or refuses them.
        x: `(B, N, C)`.
        context: `(B, M, C)`, or None.
        ranks: who shares the tokens.
        landmarks: as the layer's.
        impl: as the layer's.

    Raises:
        ValueError: on every rank, if one refuses its arguments or they do not belong together.
    """
    refuse_transforms([x, context])
    try:
        pooling = check()
    except (NotImplementedError, TypeError, ValueError) as error:
        ranks.refuse(error)
    context_grid = pooling.context_grid or pooling.grid
    rows = ranks.agree(
        (pooling.grid[0], context_grid[0]),
        {
            "batch": len(x),
            "dtype": x.dtype,
            "grid": _but_rows(pooling.grid),
            "key_mask": _presence(pooling.mask),
            "context": _presence(context),
            "context_grid": _but_rows(context_grid),
            "context_mask": _presence(pooling.context_mask),
            "landmarks": landmarks,
            "num_prefix_tokens": pooling.num_prefix_tokens,
            "impl": impl,
        },
    )
    queries, keys = (
        _part(each, grid, ranks.rank) for each, grid in zip(rows, (pooling.grid, context_grid), strict=True)
    )
    cells = cells_per_axis(keys.grid, cells_per_axis(queries.grid, landmarks))
    pooling = pooling._replace(landmarks=cells, shares=Shares(ranks, queries, keys))
    if pooling.mask is None and pooling.context_mask is None:
        return pooling
    if len(cells) > 1:
        return _masked_grids(pooling, x)
    return _masked_sequences(pooling if context is None else with_both_masks(pooling, x, context), x)


def _presence(x: Tensor | None) -> str:
    return "none" if x is None else "one"


def _but_rows(grid: Sequence[int]) -> str:
    return f"({', '.join(['rows', *map(str, grid[1:])])})"


def _part(rows: Sequence[int], grid: Sequence[int], rank: int) -> Part:
    first = sum(rows[:rank])
    return Part(tuple(rows), (sum(rows), *grid[1:]), slice(first, first + rows[rank]))


def _masked_sequences(pooling: Pooling, x: Tensor) -> Pooling:
    """Cells follow the valid tokens of all ranks, of the shorter side where there are two."""
    shares, first = _shares_of(pooling), pooling.num_prefix_tokens
    masks = pooling.masks()
    counts = gather(torch.stack([mask[:, first:].sum(-1) for mask in masks]), shares.ranks.group)
    before, in_all = counts[: shares.ranks.rank].sum(0), counts.sum(0)
    parts = [
        part._replace(before=before[side], in_all=in_all[side])
        for side, part in zip((0, -1), (shares.queries, shares.keys), strict=True)
    ]
    used = in_all.amin(0).clamp(max=pooling.landmarks[0])
    body = torch.arange(pooling.landmarks[0], device=x.device) < used[:, None]
    pooling = pooling._replace(cells=used, shares=Shares(shares.ranks, *parts))
    return _with_landmarks(pooling, body, masks, x)


def _masked_grids(pooling: Pooling, x: Tensor) -> Pooling:
    """Cells stay where they are; a landmark needs a token in its cell on every side that has a mask."""
    shares, dtype = _shares_of(pooling), accumulation_dtype(x.dtype)
    sides = [(pooling.mask, shares.queries)]
    if pooling.context_grid is not None:
        sides.append((pooling.context_mask, shares.keys))
    own = []
    for mask, part in sides:
        if mask is not None:
            matrices = averaging_matrices(part.grid, pooling.landmarks, dtype, x.device, part.own)
            valid = mask[:, pooling.num_prefix_tokens :, None].to(dtype)
            own.append(average_over_grid(valid, matrices))
    fractions = iter(sum_over_ranks(torch.stack(own), shares.ranks.group))
    parts = [part if mask is None else part._replace(fraction=next(fractions)) for mask, part in sides]
    occupied = [part.fraction[..., 0] > 0 for part in parts if part.fraction is not None]
    pooling = pooling._replace(shares=Shares(shares.ranks, parts[0], parts[-1]))
    return _with_landmarks(pooling, torch.stack(occupied).all(0), pooling.masks(), x)


def _with_landmarks(pooling: Pooling, body: Tensor, masks: Sequence[Tensor], x: Tensor) -> Pooling:
    prefix = torch.stack([mask[:, : pooling.num_prefix_tokens] for mask in masks]).all(0)
    return with_landmark_mask(pooling, torch.cat([prefix, body], dim=-1), x)


def _shares_of(pooling: Pooling) -> Shares:
    assert pooling.shares is not None
    return pooling.shares
