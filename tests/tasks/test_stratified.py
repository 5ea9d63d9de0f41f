import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crosshead.tasks.stratified import stratified_split


@settings(max_examples=30, deadline=None)
@given(
    counts=st.lists(st.integers(2, 30), min_size=1, max_size=8),
    fraction=st.floats(0.05, 0.95),
    seed=st.integers(0, 1000),
)
def test_each_class_is_shared_out_in_proportion_and_lacks_in_neither_split(counts, fraction, seed):
    labels = np.random.RandomState(seed).permutation(np.repeat(np.arange(len(counts)), counts))
    train, test = stratified_split(labels, test_fraction=fraction, seed=seed)
    assert np.array_equal(np.sort(np.concatenate([train, test])), np.arange(len(labels)))
    assert np.all(np.diff(train) > 0)
    assert np.all(np.diff(test) > 0)
    for label, count in enumerate(counts):
        held_out = np.sum(labels[test] == label)
        assert 1 <= held_out <= count - 1
        assert abs(held_out - count * fraction) <= 1


def test_the_split_is_the_same_on_every_machine():
    _, test = stratified_split(np.repeat([0, 1], [10, 5]))
    assert test.tolist() == [2, 8, 11]


def test_the_seed_changes_the_split():
    labels = np.zeros(100, int)
    assert stratified_split(labels, seed=0)[1].tolist() != stratified_split(labels, seed=1)[1].tolist()


def test_a_class_of_one_item_cannot_be_split():
    with pytest.raises(ValueError, match="one item of class 1; a split needs two or more"):
        stratified_split(np.array([0, 0, 1]))
