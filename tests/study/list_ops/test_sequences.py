import logging
from typing import Any

import numpy as np
import pytest

from crosshead.study.list_ops.grammar import decode, evaluate_list_ops
from crosshead.study.list_ops.sequences import Sequences, SequenceSplits, load_list_ops

SMALL: dict[str, Any] = {
    "train": 300,
    "validation": 50,
    "test": 50,
    "max_depth": 4,
    "max_args": 5,
    "min_length": 6,
    "max_length": 40,
}
# The labels 0..9 of the published set of length 500 to 2000, taken as shares of a split of 2,000: as shares
# of all 100,000 they would not fit the published grammar, grown by plain recursion either.
PUBLISHED_COUNT = 2000
PUBLISHED_SHARES = (0.170, 0.091, 0.073, 0.078, 0.089, 0.090, 0.082, 0.076, 0.077, 0.174)


@pytest.fixture(scope="module")
def splits() -> SequenceSplits:
    return load_list_ops(**SMALL)


def parts(splits):
    return splits.train, splits.validation, splits.test


def same(first, second):
    return (
        np.array_equal(first.tokens, second.tokens)
        and np.array_equal(first.lengths, second.lengths)
        and np.array_equal(first.labels, second.labels)
    )


def test_sizes_and_padding(splits):
    assert [len(part) for part in parts(splits)] == [300, 50, 50]
    assert (len(splits.vocabulary), splits.num_classes) == (16, 10)
    for part in parts(splits):
        assert part.tokens.dtype == np.uint8
        assert part.tokens.shape == (len(part), part.lengths.max())
        # Zeros stand behind the end and nowhere else.
        assert np.array_equal(part.tokens > 0, np.arange(part.lengths.max()) < part.lengths[:, None])


def test_lengths_lie_strictly_between_the_bounds(splits):
    for part in parts(splits):
        assert part.lengths.min() > 6
        assert part.lengths.max() < 40


def test_labels_are_the_values(splits):
    for part in parts(splits):
        assert [evaluate_list_ops(decode(tokens)) for tokens in part.tokens] == part.labels.tolist()


def test_no_expression_comes_twice_within_a_split_or_across():
    # So short that most would come twice.
    splits = load_list_ops(train=800, validation=100, test=100, max_depth=2, min_length=3, max_length=6)
    every = [decode(tokens) for part in parts(splits) for tokens in part.tokens]
    assert len(set(every)) == len(every) == 1000


def test_splits_of_other_seeds_share_no_expression_either(splits):
    train = {decode(tokens) for tokens in splits.train.tokens}
    other = load_list_ops(**{**SMALL, "seed": 1})
    assert train != {decode(tokens) for tokens in other.train.tokens}
    assert not train & {decode(tokens) for tokens in other.test.tokens}


def test_the_same_arguments_give_the_same_splits(splits):
    again = load_list_ops(**SMALL)
    assert all(map(same, parts(splits), parts(again)))


def test_a_larger_split_begins_with_a_smaller_one(splits):
    larger = load_list_ops(**{**SMALL, "train": 500, "test": 60})
    for part, more in zip(parts(splits), parts(larger), strict=True):
        count, length = part.tokens.shape
        assert np.array_equal(more.tokens[:count, :length], part.tokens)
        assert np.array_equal(more.labels[:count], part.labels)


def check_published_shares(labels):
    shares = np.bincount(labels, minlength=10) / len(labels)
    published = np.array(PUBLISHED_SHARES)
    errors = np.sqrt(published * (1 - published) * (1 / len(labels) + 1 / PUBLISHED_COUNT))
    assert np.all(np.abs(shares - published) < 3 * errors)


def test_labels_are_distributed_as_published():
    splits = load_list_ops(train=3000, validation=1, test=1)
    assert splits.train.lengths.min() > 500
    assert splits.train.lengths.max() < 2000
    check_published_shares(splits.train.labels)


@pytest.mark.slow
def test_the_labels_of_many_are_distributed_as_published():
    check_published_shares(load_list_ops(train=40_000, validation=1, test=1).train.labels)


def test_a_cache_gives_what_was_made(tmp_path, splits, caplog):
    calls = []
    with caplog.at_level(logging.INFO, logger="crosshead.study"):
        made = load_list_ops(**SMALL, cache_dir=tmp_path, progress=lambda *call: calls.append(call))
        assert caplog.text.count("ListOps expressions") == 3
        read = load_list_ops(**SMALL, cache_dir=tmp_path)
        assert caplog.text.count("ListOps expressions") == 3
    assert len(list(tmp_path.glob("list-ops-*.npz"))) == 3
    assert all(map(same, parts(splits), parts(made)))
    assert all(map(same, parts(splits), parts(read)))
    assert [call for call in calls if call[0] == call[1]] == [(300, 300), (50, 50), (50, 50)]
    load_list_ops(**{**SMALL, "seed": 1}, cache_dir=tmp_path)
    assert len(list(tmp_path.glob("list-ops-*.npz"))) == 6


def test_a_damaged_cache_is_refused(tmp_path, refused):
    load_list_ops(**SMALL, cache_dir=tmp_path)
    path = next(tmp_path.glob("list-ops-test-*.npz"))
    path.write_bytes(path.read_bytes()[:100])
    refused(lambda: load_list_ops(**SMALL, cache_dir=tmp_path), path, "damaged cache", "delete it")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train": 0}, "train is 0; give 1 or more"),
        ({"validation": 0}, "validation is 0; give 1"),
        ({"test": -1}, "test is -1; give 1"),
        ({"max_depth": 1}, "max_depth is 1; give 2"),
        ({"max_args": 1}, "max_args is 1; give 2"),
        ({"min_length": 0}, "min_length is 0; give 1"),
        ({"min_length": 10, "max_length": 11}, "max_length is 11; give 12"),
        ({"seed": -1}, "seed is -1; give 0"),
        (
            # Of four operators and two digits there are 400 expressions.
            {"train": 500, "max_depth": 2, "max_args": 2, "min_length": 3, "max_length": 5},
            "train is 500, but only .* different .* max_depth 2, .*: ask for fewer, or allow other lengths",
        ),
    ],
)
def test_what_cannot_be_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        load_list_ops(**{**SMALL, **change})


def test_sequences_that_contradict_themselves_are_refused():
    with pytest.raises(ValueError, match="tokens are 2, lengths 3 and labels 2; give one"):
        Sequences(tokens=np.zeros((2, 4), np.uint8), lengths=np.zeros(3, int), labels=np.zeros(2, int))
