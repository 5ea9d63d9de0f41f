import pytest

from crosshead.cli.forecast import Epoch, Forecast


def told(forecast: Forecast, epoch: int, *, start: float, step: float, validation: float = 0.0) -> float:
    """A whole epoch, each of whose steps takes so many seconds; returns its end."""
    forecast.begin(epoch, now=start)
    now = start
    for done in range(1, forecast.steps + 1):
        now += step
        forecast.step(done, now=now)
    if validation:
        forecast.validate(0, now=now)
        now += validation
        forecast.validate(forecast.val_batches, now=now)
    forecast.end(now=now)
    return now


def alike(count: int, *, validated: bool = False) -> list[Epoch]:
    return [Epoch("", validated)] * count


def test_before_anything_is_known_nothing_is_said():
    forecast = Forecast(alike(3), steps=10, val_batches=0)
    forecast.begin(0, now=5.0)
    assert forecast.left(now=5.0) == ""
    # The first step may have waited for loaders and a compiler.
    forecast.step(1, now=50.0)
    assert forecast.left(now=50.0) == ""
    forecast.step(2, now=51.0)
    assert forecast.left(now=51.0) == "0:00:28 left"


def test_epochs_alike_take_as_long_as_the_latest():
    forecast = Forecast(alike(4), steps=10, val_batches=0)
    now = told(forecast, 0, start=0.0, step=9.0)
    now = told(forecast, 1, start=now, step=1.0)
    assert forecast.left(now=now) == "0:00:20 left"
    now = told(forecast, 3, start=now, step=1.0)
    assert forecast.left(now=now) == "0:00:00 left"


def test_a_validation_is_part_of_the_time_and_does_not_stand_still():
    forecast = Forecast(alike(2, validated=True), steps=10, val_batches=4)
    now = told(forecast, 0, start=0.0, step=1.0, validation=20.0)
    assert forecast.left(now=now) == "0:00:30 left"
    forecast.begin(1, now=now)
    for done in range(1, 11):
        forecast.step(done, now=now + done)
    forecast.validate(0, now=now + 10)
    assert forecast.left(now=now + 10) == "0:00:20 left"
    assert forecast.left(now=now + 12) == "0:00:18 left"
    forecast.validate(1, now=now + 15)
    assert forecast.left(now=now + 15) == "0:00:15 left"


def test_epochs_that_are_not_validated_take_no_validation():
    epochs = [Epoch("", True), Epoch("", False), Epoch("", True)]
    forecast = Forecast(epochs, steps=10, val_batches=4)
    now = told(forecast, 0, start=0.0, step=1.0, validation=20.0)
    assert forecast.left(now=now) == "0:00:40 left"


@pytest.mark.parametrize("later", [0.1, 30.0])
def test_of_a_kind_that_has_not_begun_nothing_is_said(later):
    """Whether blocks will be cheaper or dearer than attention, nobody knows yet."""
    kinds = ["attention", "attention", "blocks", "blocks", "blocks"]
    forecast = Forecast([Epoch(kind, False) for kind in kinds], steps=10, val_batches=0)
    now = told(forecast, 0, start=0.0, step=1.0)
    assert forecast.left(now=now) == "0:00:10 left of attention"
    now = told(forecast, 1, start=now, step=1.0)
    assert forecast.left(now=now) == ""
    forecast.begin(2, now=now)
    assert forecast.left(now=now) == ""
    for done in (1, 2):
        forecast.step(done, now=now + done * later)
    seconds = round(28 * later + 0.49)
    assert forecast.left(now=now + 2 * later) == f"0:{seconds // 60:02}:{seconds % 60:02} left"
