"""The slope of the gain over the number of heads, from rows alone."""

import math
from typing import Any

import pytest

from crosshead.study.heads import WITH, WITHOUT, heads_in_words, read_heads
from crosshead.study.plans import SLOW_MIXING
from crosshead.study.report import choose_base
from crosshead.study.statistics import summaries

# Gains in per cent by heads, for three seeds: slopes 1, 2 and 3 for each doubling.
GAINS = {2: (0, 1, 2), 4: (1, 3, 5), 8: (2, 5, 8)}


@pytest.fixture
def rows(make_row):
    found = []
    for heads, gains in GAINS.items():
        form = SLOW_MIXING if heads == 8 else WITH
        for seed, gain in enumerate(gains):
            found.append(make_row(0.5 + gain / 100, attention=form, heads=heads, seed=seed))
            found.append(make_row(0.5, attention=WITHOUT, heads=heads, seed=seed))
    return found


def report_of(rows) -> Any:
    return read_heads(rows)


def test_the_slope_is_fitted_seed_by_seed(rows):
    report = report_of(rows)
    assert report.slope.pairs == 3
    assert report.slope.mean == pytest.approx(0.02)
    # Student's t of two degrees of freedom, 4.3027, times an error of 1 / sqrt(3) per cent.
    assert report.slope.low == pytest.approx(0.02 - 0.024841, abs=1e-5)
    assert {heads: gain.mean for heads, gain in report.gains.items()} == pytest.approx(
        {2: 0.01, 4: 0.03, 8: 0.05}
    )


def test_only_seeds_and_heads_that_both_arms_have_count(rows, make_row):
    more = [
        make_row(0.9, attention=WITH, heads=8, seed=3),
        make_row(0.9, attention=WITH, heads=1),
        make_row(0.2, attention="softmax", heads=8),
    ]
    assert report_of([*rows, *more]).slope == report_of(rows).slope


def test_fewer_than_two_numbers_of_heads_have_no_slope(rows, make_row):
    assert read_heads([row for row in rows if row["heads"] == "2"]) is None
    assert read_heads([row for row in rows if row["attention"] == WITHOUT]) is None
    apart = [
        make_row(0.5, attention=arm, heads=heads, seed=heads) for arm in (WITH, WITHOUT) for heads in (2, 4)
    ]
    assert read_heads(apart) is None


def test_the_best_number_of_heads_is_chosen_on_validation(rows, make_row):
    scores = {WITH: {2: 0.3, 4: 0.8, 8: 0.4}, WITHOUT: {2: 0.6, 4: 0.5, 8: 0.4}}
    validated = [
        make_row(
            score,
            attention=SLOW_MIXING if (arm, heads) == (WITH, 8) else arm,
            heads=heads,
            split="validation",
            samples=32,
        )
        for arm, by_heads in scores.items()
        for heads, score in by_heads.items()
    ]
    report = report_of([*rows, *validated])
    assert (report.best_with.heads, report.best_without.heads) == (4, 2)
    assert report.best.mean == pytest.approx(0.03)
    assert report_of(rows).best is None
    # What was tried at another rate, or in another form, was not chosen.
    others = [
        make_row(0.99, attention=WITH, heads=8, split="validation"),
        make_row(0.99, attention=WITHOUT, heads=8, split="validation", learning_rate=0.5),
    ]
    assert report_of([*rows, *validated, *others]).best_with.heads == 4


def test_it_is_told_line_by_line(rows):
    lines = heads_in_words(report_of(rows))
    assert lines[0] == "  2 heads: both minus none +1.00 % (-1.48 to +3.48)"
    assert lines[-1] == "slope: +2.00 % for each doubling of the heads (-0.48 to +4.48)"
    assert not any("nan" in line for line in lines)


def test_a_diverged_training_shows(rows, make_row):
    rows = [row for row in rows if row["attention"] != WITH or row["heads"] != "2"]
    rows += [make_row(math.nan, attention=WITH, heads=2, seed=seed) for seed in range(3)]
    assert math.isnan(report_of(rows).slope.mean)


def test_arms_with_as_many_heads_are_compared_with_none(make_row):
    names = (WITHOUT, SLOW_MIXING, "interactive:mixing=logits", "softmax")
    assert choose_base(summaries([make_row(0.5, attention=name) for name in names])).attention == WITHOUT
