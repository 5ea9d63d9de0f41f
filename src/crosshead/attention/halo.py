"""Rows that a convolution needs beyond those of its rank, taken from the ranks that have them.

Legend: `B` batch, `C` channels, `n` rows of this rank, `h` rows of a halo on one side.
"""

from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from crosshead.attention.collectives import swap_rows

if TYPE_CHECKING:
    from crosshead.attention.sequence_parallel import Ranks


def with_halo(image: Tensor, *, width: int, rows: Sequence[int], ranks: "Ranks") -> tuple[Tensor, int]:
    """A rank's rows with those around them, as many as the grid has.

    Args:
        image: `(B, C, n, ...)`.
        width: `h`.
        rows: how many rows each rank has.
        ranks: who shares the rows.

    Returns:
        `(B, C, above + n + below, ...)`, and how many are above.
    """
    ends = list(accumulate(rows))
    spans = [(end - own, end) for own, end in zip(rows, ends, strict=True)]
    here = spans[ranks.rank]
    rows_first = image.movedim(2, 0)
    given, give, take = [], [], []
    for rank, there in enumerate(spans):
        first, last = _needed(by=there, of=here, width=width) if rank != ranks.rank else (0, 0)
        given.append(rows_first[first - here[0] : last - here[0]] if last else rows_first[:0])
        give.append(last - first)
        first, last = _needed(by=here, of=there, width=width) if rank != ranks.rank else (0, 0)
        take.append(last - first)
    flat = torch.cat(given).flatten(1)
    taken = swap_rows(flat, ranks.group, give=give, take=take).unflatten(1, rows_first.shape[1:])
    above = sum(take[: ranks.rank])
    return torch.cat([taken[:above], rows_first, taken[above:]]).movedim(0, 2), above


def _needed(*, by: tuple[int, int], of: tuple[int, int], width: int) -> tuple[int, int]:
    """The rows of one rank, first and last, that stand in the halo of another; none is `(0, 0)`."""
    if of[1] <= by[0]:
        first, last = max(of[0], by[0] - width), of[1]
    else:
        first, last = of[0], min(of[1], by[1] + width)
    return (first, last) if first < last else (0, 0)
