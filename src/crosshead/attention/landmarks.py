"""Pooling tokens into landmarks: each landmark is the mean of one cell of the token grid.

Legend: `B` batch, `N` tokens (prefix tokens first, then the grid in row-major order), `C` channels,
`L` landmarks, `n` tokens along one axis, `l` cells along it. Cell `i` of an axis covers tokens from
`floor(i n / l)` up to `ceil((i + 1) n / l)`, the borders of adaptive average pooling: where `l` does not
divide `n`, neighbouring cells share a token.
"""

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

from crosshead.attention.grid import (
    along_tokens,
    cells_per_axis,
    check_grid,
    check_mask,
    refuse_nested,
    zero_outside,
)
from crosshead.attention.impl.precision import accumulation_dtype, cast, without_autocast


def pool_landmarks(
    x: Tensor,
    *,
    grid: Sequence[int],
    landmarks: int | Sequence[int],
    mask: Tensor | None = None,
    num_prefix_tokens: int = 0,
    cells: Tensor | None = None,
) -> Tensor:
    """Averages a grid of tokens into landmarks; prefix tokens become landmarks of their own.

    Cells per axis are `min(landmarks, axis)`. Pooling is linear and deterministic in both directions,
    differentiable twice, and can be exported for sizes that do not divide.

    With a mask, a sequence (a grid of one axis) lays its cells over its valid tokens only, in their order, so
    that a padded sample is pooled as it would be alone. On grids of two and three axes cells stay where they
    are and average the valid tokens they hold. A cell without a valid token gives zeros: see
    `occupied_landmarks`.

    Args:
        x: `(B, ..., N, C)` tokens, for example `(B, N, C)` or `(B, H, N, D)`.
        grid: one to three axis lengths, `N = num_prefix_tokens + prod(grid)`; `(n,)` for a sequence.
        landmarks: cells per axis: one number for all axes, or one for each.
        mask: bool `(B, N)`, True = takes part. Values at masked tokens are never read.
        num_prefix_tokens: leading tokens (class, registers) that are never averaged.
        cells: int `(B,)`, sequences with a mask only: the cells each sample uses, if fewer than its valid
            tokens allow (cross-attention needs the same number on both sides).

    Returns:
        `(B, ..., L, C)` with `L = num_prefix_tokens + prod(cells per axis)`, in the dtype of `x`.

    Raises:
        ValueError: if the grid does not fit the tokens, landmarks are not positive or not one per axis, the
            mask has another shape, or there are `cells` without a masked sequence.
        TypeError: if the mask is not bool.

    Source: arXiv 2402.17507, equation 6 (average pooling; kernel and stride are not known to us).

    Example:
        >>> import torch
        >>> from crosshead import pool_landmarks
        >>> pool_landmarks(torch.randn(2, 56 * 56, 96), grid=(56, 56), landmarks=(7, 7)).shape
        torch.Size([2, 49, 96])
        >>> pool_landmarks(torch.tensor([[[1.0], [2.0], [6.0]]]), grid=(3,), landmarks=2).flatten().tolist()
        [1.5, 4.0]
    """
    refuse_nested("x", x, mask="mask")
    if x.ndim < 3:
        raise ValueError(
            f"x must be (batch, ..., tokens, channels); got {tuple(x.shape)}: add the missing axes"
        )
    grid = check_grid("grid", grid, of="x", tokens=x.shape[-2], num_prefix_tokens=num_prefix_tokens)
    per_axis = cells_per_axis(grid, landmarks)
    check_mask("mask", mask, x, tokens=x.shape[-2])
    _check_cells(cells, mask, grid, batch=x.shape[0])
    (pooled,) = pool_checked([x], grid, per_axis, mask, num_prefix_tokens, cells)
    return pooled


def pool_checked(
    tensors: Sequence[Tensor],
    grid: Sequence[int],
    cells_of_axis: Sequence[int],
    mask: Tensor | None,
    num_prefix_tokens: int,
    cells: Tensor | None,
) -> list[Tensor]:
    """`pool_landmarks` of tensors alike, such as queries and keys, whose arguments are known to be right.

    What tells which token is in which cell is worked out once.
    """
    dtype = accumulation_dtype(tensors[0].dtype)
    by_rank = mask is not None and len(grid) == 1
    with without_autocast(tensors[0]):
        matrices = [] if by_rank else averaging_matrices(grid, cells_of_axis, dtype, tensors[0].device)
        results = []
        for x in tensors:
            body = x[..., num_prefix_tokens:, :]
            if mask is None:
                pooled = average_over_grid(cast(body, dtype), matrices)
            else:
                valid = mask[:, num_prefix_tokens:]
                body = cast(zero_outside(valid, body), dtype)
                if by_rank:
                    used = _used_cells(valid, cells_of_axis[0], cells)
                    pooled = average_in_order(body, valid, used, cells_of_axis[0])
                else:
                    fraction = average_over_grid(along_tokens(valid, x).to(dtype), matrices)
                    pooled = average_over_grid(body, matrices) / fraction.masked_fill(fraction == 0, 1)
            results.append(cast(pooled, x.dtype))
    if num_prefix_tokens == 0:
        return results
    takes_part = None if mask is None else mask[:, :num_prefix_tokens]
    prefixes = [zero_outside(takes_part, x[..., :num_prefix_tokens, :]) for x in tensors]
    return [torch.cat(parts, dim=-2) for parts in zip(prefixes, results, strict=True)]


def occupied_landmarks(
    mask: Tensor,
    *,
    grid: Sequence[int],
    landmarks: int | Sequence[int],
    num_prefix_tokens: int = 0,
    cells: Tensor | None = None,
) -> Tensor:
    """Says which landmarks of a masked grid hold any valid token: the `landmark_mask` of the operator.

    Args:
        mask: bool `(B, N)`, True = takes part.
        grid: as for `pool_landmarks`.
        landmarks: as for `pool_landmarks`.
        num_prefix_tokens: as for `pool_landmarks`.
        cells: as for `pool_landmarks`.

    Returns:
        bool `(B, L)`.

    Raises:
        ValueError: if `pool_landmarks` would raise one.
        TypeError: if the mask is not bool.

    Example:
        >>> import torch
        >>> from crosshead import occupied_landmarks
        >>> mask = torch.tensor([[True, True, False, False], [True, True, True, True]])
        >>> occupied_landmarks(mask, grid=(4,), landmarks=3).tolist()
        [[True, True, False], [True, True, True]]
    """
    grid = check_grid("grid", grid, of="mask", tokens=mask.shape[-1], num_prefix_tokens=num_prefix_tokens)
    per_axis = cells_per_axis(grid, landmarks)
    check_mask("mask", mask, mask, tokens=mask.shape[-1])
    _check_cells(cells, mask, grid, batch=mask.shape[0])
    prefix, valid = mask[:, :num_prefix_tokens], mask[:, num_prefix_tokens:]
    if len(grid) == 1:
        used = _used_cells(valid, per_axis[0], cells)
        body = torch.arange(per_axis[0], device=mask.device) < used[:, None]
    else:
        with without_autocast(mask):
            matrices = averaging_matrices(grid, per_axis, torch.float32, mask.device)
            body = average_over_grid(valid[..., None].float(), matrices)[..., 0] > 0
    return torch.cat([prefix, body], dim=-1)


def average_over_grid(x: Tensor, matrices: Sequence[Tensor]) -> Tensor:
    """`(B, ..., N, C)` to `(B, ..., L, C)`, by a matrix `(l, n)` for each axis."""
    # Heads go beside their channels, which is where they are in memory: nothing is copied, and products are
    # large.
    heads = x.shape[1:-2]
    if heads:
        x = x.flatten(1, -3).transpose(1, 2).flatten(2)
    batch, channels = x.shape[0], x.shape[-1]
    grid, cells = [matrix.shape[1] for matrix in matrices], [matrix.shape[0] for matrix in matrices]
    for axis in reversed(range(len(grid))):
        rows, right = batch * prod(grid[:axis]), prod(cells[axis + 1 :])
        matrix = matrices[axis].expand(rows, -1, -1)
        x = torch.bmm(matrix, x.reshape(rows, grid[axis], right * channels))
        # By way of one axis: a tracer with symbols for sizes could not split `right * channels` up again.
        x = x.flatten().reshape(rows * cells[axis] * right, channels)
    x = x.reshape(batch, prod(cells), channels)
    return x.unflatten(2, (prod(heads), -1)).transpose(1, 2).unflatten(1, heads) if heads else x


def averaging_matrices(
    grid: Sequence[int],
    cells: Sequence[int],
    dtype: torch.dtype,
    device: torch.device,
    rows: slice = slice(None),
) -> list[Tensor]:
    """For each axis the matrix `(l, n)` that averages it; of the first one the columns of `rows` alone."""
    shares = (rows, *[slice(None)] * (len(grid) - 1))
    return [_averaging_matrix(*axis, dtype, device) for axis in zip(grid, cells, shares, strict=True)]


def _averaging_matrix(n: int, l: int, columns: slice, dtype: torch.dtype, device: torch.device) -> Tensor:  # noqa: E741
    # With the axis cut into n l steps, token t covers those from t l on, cell i those from i n on.
    cell = torch.arange(l, device=device)[:, None]
    ahead = torch.arange(n, device=device)[columns] * l - cell * n
    inside = ((ahead > -l) & (ahead < n)).to(dtype)
    if columns == slice(None):
        return inside / inside.sum(-1, keepdim=True)
    return inside / (((cell + 1) * n + l - 1) // l - cell * n // l)


def _used_cells(valid: Tensor, limit: int, cells: Tensor | None) -> Tensor:
    most = valid.sum(-1).clamp(max=limit)
    return most if cells is None else torch.minimum(most, cells)


def average_in_order(
    x: Tensor,
    valid: Tensor,
    used: Tensor,
    limit: int,
    *,
    before: Tensor | None = None,
    in_all: Tensor | None = None,
) -> Tensor:
    """Means over cells of valid tokens in their order: a segment sum, and the tokens that two cells share.

    Args:
        x: `(B, ..., N, C)`, zero at masked tokens.
        valid: bool `(B, N)`.
        used: `(B,)`, how many cells each sample has.
        limit: the most that a sample may have.
        before: `(B,)`, where these are a part of the tokens: how many valid ones come before them. What they
            add to each mean is returned then.
        in_all: `(B,)`, how many there are in all.
    """
    batch, tokens, channels = x.shape[0], x.shape[-2], x.shape[-1]
    here = valid.cumsum(-1)
    seen = here if before is None else here + before[:, None]
    n = (seen[:, -1:] if in_all is None else in_all[:, None]).clamp(min=1)
    l = used[:, None].clamp(min=1)  # noqa: E741
    # Every token adds to the first cell that holds it; masked tokens are zero and may add anywhere.
    first = (seen - 1).clamp(min=0) * l // n
    # A cell whose border cuts a token shares that token with the cell before.
    cell = torch.arange(limit, device=x.device)
    begin = cell * n // l
    shares = (cell < l) & (cell * n % l != 0)
    if before is not None:
        shares &= (begin >= before[:, None]) & (begin < seen[:, -1:])
    size = (((cell + 1) * n + l - 1) // l - begin).clamp(min=1)
    place = begin if before is None else begin - before[:, None]
    border = _places(valid, here).gather(1, place.clamp(0, tokens - 1))

    copies = prod(x.shape[1:-2])
    rows, shape = x.reshape(-1, channels), (batch, copies, limit, channels)
    sample = torch.arange(batch * copies, device=x.device).reshape(batch, copies, 1)
    total = _sum_by_cell(rows, (first[:, None] + sample * limit).flatten(), batch * copies * limit)
    extra = rows.index_select(0, (border[:, None] + sample * tokens).flatten()).reshape(shape)
    total = total.reshape(shape) + extra * shares[:, None, :, None]
    return (total / size[:, None, :, None]).reshape(*x.shape[:-2], limit, channels)


def _places(valid: Tensor, seen: Tensor) -> Tensor:
    """The place of the valid token of each rank, `(B, N)`, and zeros for ranks that no token has."""
    batch, tokens = valid.shape
    place = torch.arange(tokens, device=valid.device).expand(batch, tokens)
    # Masked tokens all write to a column before the first rank, which is cut off.
    return seen.new_zeros(batch, tokens + 1).scatter(1, seen * valid, place)[:, 1:]


def _sum_by_cell(rows: Tensor, cell: Tensor, count: int) -> Tensor:
    zeros = rows.new_zeros(count, rows.shape[-1])
    if rows.is_cuda:  # sorts, and so is deterministic, where the atomics of scatter_add are not
        return zeros.index_put((cell,), rows, accumulate=True)
    return zeros.scatter_add(0, cell[:, None].expand_as(rows), rows)


def _check_cells(cells: Tensor | None, mask: Tensor | None, grid: tuple[int, ...], *, batch: int) -> None:
    if cells is None:
        return
    if mask is None or len(grid) != 1:
        raise ValueError("cells is for sequences with a mask only: give a mask and a grid of one axis")
    if tuple(cells.shape) != (batch,):
        raise ValueError(f"cells must be (batch,) = {(batch,)}; got {tuple(cells.shape)}")
