"""What one call of the layer pools and masks, worked out from its grids and masks.

Legend: `B` batch, `N` query tokens, `M` key tokens, `C` channels, `L` landmarks.
"""

from collections.abc import Sequence
from math import prod
from typing import NamedTuple

import torch
from torch import Tensor

from crosshead.attention.checks import refuse_dense_maps, refuse_nested
from crosshead.attention.integers import as_axis_lengths
from crosshead.attention.landmarks import cells_per_axis, occupied_landmarks
from crosshead.attention.masks import check_mask


class Plan(NamedTuple):
    """The landmarks of one call.

    Attributes:
        grid: axis lengths of the query tokens.
        context_grid: axis lengths of the key tokens.
        landmarks: cells per axis, the same on both sides.
        cells: `(B,)`, the cells each sample uses, for masked sequences that attend to a context; else None.
        mask: bool `(B, N)`, the queries that take part, or None.
        context_mask: bool `(B, M)`, the keys that take part, or None.
        landmark_mask: bool `(B, L)`, the landmarks that hold a token on both sides, or None.
        row_mask: bool `(B, N)`, the rows of the output that are not zero, or None.
    """

    grid: tuple[int, ...]
    context_grid: tuple[int, ...]
    landmarks: tuple[int, ...]
    cells: Tensor | None = None
    mask: Tensor | None = None
    context_mask: Tensor | None = None
    landmark_mask: Tensor | None = None
    row_mask: Tensor | None = None


def plan_landmarks(
    x: Tensor,
    grid: Sequence[int] | None,
    key_mask: Tensor | None,
    context: Tensor | None,
    context_grid: Sequence[int] | None,
    context_mask: Tensor | None,
    attn_mask: None,
    is_causal: bool,
    *,
    dim: int,
    landmarks: int | tuple[int, ...],
    prefix: int,
    local: bool,
) -> Plan:
    """Checks the arguments of one call of the layer and plans its landmarks.

    Raises:
        ValueError: if tokens, grids or masks do not belong together.
        TypeError: if tokens are no floating-point tensor, a grid holds no integers, or a mask is not bool.
        NotImplementedError: if there is an N x M mask or causality, or a context beside a local term.
    """
    refuse_dense_maps(attn_mask=attn_mask, is_causal=is_causal)
    if context is not None and local:
        raise NotImplementedError(
            "local_kernel must be 0 with a context: its values stand on another grid. Build the layer "
            "without it"
        )
    grid = _resolve("x", x, "grid", grid, dim=dim, landmarks=landmarks, prefix=prefix)
    check_mask("key_mask", key_mask, x, tokens=x.shape[1])
    if context is None:
        for name, given in (("context_grid", context_grid), ("context_mask", context_mask)):
            if given is not None:
                raise ValueError(
                    f"{name} is given without context: pass context too, or use grid and key_mask"
                )
        plan = Plan(grid, grid, cells_per_axis(grid, landmarks), mask=key_mask, context_mask=key_mask)
        return plan if key_mask is None else _with_masks(plan, x, prefix)

    context_grid = _resolve(
        "context", context, "context_grid", context_grid, dim=dim, landmarks=landmarks, prefix=prefix
    )
    if len(context_grid) != len(grid):
        raise ValueError(f"context_grid must have as many axes as grid; got {context_grid} and {grid}")
    if context.shape[0] != x.shape[0]:
        raise ValueError(f"context must have the batch of x, {x.shape[0]}; got {context.shape[0]}")
    check_mask("context_mask", context_mask, context, tokens=context.shape[1])
    shared = cells_per_axis(context_grid, cells_per_axis(grid, landmarks))
    plan = Plan(grid, context_grid, shared, mask=key_mask, context_mask=context_mask)
    if key_mask is None and context_mask is None:
        return plan
    if len(grid) == 1:  # cells follow the shorter side of each sample
        mask, context_mask = _all_if_none(key_mask, x), _all_if_none(context_mask, context)
        valid = torch.minimum(mask[:, prefix:].sum(-1), context_mask[:, prefix:].sum(-1))
        plan = plan._replace(mask=mask, context_mask=context_mask, cells=valid.clamp(max=shared[0]))
    return _with_masks(plan, x, prefix)


def _with_masks(plan: Plan, x: Tensor, prefix: int) -> Plan:
    sides = [(plan.mask, plan.grid)]
    if plan.context_mask is not plan.mask:
        sides.append((plan.context_mask, plan.context_grid))
    pooling = {"landmarks": plan.landmarks, "num_prefix_tokens": prefix, "cells": plan.cells}
    occupied = [occupied_landmarks(mask, grid=grid, **pooling) for mask, grid in sides if mask is not None]
    landmark_mask = torch.stack(occupied).all(0)
    any_landmark = landmark_mask.any(-1, keepdim=True)
    row_mask = any_landmark.expand(-1, x.shape[1]) if plan.mask is None else plan.mask & any_landmark
    return plan._replace(landmark_mask=landmark_mask, row_mask=row_mask)


def _resolve(
    name: str,
    tokens: Tensor,
    grid_name: str,
    grid: Sequence[int] | None,
    *,
    dim: int,
    landmarks: int | tuple[int, ...],
    prefix: int,
) -> tuple[int, ...]:
    _check_tokens(name, tokens, dim)
    count = tokens.shape[1]
    if grid is None:
        if isinstance(landmarks, int) or len(landmarks) != 1:
            raise ValueError(
                f"{grid_name} is needed with landmarks={landmarks}: pass the axis lengths of the tokens, "
                f"such as {grid_name}=(56, 56), or build the layer with landmarks=(n,) for sequences"
            )
        grid = (count - prefix,)
    grid = as_axis_lengths(grid_name, grid)
    if prefix + prod(grid) != count:
        raise ValueError(
            f"{grid_name}={grid} with {prefix} prefix tokens makes {prefix + prod(grid)} tokens; {name} has "
            f"{count}: pass the grid that the tokens were cut from, and count class and register tokens in "
            "num_prefix_tokens"
        )
    return grid


def _check_tokens(name: str, tokens: Tensor, dim: int) -> None:
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


def _all_if_none(mask: Tensor | None, tokens: Tensor) -> Tensor:
    return tokens.new_ones(tokens.shape[:2], dtype=torch.bool) if mask is None else mask
