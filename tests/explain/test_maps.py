"""Rows and columns of the map are those of the dense oracle, in float64, for every kind of layer and mask."""

from typing import Any

import pytest
import torch

from crosshead.explain import factors
from crosshead.explain.maps import map_columns, map_rows, on_grid
from crosshead.explain.record import record

EXACT: Any = {"rtol": 1e-10, "atol": 1e-12}


def assert_map(call, expected: torch.Tensor, **tolerance: Any) -> None:
    """Every row and every column, which takes every entry twice."""
    queries, keys = expected.shape[2:]
    torch.testing.assert_close(map_rows(call, range(queries)), expected, **tolerance)
    torch.testing.assert_close(map_columns(call, range(keys)), expected, **tolerance)


def test_rows_and_columns_are_those_of_the_oracle(case, recorded, dense_map):
    layer, x, arguments = case
    expected = dense_map(layer, x, **arguments)
    assert expected.any()
    assert_map(recorded(layer, x, **arguments), expected, **EXACT)


@pytest.mark.parametrize("name", ["masked prefix", "cross, masked sequences"])
def test_tiles_of_tokens_change_nothing(name, make_case, recorded, dense_map, monkeypatch):
    monkeypatch.setattr(factors, "TILE_ELEMENTS", 0)
    monkeypatch.setattr(factors, "SHORTEST_TILE", 3)
    layer, x, arguments = make_case(name)
    assert_map(recorded(layer, x, **arguments), dense_map(layer, x, **arguments), **EXACT)


def test_the_map_times_the_values_is_what_the_heads_gave(case):
    layer, x, arguments = case
    with torch.no_grad(), record(layer, gradients=True) as recording:
        layer(x, **arguments)
    call = recording[0]
    given = torch.cat([output for _, output in call.factors.outputs()], 2)
    torch.testing.assert_close(given, call.output, **EXACT)


@pytest.mark.parametrize("impl", ["reference", "streamed", "auto"])
@pytest.mark.parametrize("name", ["everything", "cross, masked keys"])
def test_no_implementation_changes_what_is_seen(impl, name, make_case, recorded, dense_map):
    layer, x, arguments = make_case(name, impl=impl)
    expected = dense_map(layer, x, **arguments).float()
    arguments = {
        key: value.float() if isinstance(value, torch.Tensor) and value.is_floating_point() else value
        for key, value in arguments.items()
    }
    assert_map(recorded(layer.float(), x.float(), **arguments), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("how", ["half", "autocast"])
def test_bfloat16_is_seen_as_it_was_computed(how, make_case):
    layer, x, arguments = make_case("prefix")
    layer, x = layer.float(), x.float()
    if how == "half":
        layer, x = layer.bfloat16(), x.bfloat16()
    with (
        torch.no_grad(),
        torch.autocast("cpu", torch.bfloat16, enabled=how == "autocast"),
        record(layer, gradients=True) as recording,
    ):
        layer(x, **arguments)
    call = recording[0]
    given = torch.cat([output for _, output in call.factors.outputs()], 2)
    assert call.output is not None
    assert call.output.dtype == torch.bfloat16
    # To within the rounding of factors, sums and outputs to 8 bits; float32 projections would be further off.
    torch.testing.assert_close(given, call.output.float(), rtol=2**-7, atol=2**-7)


def test_a_prefix_token_looks_and_is_looked_at(make_case, recorded, dense_map):
    layer, x, arguments = make_case("prefix")
    call, expected = recorded(layer, x, **arguments), dense_map(layer, x, **arguments)
    torch.testing.assert_close(map_rows(call, 1)[:, :, 0], expected[:, :, 1], **EXACT)
    torch.testing.assert_close(map_columns(call, 0)[..., 0], expected[..., 0], **EXACT)


def test_places_heads_and_lists_choose(make_case, recorded):
    layer, x, arguments = make_case("prefix")
    call = recorded(layer, x, **arguments)
    rows = map_rows(call, range(22))
    # A place counts from the corner of the grid of 4 x 5, behind two prefix tokens.
    torch.testing.assert_close(map_rows(call, (3, 1), heads=2), rows[:, 2:3, 18:19])
    torch.testing.assert_close(map_rows(call, [(0, 0), 1], heads=[3, 0]), rows[:, [3, 0]][:, :, [2, 1]])
    columns = map_columns(call, [(0, 4), 0], heads=1)
    torch.testing.assert_close(columns, rows[:, 1:2][..., [6, 0]])


def test_a_row_lies_on_the_grid_that_is_looked_at(make_case, recorded):
    layer, x, arguments = make_case("cross, prefix, normalised")
    call = recorded(layer, x, **arguments)
    row = map_rows(call, (2, 2))
    laid = on_grid(row, call.key_grid)
    assert laid.shape == (3, 4, 1, 4, 2)
    torch.testing.assert_close(laid[..., 3, 1], row[..., 2 + 7])


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        ({"tokens": (4, 0)}, r"token \(4, 0\) is outside the grid \(4, 5\): the nearest is \(3, 0\)"),
        ({"tokens": (1,)}, r"token \(1,\) must have 2 numbers, one for each axis of the grid \(4, 5\)"),
        (
            {"tokens": 22},
            r"outside the grid \(4, 5\), 2 before the grid and 20 on it: give 0 to 21, or a place",
        ),
        ({"tokens": -1}, "token -1 is outside the grid"),
        ({"tokens": []}, "tokens must be one or more; got none"),
        ({"tokens": 0, "heads": 4}, "head must lie in 0 to 3; got 4: the nearest is 3"),
        ({"tokens": 0, "heads": []}, "heads must be one or more; got none"),
    ],
)
def test_what_is_not_there_is_told_in_a_line(ask, message, make_case, recorded):
    layer, x, arguments = make_case("prefix")
    call = recorded(layer, x, **arguments)
    for look in (map_rows, map_columns):
        with pytest.raises(ValueError, match=message) as caught:
            look(call, **ask)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("tokens", ["corner", 1.5, (0.5, 1), True])
def test_a_token_is_a_number_or_a_place(tokens, make_case, recorded):
    layer, x, arguments = make_case("prefix")
    with pytest.raises(TypeError, match="must be an integer"):
        map_rows(recorded(layer, x, **arguments), tokens)
