"""The attention map of a layer, row by row and column by column.

Legend: `B` batch, `H` heads, `N` query tokens, `M` key tokens, `L` landmarks.

The map of a head is `A = F_q F_k`, N x M: `A[i, j]` says how much of what token j holds goes into what token
i gets from this head. It is never formed: a row is a row of `F_q` times `F_k`, a column is `F_q` times a
column of `F_k`. Rows of valid tokens sum to one, unless the layer mixes weights: then entries may be
negative, and rows may sum to anything. A local term, where the layer has one, is a convolution beside the map
and no part of it.
"""

from math import prod

import torch
from torch import Tensor

from crosshead.explain.call import LayerCall
from crosshead.explain.selection import Heads, Places, head_numbers, place_numbers


def map_rows(call: LayerCall, tokens: Places, *, heads: Heads = None) -> Tensor:
    """Where tokens look: rows of the map.

        A[i, :] = F_q[i, :] F_k          O(M L H (D + H)) for one or several i

    Args:
        call: of a layer, from a recording.
        tokens: of the grid that asks: a number, a place such as `(row, column)`, or a list of these. Numbers
            count prefix tokens first. None for all, the whole N x M.
        heads: a number or several; None for all.

    Returns:
        `(B, heads, tokens, M)`, prefix tokens first; `on_grid` lays them on their grid. Rows of masked tokens
        are zero, and so are entries at masked keys.

    Raises:
        ValueError: if there is no such token or head; if the layer's weights have changed.
        TypeError: if a token or head is not a number.

    Source: arXiv 2402.17507, equation 6, read from the left.

    Example:
        >>> from crosshead import InteractiveAttention
        >>> from crosshead.explain import map_rows, record
        >>> layer = InteractiveAttention(32, 4, landmarks=(2, 3))
        >>> with record(layer) as recording:
        ...     y = layer(torch.randn(1, 5 * 6, 32), grid=(5, 6))
        >>> rows = map_rows(recording[0], [(0, 0), (4, 5)], heads=2)
        >>> rows.shape, torch.allclose(rows.sum(-1), torch.ones(1, 1, 2))
        (torch.Size([1, 1, 2, 30]), True)
    """
    chosen, of = query_numbers(call, tokens), head_numbers(heads, call.heads)
    left = call.factors.query(chosen)[:, of]
    return torch.cat([left @ call.factors.key(tile)[:, of] for tile in call.factors.key_tiles()], -1)


def map_columns(call: LayerCall, tokens: Places, *, heads: Heads = None) -> Tensor:
    """Who looks at tokens: columns of the map.

        A[:, j] = F_q F_k[:, j]          O(N L H (D + H)) for one or several j

    Args:
        call: of a layer, from a recording.
        tokens: of the grid that is looked at, as for `map_rows`.
        heads: a number or several; None for all.

    Returns:
        `(B, heads, N, tokens)`, prefix tokens first.

    Raises:
        ValueError: if there is no such token or head; if the layer's weights have changed.
        TypeError: if a token or head is not a number.

    Source: arXiv 2402.17507, equation 6, read from the right.

    Example:
        >>> from crosshead import InteractiveAttention
        >>> from crosshead.explain import map_columns, map_rows, record
        >>> layer = InteractiveAttention(32, 4, landmarks=(2, 3))
        >>> with record(layer) as recording:
        ...     y = layer(torch.randn(1, 5 * 6, 32), grid=(5, 6))
        >>> row, column = map_rows(recording[0], 7), map_columns(recording[0], (2, 1))
        >>> column.shape, torch.allclose(row[0, :, 0, 13], column[0, :, 7, 0])
        (torch.Size([1, 4, 30, 1]), True)
    """
    chosen, of = key_numbers(call, tokens), head_numbers(heads, call.heads)
    right = call.factors.key(chosen)[:, of]
    return torch.cat([call.factors.query(tile)[:, of] @ right for tile in call.factors.query_tiles()], -2)


def on_grid(values: Tensor, grid: tuple[int, ...]) -> Tensor:
    """`(..., tokens)` as `(..., *grid)`; prefix tokens, which stand before the grid, are left out.

    Example:
        >>> on_grid(torch.arange(7), (2, 3)).tolist()
        [[1, 2, 3], [4, 5, 6]]
    """
    return values[..., values.shape[-1] - prod(grid) :].unflatten(-1, grid)


def query_numbers(call: LayerCall, tokens: Places) -> list[int]:
    """The numbers of tokens that ask.

    Raises:
        ValueError, TypeError: as `map_rows`.
    """
    return place_numbers(tokens, what="token", grid=call.grid, num_prefix_tokens=call.num_prefix_tokens)


def key_numbers(call: LayerCall, tokens: Places) -> list[int]:
    """The numbers of tokens that are looked at.

    Raises:
        ValueError, TypeError: as `map_columns`.
    """
    return place_numbers(tokens, what="token", grid=call.key_grid, num_prefix_tokens=call.num_prefix_tokens)


def landmark_numbers(call: LayerCall, landmarks: Places) -> list[int]:
    """The numbers of landmarks; a tuple is the place of a cell.

    Raises:
        ValueError: if there is no such landmark.
        TypeError: if a landmark is not a number.
    """
    return place_numbers(
        landmarks, what="landmark", grid=call.cells, num_prefix_tokens=call.num_prefix_tokens
    )
