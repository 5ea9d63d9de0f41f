import numpy as np
import pytest

from crosshead.tasks.change.pairs.held_out import (
    block_folds,
    check_classes,
    fold_labels,
    held_out_blocks,
    pair_folds,
)
from crosshead.tasks.change.pairs.landsat import load_landsat


def both_classes(height: int, width: int) -> np.ndarray:
    return (np.add.outer(np.arange(height), np.arange(width)) % 2 + 1).astype(np.uint8)


@pytest.mark.parametrize("folds", [2, 3, 4, 5, 7])
@pytest.mark.parametrize("size", [(24, 24), (23, 41)])
def test_folds_are_disjoint_and_cover_the_image(folds, size):
    maps = block_folds(both_classes(*size), folds=folds, block=3)
    assert maps.shape == (folds, *size)
    assert maps.dtype == bool
    assert (maps.sum(axis=0) == 1).all()


def test_each_fold_holds_out_whole_blocks():
    maps = held_out_blocks(9, 8, folds=4, block=3)
    for row in range(0, 9, 3):
        for column in range(0, 8, 3):
            shares = maps[:, row : row + 3, column : column + 3].mean(axis=(1, 2))
            assert sorted(shares) == [0, 0, 0, 1]


@pytest.mark.parametrize("folds", [2, 3, 4, 5, 7])
def test_blocks_of_one_fold_never_touch_along_an_edge(folds):
    fold = held_out_blocks(12, 12, folds=folds, block=1).argmax(axis=0)
    assert (fold[1:] != fold[:-1]).all()
    assert (fold[:, 1:] != fold[:, :-1]).all()


def test_four_folds_hold_out_a_quarter_each_of_every_part_of_the_image():
    maps = held_out_blocks(32, 32, folds=4, block=4)
    for rows in (slice(0, 16), slice(16, 32)):
        for columns in (slice(0, 16), slice(16, 32)):
            assert maps[:, rows, columns].mean(axis=(1, 2)).tolist() == [0.25] * 4


def test_the_blocks_never_change():
    fold = held_out_blocks(6, 10, folds=4, block=2).argmax(axis=0)
    assert fold[::2, ::2].tolist() == [[0, 1, 2, 3, 0], [2, 3, 0, 1, 2], [0, 1, 2, 3, 0]]


@pytest.mark.parametrize(("folds", "block"), [(1, 4), (4, 0)])
def test_what_cannot_be_a_fold_is_refused(folds, block):
    with pytest.raises(ValueError, match=f"folds is {folds} and block {block}; give 2 folds or more"):
        held_out_blocks(8, 8, folds=folds, block=block)


def test_several_images_are_no_label_map():
    with pytest.raises(ValueError, match=r"label has the shape \(2, 4, 4\)"):
        block_folds(np.zeros((2, 4, 4)))


def test_a_fold_without_a_class_or_with_all_of_it_is_refused(refused):
    label = np.full((8, 8), 1)
    label[0, 0] = 2
    refused(
        lambda: block_folds(label, block=2, name="d/label.png"),
        "d/label.png",
        "fold 0 holds out 1 of 1 labelled pixels of class 2",
        "choose smaller blocks",
    )
    label[0, 2] = 2
    refused(
        lambda: block_folds(label, block=2), "label", "fold 2 holds out 0 of 2 labelled pixels of class 2"
    )
    refused(lambda: block_folds(np.zeros((8, 8)), block=2), "label", "fold 0 holds out 0 of 0", "class 1")
    refused(lambda: block_folds(both_classes(8, 8), block=2, num_classes=3), "label", "0 of 0", "class 3")


def test_of_several_images_only_all_together_need_each_class(refused):
    labels = [np.full((8, 8), 1), np.full((4, 8), 2)]
    maps = pair_folds(labels, folds=4, block=2)
    assert [part.shape for part in maps] == [(4, 8, 8), (4, 4, 8)]
    assert np.array_equal(maps[0], held_out_blocks(8, 8, block=2))
    refused(lambda: block_folds(labels[0], block=2), "label", "class 2")
    refused(lambda: pair_folds([labels[0]] * 2, block=2, name="d"), "d", "0 of 0 labelled pixels of class 2")


@pytest.mark.parametrize("guard", [0, 1, 3])
def test_training_labels_keep_the_guard_from_every_held_out_pixel(guard):
    label = both_classes(20, 17)
    label[4:7] = 0
    held_out = held_out_blocks(20, 17, folds=4, block=6)[1]
    train, test = fold_labels(label, held_out, guard=guard)
    rows, columns = np.nonzero(held_out)
    for row in range(20):
        for column in range(17):
            distance = np.maximum(abs(rows - row), abs(columns - column)).min()
            assert train[row, column] == (label[row, column] if distance > guard else 0)
    assert np.array_equal(test, np.where(held_out, label, 0))
    assert train.dtype == test.dtype == np.uint8


def test_a_guard_may_be_larger_than_the_image():
    train, test = fold_labels(both_classes(4, 4), held_out_blocks(4, 4, folds=2, block=2)[0], guard=50)
    assert not train.any()
    assert (test > 0).sum() == 8


@pytest.mark.parametrize(("guard", "size"), [(-1, 4), (0, 5)])
def test_guards_and_maps_that_do_not_fit_are_refused(guard, size):
    with pytest.raises(ValueError, match=rf"guard is {guard}, label \(4, 4\) and held_out \({size}, 4\)"):
        fold_labels(both_classes(4, 4), np.zeros((size, 4), bool), guard=guard)


def test_a_class_that_a_guard_took_away_is_named(refused):
    full, ones = both_classes(2, 2), np.ones((2, 2), int)
    check_classes([ones, full], [full])
    refused(lambda: check_classes([ones], [full]), "label", "no training pixel of class 2; choose another")
    refused(lambda: check_classes([full], [2 * ones], name="x"), "x", "no held-out pixel of class 1")


def test_each_fold_of_the_real_scene_has_hundreds_of_pixels_of_both_classes(real_data):
    (pair,) = load_landsat(real_data / "landsat-taizhou").pairs
    for held_out in block_folds(pair.label):
        for part in fold_labels(pair.label, held_out, guard=4):
            assert np.bincount(part.ravel(), minlength=3)[1:].min() > 500
