"""The cells that a page shows: tokens of a grid, or a few neighbours together where there are many.

Legend: `N` tokens, `T` what is shown: prefix tokens first, then cells.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, sqrt
from typing import Literal

import torch
from torch import Tensor


@dataclass(frozen=True)
class Cells:
    """How tokens are brought together: cells share a grid between them, each token in one.

    Attributes:
        grid: rows and columns of the tokens.
        shown: rows and columns of the cells.
        prefix: tokens before the grid, shown as they are.
    """

    grid: tuple[int, int]
    shown: tuple[int, int]
    prefix: int

    @classmethod
    def at_most(cls, count: int, *, grid: Sequence[int], prefix: int) -> "Cells":
        """As many cells as there are tokens, or about `count` of the same shape where these are more.

        Raises:
            ValueError: if the grid has not two axes.

        Example:
            >>> Cells.at_most(784, grid=(64, 32), prefix=1).shown
            (40, 20)
        """
        if len(grid) != 2:
            raise ValueError(f"a page shows grids of two axes; got {tuple(grid)}")
        rows, columns = grid
        scale = max(1.0, sqrt(rows * columns / count))
        shown = ceil(rows / scale), ceil(columns / scale)
        return cls((rows, columns), shown, prefix)

    def numbers(self) -> Tensor:
        """The cell of each token, `(N,)`, prefix tokens first.

        Example:
            >>> Cells((2, 4), (1, 2), prefix=1).numbers().tolist()
            [0, 1, 1, 2, 2, 1, 1, 2, 2]
        """
        row, column = (
            torch.arange(length) * few // length for length, few in zip(self.grid, self.shown, strict=True)
        )
        cells = (row[:, None] * self.shown[1] + column).flatten() + self.prefix
        return torch.cat([torch.arange(self.prefix), cells])

    def gathered(self, values: Tensor, how: Literal["sum", "mean"], *, axis: int = -1) -> Tensor:
        """One axis of tokens as one of cells: N to T.

        Example:
            >>> Cells((1, 4), (1, 2), prefix=0).gathered(torch.tensor([1.0, 2.0, 3.0, 5.0]), "mean").tolist()
            [1.5, 4.0]
        """
        numbers = self.numbers().to(values.device)
        count = self.prefix + self.shown[0] * self.shown[1]
        values = values.movedim(axis, 0)
        total = values.new_zeros(count, *values.shape[1:]).index_add_(0, numbers, values)
        if how == "mean":
            sizes = numbers.bincount(minlength=count).to(total)
            total = total / sizes.reshape(-1, *[1] * (total.ndim - 1))
        return total.movedim(0, axis)
