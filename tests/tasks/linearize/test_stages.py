"""Which epochs are for what, and how fast they learn."""

import pytest

from crosshead.tasks.linearize.stages import Stage, plan


def test_a_block_has_a_warm_up_of_its_own():
    stage = Stage("block", first=4, epochs=1, peak=5e-4, block=0)
    rates = [stage.rate(epoch, warm_up=1, lowest=1e-6) for epoch in (4, 4.025, 4.05, 4.525, 4.9999)]
    assert rates == pytest.approx([0, 2.5e-4, 5e-4, 2.505e-4, 1e-6], rel=1e-3, abs=2e-8)


def test_a_warm_up_is_at_most_half_of_a_stage():
    stage = Stage("attention", first=0, epochs=2, peak=1e-3)
    rates = [stage.rate(epoch, warm_up=5, lowest=0.0) for epoch in (0, 0.5, 1, 2)]
    assert rates == pytest.approx([0, 5e-4, 1e-3, 0])


def test_a_stage_that_has_no_epochs_is_left_out():
    rates = (1e-3, 3e-4, 1e-5)
    assert plan((0, 2), [], rates) == [Stage("features", 0, 2, 1e-5)]
    assert plan((2, 0), [], rates) == [Stage("attention", 0, 2, 1e-3)]
    assert plan((0, 0), [0, 2], rates) == [Stage("block", 0, 1, 3e-4, 0), Stage("block", 1, 1, 3e-4, 2)]
