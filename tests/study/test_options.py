"""Presets of the data sets, flags that change them, and numbers that cannot be."""

import pytest

from crosshead.study.options import (
    BUDGETS,
    PrimaryOptions,
    RivalsOptions,
    StudyOptions,
)


def test_the_primary_test_is_the_one_that_was_written_down():
    options = PrimaryOptions()
    budget = options.budget()
    assert options.data == "fashion-mnist"
    assert vars(budget.shape) == {
        "image_size": 28,
        "patch_size": 2,
        "dim": 64,
        "depth": 2,
        "heads": 8,
        "mlp_ratio": 2,
        "landmarks": 7,
    }
    assert (budget.samples, budget.select_samples) == (30_000, 12_000)
    assert (options.batch_size, options.weight_decay, options.seeds) == (16, 0.05, 8)
    assert options.learning_rates == (1e-3, 2e-3, 4e-3)


@pytest.mark.parametrize("data", BUDGETS)
def test_every_preset_fits_together(data):
    shape = BUDGETS[data].shape
    assert shape.image_size % shape.patch_size == 0
    assert shape.dim % (4 * shape.heads) == 0 or shape.dim % shape.heads == shape.dim % 4 == 0
    assert BUDGETS[data].select_samples < BUDGETS[data].samples


def test_flags_change_the_preset_and_nothing_else():
    preset = BUDGETS["digits"]
    budget = StudyOptions(data="digits", dim=32, heads=4, samples=100).budget()
    assert (budget.shape.dim, budget.shape.heads, budget.samples) == (32, 4, 100)
    assert (budget.shape.depth, budget.select_samples) == (preset.shape.depth, preset.select_samples)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"seeds": 0}, "seeds is 0: give 1 or more"),
        ({"depth": 0}, "depth is 0"),
        ({"samples": 0}, "samples is 0"),
        ({"jobs": -1}, "jobs is -1"),
        ({"landmarks": 0}, "landmarks is 0"),
        ({"learning_rates": ()}, "at least one"),
        ({"learning_rates": (1e-3, 0.0)}, "above 0"),
        ({"image_size": 27}, "image_size 27 is no multiple of patch_size 2"),
        ({"heads": 7}, "dim is 64: give a multiple of 4 and of heads=7"),
        ({"dim": 70, "heads": 7}, "dim is 70"),
        ({"weight_decay": -0.1}, "weight_decay is -0.1"),
    ],
)
def test_what_cannot_be_is_told_with_its_value(flags, message):
    with pytest.raises(ValueError, match=message):
        RivalsOptions(**flags).budget()


def test_no_weight_decay_is_allowed():
    StudyOptions(weight_decay=0.0).budget()
