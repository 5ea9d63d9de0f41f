"""What one call of the layer pools and masks, worked out from its grids and masks.

Legend: `B` batch, `N` query tokens, `M` key tokens, `C` channels, `L` landmarks.
"""

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from crosshead.attention.grid import cells_per_axis, check_grid, check_mask, refuse_nested
from crosshead.attention.landmarks import occupied_landmarks, pool_checked

if TYPE_CHECKING:
    from crosshead.attention.sequence_parallel import Ranks
    from crosshead.attention.shares import Shares


class Pooling(NamedTuple):
    """The landmarks of one call.

    Attributes:
        grid: axis lengths of the query tokens.
        context_grid: axis lengths of the key tokens, or None where these are the query tokens.
        landmarks: cells per axis, the same on both sides.
        num_prefix_tokens: leading tokens of either side, landmarks of their own.
        mask: bool `(B, N)`, the queries that take part, or None.
        context_mask: bool `(B, M)`, the keys that take part, or None.
        cells: `(B,)`, the cells each sample uses, for masked sequences that attend to a context; else None.
        landmark_mask: bool `(B, L)`, the landmarks that hold a token on both sides, or None.
        row_mask: bool `(B, N)`, the rows of the output that are not zero, or None.
        shares: where tokens and masks are those of one rank of many: its part of both grids; else None.
    """

    grid: tuple[int, ...]
    context_grid: tuple[int, ...] | None
    landmarks: tuple[int, ...]
    num_prefix_tokens: int
    mask: Tensor | None
    context_mask: Tensor | None
    cells: Tensor | None = None
    landmark_mask: Tensor | None = None
    row_mask: Tensor | None = None
    shares: "Shares | None" = None

    def of(self, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        """Of queries `(B, H, N, D)` and keys `(B, H, M, D)` the landmarks, `(B, H, L, D)` each."""
        if self.shares is not None:
            return self.shares.pooled(q, k, self)
        how = self.num_prefix_tokens, self.cells
        if self.context_grid is None:
            ql, kl = pool_checked([q, k], self.grid, self.landmarks, self.mask, *how)
            return ql, kl
        (ql,) = pool_checked([q], self.grid, self.landmarks, self.mask, *how)
        (kl,) = pool_checked([k], self.context_grid, self.landmarks, self.context_mask, *how)
        return ql, kl

    def masks(self) -> list[Tensor]:
        """Those of the two sides, of which self-attention has one; without a side that has none."""
        sides = [self.mask] if self.context_grid is None else [self.mask, self.context_mask]
        return [mask for mask in sides if mask is not None]

    def own(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Keys, values and their mask without what another rank brings in: prefix tokens are everywhere."""
        if self.shares is None or self.shares.owns_prefix:
            return k, v, self.context_mask
        first, mask = self.num_prefix_tokens, self.context_mask
        return k[:, :, first:], v[:, :, first:], None if mask is None else mask[:, first:]

    def options(self) -> dict[str, Any]:
        """How both sides are pooled."""
        return {"landmarks": self.landmarks, "num_prefix_tokens": self.num_prefix_tokens, "cells": self.cells}


def resolve_pooling(
    x: Tensor,
    *,
    grid: Sequence[int] | None,
    key_mask: Tensor | None,
    context: Tensor | None,
    context_grid: Sequence[int] | None,
    context_mask: Tensor | None,
    dim: int,
    landmarks: int | tuple[int, ...],
    num_prefix_tokens: int,
    local: bool,
    impl: str = "auto",
    ranks: "Ranks | None" = None,
) -> Pooling:
    """Checks the arguments of one call of the layer; from `dim` on it knows them itself.

    Raises:
        ValueError: if tokens, grids or masks do not belong together.
        TypeError: if tokens are not a floating-point tensor, a grid does not hold integers, or a mask is not
            bool.
        NotImplementedError: if there is a context beside a local term.
    """
    call = x, grid, key_mask, context, context_grid, context_mask
    layer = {"dim": dim, "landmarks": landmarks, "num_prefix_tokens": num_prefix_tokens}
    if ranks is not None:
        from crosshead.attention.shares import agree_on_shares  # torch need not be built with processes

        check = partial(_checked, *call, local=local, **layer)
        return agree_on_shares(check, x, context, ranks=ranks, landmarks=landmarks, impl=impl)
    pooling = _checked(*call, local=local, **layer)
    if pooling.mask is None and pooling.context_mask is None:
        return pooling
    if context is not None and len(pooling.grid) == 1:  # cells follow the shorter side of each sample
        pooling = with_both_masks(pooling, x, context)
        valid = [mask[:, num_prefix_tokens:].sum(-1) for mask in pooling.masks()]
        pooling = pooling._replace(cells=torch.minimum(*valid).clamp(max=pooling.landmarks[0]))
    sides = [(pooling.mask, pooling.grid)]
    if pooling.context_grid is not None:
        sides.append((pooling.context_mask, pooling.context_grid))
    occupied = [
        occupied_landmarks(mask, grid=grid, **pooling.options()) for mask, grid in sides if mask is not None
    ]
    return with_landmark_mask(pooling, torch.stack(occupied).all(0), x)


def with_both_masks(pooling: Pooling, x: Tensor, context: Tensor) -> Pooling:
    """The same, with a mask where a side has none."""
    masks = [
        tokens.new_ones(tokens.shape[:2], dtype=torch.bool) if mask is None else mask
        for mask, tokens in ((pooling.mask, x), (pooling.context_mask, context))
    ]
    return pooling._replace(mask=masks[0], context_mask=masks[1])


def with_landmark_mask(pooling: Pooling, landmark_mask: Tensor, x: Tensor) -> Pooling:
    """The same, with the mask of landmarks and that of output rows, which follows from it."""
    any_landmark = landmark_mask.any(-1, keepdim=True)
    row_mask = any_landmark.expand(-1, x.shape[1]) if pooling.mask is None else pooling.mask & any_landmark
    return pooling._replace(landmark_mask=landmark_mask, row_mask=row_mask)


def _checked(
    x: Tensor,
    grid: Sequence[int] | None,
    key_mask: Tensor | None,
    context: Tensor | None,
    context_grid: Sequence[int] | None,
    context_mask: Tensor | None,
    *,
    local: bool,
    **layer: Any,
) -> Pooling:
    """What follows from the arguments one by one: grids, cells and the masks as given."""
    if context is not None and local:
        raise NotImplementedError(
            "local_kernel must be 0 with a context: its values stand on another grid. Build the layer "
            "without it"
        )
    landmarks, num_prefix_tokens = layer["landmarks"], layer["num_prefix_tokens"]
    grid = _grid_of("x", x, "grid", grid, **layer)
    check_mask("key_mask", key_mask, x, tokens=x.shape[1])
    if context is None:
        for name, given in (("context_grid", context_grid), ("context_mask", context_mask)):
            if given is not None:
                raise ValueError(
                    f"{name} is given without context: pass context too, or use grid and key_mask"
                )
        cells = cells_per_axis(grid, landmarks)
        return Pooling(grid, None, cells, num_prefix_tokens, key_mask, key_mask)

    context_grid = _grid_of("context", context, "context_grid", context_grid, **layer)
    if len(context_grid) != len(grid):
        raise ValueError(f"context_grid must have as many axes as grid; got {context_grid} and {grid}")
    if context.shape[0] != x.shape[0]:
        raise ValueError(f"context must have the batch of x, {x.shape[0]}; got {context.shape[0]}")
    check_mask("context_mask", context_mask, context, tokens=context.shape[1])
    shared = cells_per_axis(context_grid, cells_per_axis(grid, landmarks))
    return Pooling(grid, context_grid, shared, num_prefix_tokens, key_mask, context_mask)


def _grid_of(
    name: str,
    tokens: Tensor,
    grid_name: str,
    grid: Sequence[int] | None,
    *,
    dim: int,
    landmarks: int | tuple[int, ...],
    num_prefix_tokens: int,
) -> tuple[int, ...]:
    """The grid of tokens that the layer can take; that of a sequence need not be given."""
    if not isinstance(tokens, Tensor):
        raise TypeError(
            f"{name} must be a tensor (batch, tokens, {dim}); got {type(tokens).__name__}: convert it with "
            f"torch.as_tensor({name})"
        )
    refuse_nested(name, tokens, mask="key_mask" if name == "x" else "context_mask")
    if tokens.ndim != 3 or tokens.shape[-1] != dim:
        raise ValueError(
            f"{name} must be (batch, tokens, {dim}); got {tuple(tokens.shape)}: a map (batch, {dim}, rows, "
            f"columns) becomes tokens with {name}.flatten(2).transpose(1, 2)"
        )
    if not tokens.is_floating_point():
        raise TypeError(f"{name} must be floating point; got {tokens.dtype}: convert it with {name}.float()")
    count = tokens.shape[1]
    if grid is None:
        if isinstance(landmarks, int) or len(landmarks) != 1:
            raise ValueError(
                f"{grid_name} is needed with landmarks={landmarks}: pass the axis lengths of the tokens, "
                f"such as {grid_name}=(56, 56), or build the layer with landmarks=(n,) for sequences"
            )
        grid = (count - num_prefix_tokens,)
    return check_grid(grid_name, grid, of=name, tokens=count, num_prefix_tokens=num_prefix_tokens)
