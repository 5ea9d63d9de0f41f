"""Traffic by arithmetic; that ranks exchange as much is counted in `test_sequence_parallel.py`."""

import pytest

from crosshead.measure.traffic import ring_attention_traffic, sharded_traffic

LAYER = {"dim": 32, "heads": 4, "landmarks": (4, 3), "batch": 2}


def test_the_formula_of_its_first_lines():
    traffic = sharded_traffic(grid=(64, 48), num_prefix_tokens=1, **LAYER)
    assert traffic.forward == 2 * 13 * (3 * 32 + 2 * 4) * 4
    assert traffic.backward == 2 * 13 * (3 * 32 + 4) * 4


@pytest.mark.parametrize("options", [{}, {"masked": True}, {"num_prefix_tokens": 3}, {"dtype": "bfloat16"}])
def test_more_tokens_move_nothing_more(options):
    assert sharded_traffic(grid=(8, 6), **LAYER, **options) == sharded_traffic(
        grid=(800, 600), **LAYER, **options
    )


def test_halos_grow_with_columns_and_never_with_rows():
    one, rows, columns = (
        sharded_traffic(grid=grid, local_kernel=3, **LAYER) for grid in ((8, 6), (80, 6), (8, 60))
    )
    assert one == rows
    assert columns.halo == 10 * one.halo == 10 * (2 * 6 * 2 * 32 * 4)


def test_sums_are_wide_whatever_the_tokens():
    half, single, double = (
        sharded_traffic(grid=(8, 6), dtype=dtype, **LAYER) for dtype in ("float16", "float32", "float64")
    )
    assert half == single
    assert double.forward == 2 * single.forward


def test_a_ring_hands_each_sum_round_twice():
    traffic = sharded_traffic(grid=(8, 6), **LAYER)
    assert traffic.sent(1) == 0
    assert traffic.sent(4) == 2 * 3 * (traffic.forward + traffic.backward) // 4 + 3 * 32


def test_ring_attention_moves_keys_and_values_and_backward_their_gradients_too():
    assert ring_attention_traffic(tokens=100, dim=8, ranks=4) == 3 * 25 * 8 * 4 * 6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": "int8"}, "dtype must be one of .*got 'int8'"),
        ({"batch": 0}, "batch must be at least 1; got 32, 4 and 0"),
        ({"landmarks": (4,)}, "landmarks must be one number or one for each axis"),
    ],
)
def test_what_makes_no_sense_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        sharded_traffic(**{"grid": (8, 6), **LAYER, **options})
