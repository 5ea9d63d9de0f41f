"""What longer runs take is extrapolated from shorter ones."""

import pytest

from crosshead.bench.forecast import Forecast


def test_nothing_is_known_at_first():
    assert Forecast().seconds(10) is None
    assert Forecast().bytes(10) == 0


@pytest.mark.parametrize(("order", "seconds"), [(1, 8.0), (2, 32.0)])
def test_time_grows_by_its_order_from_the_last_length(order, seconds):
    forecast = Forecast(time_order=order)
    forecast.add_time(1, 99.0)
    forecast.add_time(10, 2.0)
    assert forecast.seconds(40) == seconds


@pytest.mark.parametrize(("slow", "seconds"), [(8.0, 64.0), (2.0, 8.0), (1.0, 4.0), (100.0, 1600.0)])
def test_without_an_order_the_last_two_lengths_tell_it_from_one_to_two(slow, seconds):
    forecast = Forecast()
    forecast.add_time(10, 1.0)
    assert forecast.seconds(40) == 4.0
    forecast.add_time(40, slow)
    # 8 is four to the power 1.5; 2 and 1 grow by less than one, 100 by more than two.
    assert forecast.seconds(160) == pytest.approx(seconds)


def test_a_length_measured_again_replaces_the_guess():
    forecast = Forecast()
    forecast.add_time(10, 5.0)
    forecast.add_time(10, 1.0)
    assert forecast.seconds(20) == 2.0


def test_memory_grows_by_an_order_of_its_own():
    forecast = Forecast(time_order=2, memory_order=1)
    forecast.add_memory(10, 100)
    assert forecast.bytes(40) == 400
    forecast.add_memory(20, -5)
    assert forecast.bytes(40) == 0
