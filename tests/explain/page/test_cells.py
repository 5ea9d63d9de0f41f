"""Tokens are brought together into cells, each in one, and nothing is lost."""

import pytest
import torch

from crosshead.explain.page.cells import Cells


@pytest.mark.parametrize(("grid", "count"), [((5, 7), 35), ((5, 7), 12), ((64, 48), 300), ((1, 9), 4)])
def test_each_token_is_in_one_cell_and_each_cell_has_tokens(grid, count):
    cells = Cells.at_most(count, grid=grid, prefix=2)
    numbers = cells.numbers()
    assert len(numbers) == 2 + grid[0] * grid[1]
    assert numbers.unique().tolist() == [*range(2 + cells.shown[0] * cells.shown[1])]
    assert cells.shown[0] * cells.shown[1] <= 1.6 * count


def test_cells_are_rectangles_in_the_order_of_the_grid():
    cells = Cells.at_most(12, grid=(5, 7), prefix=1)
    on_grid = cells.numbers()[1:].reshape(5, 7) - 1
    assert torch.equal(on_grid, on_grid.sort(0).values.sort(1).values)
    assert (on_grid[:, 0] % cells.shown[1] == 0).all()


def test_few_tokens_are_cells_themselves():
    cells = Cells.at_most(100, grid=(5, 7), prefix=1)
    assert cells.numbers().tolist() == [*range(36)]


def test_sums_keep_the_whole_and_means_keep_what_is_even():
    cells = Cells.at_most(12, grid=(5, 7), prefix=1)
    values = torch.randn(3, 36, dtype=torch.float64)
    assert torch.allclose(cells.gathered(values, "sum").sum(-1), values.sum(-1))
    assert torch.allclose(cells.gathered(torch.ones(3, 36), "mean"), torch.ones(()))
    assert torch.allclose(cells.gathered(values.mT, "mean", axis=0), cells.gathered(values, "mean").mT)


def test_grids_of_other_axes_are_refused():
    with pytest.raises(ValueError, match=r"a page shows grids of two axes; got \(4,\)"):
        Cells.at_most(10, grid=(4,), prefix=0)
