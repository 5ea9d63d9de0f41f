"""Means, standard errors and paired differences, against values computed otherwise."""

import math
from typing import Any

import pytest
from scipy import stats

from crosshead.study.statistics import difference, mean_and_error, paired, summaries

FIRST = [0.812, 0.834, 0.798, 0.851, 0.827]
SECOND = [0.803, 0.829, 0.801, 0.836, 0.815]


@pytest.fixture
def rows(make_row):
    return [
        make_row(accuracy, attention=attention, seed=seed)
        for attention, values in (("interactive", FIRST), ("softmax", SECOND))
        for seed, accuracy in enumerate(values)
    ]


def by_attention(rows):
    return {summary.attention: summary for summary in summaries(rows)}


def test_mean_and_error_by_hand():
    # Deviations -2, 0, 2: variance 8 / 2, error sqrt(4 / 3).
    assert mean_and_error([1.0, 3.0, 5.0]) == (3.0, pytest.approx(math.sqrt(4 / 3)))


def test_the_error_is_scipys():
    assert mean_and_error(FIRST)[1] == pytest.approx(stats.sem(FIRST), rel=1e-12)


def test_paired_differences_are_scipys_paired_t_test(rows):
    found = by_attention(rows)
    answer = difference(found["interactive"], found["softmax"])
    expected: Any = stats.ttest_rel(FIRST, SECOND)
    interval = expected.confidence_interval(0.95)
    assert answer is not None
    assert answer.pairs == 5
    assert answer.mean == pytest.approx(sum(FIRST) / 5 - sum(SECOND) / 5)
    assert (answer.low, answer.high) == pytest.approx((interval.low, interval.high))
    assert answer.p_value == pytest.approx(expected.pvalue)


def test_swapping_the_candidates_turns_the_sign(rows):
    found = by_attention(rows)
    one = difference(found["interactive"], found["softmax"])
    other = difference(found["softmax"], found["interactive"])
    assert one is not None
    assert other is not None
    assert (other.mean, other.low, other.high) == pytest.approx((-one.mean, -one.high, -one.low))


def test_only_seeds_that_both_have_are_paired_whatever_their_order(rows):
    fewer = [row for row in rows if not (row["attention"] == "softmax" and row["seed"] in ("0", "3"))]
    found = by_attention(fewer[::-1])
    answer = difference(found["interactive"], found["softmax"])
    shared = [FIRST[seed] - SECOND[seed] for seed in (1, 2, 4)]
    assert answer is not None
    assert answer.pairs == 3
    assert answer.mean == pytest.approx(sum(shared) / 3)
    expected: Any = stats.ttest_1samp(shared, 0)
    assert answer.p_value == pytest.approx(expected.pvalue)
    assert found["softmax"].seeds == (1, 2, 4)


def test_without_a_shared_seed_there_is_no_difference(make_row):
    rows = [make_row(0.9, seed=0), make_row(0.8, seed=1, attention="softmax")]
    found = by_attention(rows)
    assert difference(found["interactive"], found["softmax"]) is None


def test_of_a_single_seed_mean_is_known_and_error_is_not(make_row):
    rows = [make_row(0.9), make_row(0.8, attention="softmax")]
    found = by_attention(rows)
    assert found["interactive"].accuracy == 0.9
    assert math.isnan(found["interactive"].standard_error)
    answer = difference(found["interactive"], found["softmax"])
    assert answer is not None
    assert (answer.pairs, answer.mean) == (1, pytest.approx(0.1))
    assert all(map(math.isnan, (answer.low, answer.high, answer.p_value)))


def test_differences_that_are_all_equal_are_certain():
    same = paired([0.25, 0.25, 0.25])
    assert (same.low, same.high, same.p_value) == (0.25, 0.25, 0.0)
    assert paired([0.0, 0.0]).p_value == 1.0


def test_a_diverged_training_is_seen_and_spoils_no_other(rows, make_row):
    rows = [
        make_row(math.nan, attention="hydra", seed=0),
        make_row(0.99, attention="hydra", seed=1),
        *rows,
        make_row(0.9, attention="linformer", seed=0),
    ]
    found = summaries(rows)
    # Last, although another of its seeds is the best of all.
    assert [summary.attention for summary in found] == ["linformer", "interactive", "softmax", "hydra"]
    assert math.isnan(found[-1].accuracy)
    assert math.isnan(found[-1].standard_error)
    assert found[-1].seeds == (0, 1)
    assert found[1].accuracy == pytest.approx(sum(FIRST) / 5)
    answer = difference(found[-1], found[1])
    assert answer is not None
    assert all(map(math.isnan, (answer.mean, answer.low, answer.high, answer.p_value)))


def test_what_chose_learning_rates_is_not_published(rows, make_row):
    tried = [make_row(1.0, split="validation", seed=1000), make_row(1.0, attention="xca", split="validation")]
    assert summaries(rows + tried) == summaries(rows)
    assert difference(*summaries(rows + tried)) == difference(*summaries(rows))


def test_labels_say_what_sets_candidates_apart_and_no_more(make_row):
    alike = summaries([make_row(0.9), make_row(0.8, attention="softmax")])
    assert [summary.label for summary in alike] == ["interactive", "softmax"]
    apart = summaries([make_row(0.9, heads=4), make_row(0.8, heads=8), make_row(0.7, heads=2)])
    assert [summary.label for summary in apart] == [
        f"interactive · {heads} heads of {16 // heads}" for heads in (4, 8, 2)
    ]


def test_after_another_choice_of_learning_rate_only_the_last_one_stands(make_row):
    rows = [make_row(0.5, seed=seed, learning_rate=0.001) for seed in (0, 1, 2)]
    rows += [make_row(0.7, seed=seed, learning_rate=0.008) for seed in (0, 1)]
    rows += [make_row(0.6, seed=seed, attention="softmax") for seed in (0, 1)]
    ours, softmax = summaries(rows)
    assert (ours.accuracy, ours.seeds, ours.learning_rate) == (0.7, (0, 1), 0.008)
    answer = difference(ours, softmax)
    assert answer is not None
    assert (answer.pairs, answer.mean) == (2, pytest.approx(0.1))
