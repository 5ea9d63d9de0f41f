"""What one call of the layer pools and masks, worked out from its grids and masks.

Legend: `B` batch, `N` query tokens, `M` key tokens, `C` channels, `L` landmarks.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from crosshead.attention.grid import cells_per_axis, check_grid, check_mask, refuse_nested
from crosshead.attention.landmarks import occupied_landmarks, pool_checked


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

    def of(self, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        """Of queries `(B, H, N, D)` and keys `(B, H, M, D)` the landmarks, `(B, H, L, D)` each."""
        how = self.num_prefix_tokens, self.cells
        if self.context_grid is None:
            ql, kl = pool_checked([q, k], self.grid, self.landmarks, self.mask, *how)
            return ql, kl
        (ql,) = pool_checked([q], self.grid, self.landmarks, self.mask, *how)
        (kl,) = pool_checked([k], self.context_grid, self.landmarks, self.context_mask, *how)
        return ql, kl

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
) -> Pooling:
    """Checks the arguments of one call of the layer, the last four of which it was built with.

    Raises:
        ValueError: if tokens, grids or masks do not belong together.
        TypeError: if tokens are not a floating-point tensor, a grid does not hold integers, or a mask is not
            bool.
        NotImplementedError: if there is a context beside a local term.
    """
    if context is not None and local:
        raise NotImplementedError(
            "local_kernel must be 0 with a context: its values stand on another grid. Build the layer "
            "without it"
        )
    layer = {"dim": dim, "landmarks": landmarks, "num_prefix_tokens": num_prefix_tokens}
    grid = _grid_of("x", x, "grid", grid, **layer)
    check_mask("key_mask", key_mask, x, tokens=x.shape[1])
    if context is None:
        for name, given in (("context_grid", context_grid), ("context_mask", context_mask)):
            if given is not None:
                raise ValueError(
                    f"{name} is given without context: pass context too, or use grid and key_mask"
                )
        cells = cells_per_axis(grid, landmarks)
        pooling = Pooling(grid, None, cells, num_prefix_tokens, key_mask, key_mask)
        return pooling if key_mask is None else _with_masks(pooling, x)

    context_grid = _grid_of("context", context, "context_grid", context_grid, **layer)
    if len(context_grid) != len(grid):
        raise ValueError(f"context_grid must have as many axes as grid; got {context_grid} and {grid}")
    if context.shape[0] != x.shape[0]:
        raise ValueError(f"context must have the batch of x, {x.shape[0]}; got {context.shape[0]}")
    check_mask("context_mask", context_mask, context, tokens=context.shape[1])
    shared = cells_per_axis(context_grid, cells_per_axis(grid, landmarks))
    pooling = Pooling(grid, context_grid, shared, num_prefix_tokens, key_mask, context_mask)
    if key_mask is None and context_mask is None:
        return pooling
    if len(grid) == 1:  # cells follow the shorter side of each sample
        mask, context_mask = _all_if_none(key_mask, x), _all_if_none(context_mask, context)
        valid = torch.minimum(
            mask[:, num_prefix_tokens:].sum(-1), context_mask[:, num_prefix_tokens:].sum(-1)
        )
        pooling = pooling._replace(mask=mask, context_mask=context_mask, cells=valid.clamp(max=shared[0]))
    return _with_masks(pooling, x)


def _with_masks(pooling: Pooling, x: Tensor) -> Pooling:
    """The same, with the masks of landmarks and of output rows that follow from those of the tokens."""
    sides = [(pooling.mask, pooling.grid)]
    if pooling.context_grid is not None:
        sides.append((pooling.context_mask, pooling.context_grid))
    occupied = [
        occupied_landmarks(mask, grid=grid, **pooling.options()) for mask, grid in sides if mask is not None
    ]
    landmark_mask = torch.stack(occupied).all(0)
    any_landmark = landmark_mask.any(-1, keepdim=True)
    row_mask = any_landmark.expand(-1, x.shape[1]) if pooling.mask is None else pooling.mask & any_landmark
    return pooling._replace(landmark_mask=landmark_mask, row_mask=row_mask)


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


def _all_if_none(mask: Tensor | None, tokens: Tensor) -> Tensor:
    return tokens.new_ones(tokens.shape[:2], dtype=torch.bool) if mask is None else mask
