"""The maps that a page shows are those of the layer, cell by cell."""

import pytest
import torch

from crosshead.explain.maps import map_rows
from crosshead.explain.page.cells import Cells
from crosshead.explain.page.layer import landmark_boxes, layer_content, shown_factors
from crosshead.explain.page.numbers import Numbers

IMAGES = ["image", "no mixing", "groups", "prefix", "normalised", "fewer tokens than landmarks"]


@pytest.mark.parametrize("count", [1000, 6])
@pytest.mark.parametrize("name", IMAGES)
def test_between_cells_a_map_is_the_mean_of_sums(make_case, recorded, name, count):
    layer, x, arguments = make_case(name)
    call = recorded(layer, x, **arguments)
    cells = Cells.at_most(count, grid=call.grid, prefix=call.num_prefix_tokens)
    query, key = shown_factors(call, cells, sample=1)
    whole = map_rows(call, None)[1]
    expected = cells.gathered(cells.gathered(whole, "sum"), "mean", axis=1)
    assert torch.allclose(query @ key, expected, rtol=1e-12, atol=1e-12)


def test_the_cells_of_landmarks_are_those_that_they_average(make_case, recorded):
    layer, x, arguments = make_case("prefix")
    call = recorded(layer, x, **arguments)
    boxes = landmark_boxes(call)
    assert boxes[:2] == [None, None]
    # Two rows of cells over four rows of tokens, three columns over five.
    assert boxes[2] == pytest.approx([0, 0, 0.5, 0.4])
    assert boxes[-1] == pytest.approx([0.5, 0.6, 1, 1])
    assert len(boxes) == call.key_landmarks.shape[2]


def test_what_heads_give_each_other_is_there(make_case, recorded):
    layer, x, arguments = make_case("groups")
    call = recorded(layer, x, **arguments)
    content = layer_content(call, Cells.at_most(99, grid=call.grid, prefix=0), Numbers())
    pairs = torch.tensor(content["pairs"])
    assert torch.equal(pairs > 0, torch.block_diag(*[1 - torch.eye(2)] * 2) > 0)
    assert set(content["mixing"]) == {"query_logits", "query_weights", "key_logits", "key_weights"}
    assert content["diversity"][0] != content["diversity"][1]


def test_a_layer_without_mixing_has_no_pairs(make_case, recorded):
    layer, x, arguments = make_case("no mixing")
    call = recorded(layer, x, **arguments)
    content = layer_content(call, Cells.at_most(99, grid=call.grid, prefix=0), Numbers())
    assert content["pairs"] is None
    assert content["mixing"] == {}


def test_cross_attention_is_refused(make_case, recorded):
    layer, x, arguments = make_case("cross")
    call = recorded(layer, x, **arguments)
    with pytest.raises(ValueError, match="looks at a context: a page shows layers that look at their tokens"):
        layer_content(call, Cells.at_most(99, grid=call.grid, prefix=0), Numbers())
