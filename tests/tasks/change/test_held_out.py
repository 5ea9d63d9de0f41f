"""Held-out blocks: three splits of labels, none of which gives another away."""

import numpy as np
import pytest

from crosshead.tasks.change.held_out import (
    TEST,
    TRAIN,
    VAL,
    deal_blocks,
    deal_splits,
    require_classes,
    split_labels,
)
from crosshead.tasks.change.pairs import gather, scan_landsat

CLASSES = ("unchanged", "changed")


def both_classes(height: int, width: int) -> np.ndarray:
    return (np.add.outer(np.arange(height), np.arange(width)) % 2 + 1).astype(np.uint8)


@pytest.mark.parametrize("parts", [2, 3, 4, 5, 7])
@pytest.mark.parametrize("size", [(24, 24), (23, 41), (2, 2)])
def test_every_pixel_falls_to_one_part(parts, size):
    dealt = deal_blocks(*size, parts=parts, block=3)
    assert dealt.shape == size
    assert set(dealt.flat) <= set(range(parts))


def test_whole_blocks_are_dealt_out():
    dealt = deal_blocks(9, 8, parts=4, block=3)
    for row in range(0, 9, 3):
        for column in range(0, 8, 3):
            assert len(np.unique(dealt[row : row + 3, column : column + 3])) == 1


@pytest.mark.parametrize("parts", [2, 3, 4, 5, 7])
def test_blocks_of_one_part_never_touch_along_an_edge(parts):
    dealt = deal_blocks(12, 12, parts=parts, block=1)
    assert (dealt[1:] != dealt[:-1]).all()
    assert (dealt[:, 1:] != dealt[:, :-1]).all()


def test_four_parts_take_a_quarter_each_of_every_part_of_the_image():
    dealt = deal_blocks(32, 32, parts=4, block=4)
    for rows in (slice(0, 16), slice(16, 32)):
        for columns in (slice(0, 16), slice(16, 32)):
            assert np.bincount(dealt[rows, columns].ravel()).tolist() == [64] * 4


def test_the_blocks_never_change():
    dealt = deal_blocks(6, 10, parts=4, block=2)
    assert dealt[::2, ::2].tolist() == [[0, 1, 2, 3, 0], [2, 3, 0, 1, 2], [0, 1, 2, 3, 0]]


def test_blocks_that_are_not_free_are_passed_over():
    free = deal_blocks(4, 8, parts=4, block=2) != 1
    dealt = deal_blocks(4, 8, parts=3, block=2, free=free)
    assert ((dealt == -1) == ~free).all()
    assert dealt[::2, ::2].tolist() == [[0, -1, 1, 2], [1, 2, 0, -1]]


@pytest.mark.parametrize(("parts", "block"), [(1, 4), (4, 0)])
def test_what_cannot_be_dealt_out_is_refused(parts, block):
    with pytest.raises(
        ValueError, match=f"parts must be 2 or more and block 1 pixel or more; got {parts} and"
    ):
        deal_blocks(8, 8, parts=parts, block=block)


@pytest.mark.parametrize("fold", range(4))
def test_a_fold_is_the_test_set_and_validation_is_dealt_out_of_the_rest(fold):
    (splits,) = deal_splits([(40, 40)], folds=4, fold=fold, block=2, val=0.1)
    assert ((splits == TEST) == (deal_blocks(40, 40, parts=4, block=2) == fold)).all()
    assert set(splits.flat) == {TRAIN, VAL, TEST}
    assert (splits == VAL).sum() / (splits != TEST).sum() == pytest.approx(0.1, abs=0.01)


@pytest.mark.parametrize("val", [0.5, 0.34, 0.25, 0.2, 0.05, 0.01])
def test_the_fraction_to_validate_on_is_kept_whatever_the_folds(val):
    for folds in (2, 3, 4, 5, 10):
        (splits,) = deal_splits([(60, 60)], folds=folds, fold=folds - 1, block=1, val=val)
        assert (splits == VAL).sum() / (splits != TEST).sum() == pytest.approx(1 / round(1 / val), abs=0.006)


def test_images_of_few_blocks_take_turns():
    splits = deal_splits([(2, 2)] * 80, folds=4, fold=0, block=1, val=0.1)
    found = np.bincount(np.concatenate(splits).ravel())
    assert found.tolist() == [216, 24, 80]
    single = [int(image[0, 0]) for image in deal_splits([(5, 5)] * 8, folds=4, fold=1, block=50, val=0)]
    assert single == [TRAIN, TEST, TRAIN, TRAIN] * 2


@pytest.mark.parametrize("val", [1e-9, 5e-324])
def test_however_small_the_fraction_a_block_is_validated_on(val):
    assert (deal_splits([(9, 9)], folds=4, fold=0, block=3, val=val)[0] == VAL).sum() == 9


def test_without_validation_everything_outside_the_fold_is_learned_from():
    (splits,) = deal_splits([(12, 12)], folds=3, fold=1, block=2, val=0)
    assert ((splits == TRAIN) == (deal_blocks(12, 12, parts=3, block=2) != 1)).all()


@pytest.mark.parametrize("val", [-0.1, 0.6, float("nan")])
def test_a_fraction_outside_its_range_is_refused(val):
    with pytest.raises(ValueError, match=f"val must be 0 to 0.5; got {val}"):
        deal_splits([(4, 4)], val=val)


@pytest.mark.parametrize("guard", [0, 1, 3])
def test_labels_keep_the_guard_from_every_pixel_of_a_later_split(guard):
    label = both_classes(20, 17)
    label[4:7] = 0
    (splits,) = deal_splits([(20, 17)], folds=4, fold=1, block=4, val=0.3)
    parted = split_labels(label, splits, guard=guard)
    for split, found in enumerate(parted.values()):
        rows, columns = np.nonzero(splits > split)
        for row in range(20):
            for column in range(17):
                distance = np.maximum(abs(rows - row), abs(columns - column)).min(initial=99)
                kept = splits[row, column] == split and distance > guard
                assert found[row, column] == (label[row, column] if kept else 0)
        assert found.dtype == np.uint8
    assert np.array_equal(parted["test"], np.where(splits == TEST, label, 0))


def test_no_label_is_in_two_splits_and_without_a_guard_none_is_lost():
    label = both_classes(20, 17)
    (splits,) = deal_splits([(20, 17)], block=3, val=0.2)
    parted = np.array(list(split_labels(label, splits).values()))
    assert ((parted > 0).sum(0) == 1).all()
    assert np.array_equal(parted.sum(0), label)


def test_a_guard_may_be_larger_than_the_image():
    splits = np.where(deal_blocks(4, 4, parts=2, block=2) == 0, TEST, TRAIN)
    labels = split_labels(both_classes(4, 4), splits, guard=10**12)
    assert not labels["train"].any()
    assert (labels["test"] > 0).sum() == 8


@pytest.mark.parametrize(("guard", "size"), [(-1, 4), (0, 5)])
def test_guards_and_maps_that_do_not_fit_are_refused(guard, size):
    message = rf"guard must be 0 or more, .*; got {guard}, \(4, 4\) and \({size}, 4\)"
    with pytest.raises(ValueError, match=message):
        split_labels(both_classes(4, 4), np.zeros((size, 4), np.uint8), guard=guard)


@pytest.mark.parametrize(
    ("split", "words"),
    [
        ("train", ("d: no train label of changed (2)", "a smaller --block, --guard or --val")),
        ("val", ("d: no val label of changed (2)", "a larger --val", "or give --val 0")),
        ("test", ("d: no test label of changed (2)", "another --fold")),
    ],
)
def test_a_class_that_a_split_lacks_is_named_with_the_remedy(refused, split, words):
    full, ones = both_classes(2, 2), np.ones((2, 2), np.uint8)
    labels = {name: [ones, full] for name in ("train", "val", "test")}
    require_classes(labels, classes=CLASSES)
    labels[split] = [ones]
    refused(lambda: require_classes(labels, classes=CLASSES, name="d"), *words)
    del labels[split]
    require_classes(labels, classes=CLASSES)


@pytest.mark.parametrize("fold", range(4))
def test_each_split_of_the_real_scene_has_pixels_of_both_classes(real_data, fold):
    (pair,) = gather(scan_landsat(real_data / "landsat-taizhou"))
    (splits,) = deal_splits([pair.size], fold=fold)
    labels = split_labels(pair.label, splits, guard=4)
    for name, least in (("train", 2000), ("val", 20), ("test", 500)):
        assert np.bincount(labels[name].ravel(), minlength=3)[1:].min() > least
