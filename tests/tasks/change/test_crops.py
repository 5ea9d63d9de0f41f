"""Random crops: where they lie, what they carry, and that nothing but numbers decides."""

import pickle
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from crosshead.tasks.change.crops import PairCrops
from crosshead.tasks.change.pairs import ImagePair


def numbered(height: int = 20, width: int = 15, *, first: int = 0) -> ImagePair:
    """Every pixel of every channel has a number of its own; the label follows from it."""
    before = first + np.arange(2 * height * width, dtype=np.float32).reshape(2, height, width)
    label = (before[0] % 3).astype(np.uint8)
    return ImagePair(name="numbered", before=before, after=-before, label=label, bands=("a", "b"))


def crops(*pairs: ImagePair, **options) -> PairCrops:
    return PairCrops(pairs, **{"size": 6, "count": 50, **options})


def same(one, other) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_a_crop_is_cut_at_one_place_from_both_dates_and_the_labels():
    pair = numbered()
    for before, after, label in crops(pair):
        assert (before.dtype, label.dtype) == (torch.float32, torch.int64)
        top, left = divmod(int(before[0, 0, 0]), 15)
        expected = torch.from_numpy(pair.before[:, top : top + 6, left : left + 6])
        assert torch.equal(before, expected)
        assert torch.equal(after, -expected)
        assert torch.equal(label, (expected[0] % 3).long())


def test_crops_reach_every_pixel():
    seen = {int(value) for before, _, _ in crops(numbered(), count=400) for value in before[0].ravel()}
    assert seen == set(range(300))


def test_a_single_label_is_in_every_crop():
    pair = numbered()
    given = np.zeros_like(pair.label)
    given[9, 4] = 2
    for before, _, label in crops(replace(pair, label=given), count=30):
        assert label.sum() == 2
        assert before[0][label == 2].item() == 9 * 15 + 4


def test_the_labelled_pixel_lies_anywhere_in_the_crop():
    given = np.zeros((20, 15), np.uint8)
    given[9, 7] = 1
    places = {
        tuple(label.nonzero()[0].tolist())
        for *_, label in crops(replace(numbered(), label=given), size=3, count=200)
    }
    assert places == {(row, column) for row in range(3) for column in range(3)}


def test_classes_are_drawn_alike_however_rare():
    label = np.ones((40, 40), np.uint8)
    label[20, 20] = 2
    pair = ImagePair(
        name="a", before=np.zeros((1, 40, 40)), after=np.zeros((1, 40, 40)), label=label, bands=("a",)
    )
    with_change = sum(bool((label == 2).any()) for *_, label in crops(pair, size=1, count=400))
    # 400 fair draws: within four standard deviations.
    assert abs(with_change - 200) < 40


def test_pairs_of_any_size_are_mixed():
    first, second = numbered(), numbered(9, 30, first=10_000)
    found = Counter(bool(before[0, 0, 0] >= 10_000) for before, _, _ in crops(first, second, count=200))
    assert min(found.values()) > 50


def test_a_crop_is_a_function_of_seed_epoch_and_index():
    pair = numbered()
    first = crops(pair, seed=3, epoch=5)
    again = crops(pair, seed=3, epoch=5)
    torch.manual_seed(1)
    np.random.seed(1)
    assert all(same(first[index], again[index]) for index in reversed(range(50)))
    for options in ({"seed": 3, "epoch": 6}, {"seed": 4, "epoch": 5}, {"seed": 5, "epoch": 3}):
        other = crops(pair, **options)
        assert sum(same(first[index], other[index]) for index in range(50)) < 10


def test_crops_never_change():
    corners = [int(before[0, 0, 0]) for before, _, _ in crops(numbered(), count=6)]
    assert corners == [15, 39, 183, 169, 136, 83]


def test_crops_leave_the_generators_of_others_alone():
    drawn = []
    for dataset in (None, crops(numbered(), symmetries=True)):
        torch.manual_seed(0)
        np.random.seed(0)
        if dataset is not None:
            dataset[0]
        drawn.append((torch.rand(1).item(), np.random.rand()))
    assert drawn[0] == drawn[1]


def test_symmetries_turn_dates_and_labels_alike_in_eight_ways():
    pair = numbered(6, 6)
    ways = set()
    for before, after, label in crops(pair, count=100, symmetries=True):
        assert sorted(before[0].ravel().tolist()) == list(range(36))
        assert torch.equal(before, -after)
        assert torch.equal(label, (before[0] % 3).long())
        assert torch.equal(before[1] - before[0], torch.full((6, 6), 36.0))
        assert before.is_contiguous()
        ways.add(tuple(before[0].ravel().tolist()))
    assert len(ways) == 8
    plain = {tuple(before[0].ravel().tolist()) for before, _, _ in crops(pair)}
    assert plain == {tuple(range(36))}


def test_what_reaches_over_the_border_of_a_small_image_is_0_and_unlabelled():
    pair = numbered(4, 9)
    before, after, label = crops(pair, size=7)[0]
    assert (before.shape, label.shape) == ((2, 7, 7), (7, 7))
    assert not before[:, 4:].any()
    assert not label[4:].any()
    left = int(before[0, 0, 0])
    assert torch.equal(after[:, :4], torch.from_numpy(-pair.before[:, :, left : left + 7]))


def test_crops_end_with_their_count_and_reach_workers():
    dataset = crops(numbered(), count=5)
    assert len(dataset) == 5
    with pytest.raises(IndexError):
        dataset[5]
    assert same(pickle.loads(pickle.dumps(dataset))[4], dataset[4])
    (batch,) = DataLoader(dataset, batch_size=5)
    assert batch[0].shape == (5, 2, 6, 6)


def test_what_cannot_be_cropped_is_refused(refused):
    pair = numbered()
    with pytest.raises(
        ValueError, match="size must be 1 pixel or more and count 1 crop or more; got 0 and 50"
    ):
        crops(pair, size=0)
    with pytest.raises(ValueError, match="got 6 and 0"):
        crops(pair, count=0)
    for pairs in ([replace(pair, label=0 * pair.label)], []):
        refused(lambda pairs=pairs: crops(*pairs), "labelled for training; label some")
