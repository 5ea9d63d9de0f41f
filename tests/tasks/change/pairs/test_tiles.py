import numpy as np
import pytest
import torch

from crosshead.tasks.change.pairs.images import ImagePair
from crosshead.tasks.change.pairs.tiles import PairTiles


def numbered(height: int, width: int, *, first: int = 0) -> ImagePair:
    before = first + np.arange(height * width, dtype=np.float32).reshape(1, height, width)
    label = (before[0] % 3).astype(np.uint8)
    return ImagePair(name="numbered", before=before, after=-before, label=label)


def tiles(*pairs: ImagePair, size: int = 8, overlap: int = 0) -> PairTiles:
    return PairTiles(pairs, [pair.label for pair in pairs], size=size, overlap=overlap)


SIZES = [(8, 8), (20, 15), (5, 30), (3, 3), (9, 8), (1, 17)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("overlap", [0, 3, 7])
def test_each_label_is_in_one_tile_and_at_its_pixel(size, overlap):
    pair = numbered(*size, first=1)
    counted = np.zeros(size, int)
    for before, after, label in tiles(pair, overlap=overlap):
        assert torch.equal(before, -after)
        labelled = label > 0
        assert torch.equal(label[labelled], (before[0][labelled] % 3).long())
        pixels = before[0][labelled].long().numpy() - 1
        np.add.at(counted.reshape(-1), pixels, 1)
    assert np.array_equal(counted, pair.label > 0)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("overlap", [0, 3, 7])
def test_assembled_tiles_are_the_images(size, overlap):
    pairs = [numbered(*size), numbered(11, 9, first=5000)]
    dataset = tiles(*pairs, overlap=overlap)
    maps = dataset.assemble(torch.stack([before[0], after[0]]).numpy() for before, after, _ in dataset)
    for pair, found in zip(pairs, maps, strict=True):
        assert np.array_equal(found, np.concatenate([pair.before, pair.after]))


def test_tiles_lie_inside_the_image_and_share_at_least_the_overlap():
    dataset = tiles(numbered(21, 8), overlap=3)
    tops = [top for _, (top, _), _ in dataset.places]
    assert tops == [0, 5, 10, 13]
    own = [(rows.start, rows.stop) for _, (_, rows), _ in dataset.places]
    assert own == [(0, 6), (6, 11), (11, 15), (15, 21)]


def test_a_pixel_belongs_to_the_tile_that_sees_more_around_it():
    dataset = tiles(numbered(40, 40), overlap=6)
    for number, (top, rows), (left, columns) in dataset.places:
        for other, (other_top, _), (other_left, _) in dataset.places:
            for row, column in ((rows.start, columns.start), (rows.stop - 1, columns.stop - 1)):
                if row in range(other_top, other_top + 8) and column in range(other_left, other_left + 8):
                    assert number == other
                    assert abs(row + 0.5 - top - 4) <= abs(row + 0.5 - other_top - 4) + 1
                    assert abs(column + 0.5 - left - 4) <= abs(column + 0.5 - other_left - 4) + 1


def test_a_small_image_is_one_tile_that_is_0_beyond_it():
    dataset = tiles(numbered(3, 5, first=1))
    before, _, label = dataset[0]
    assert len(dataset) == 1
    assert (before != 0).sum() == 15
    assert not before[:, 3:].any()
    assert not label[:, 5:].any()


def test_labels_are_those_given():
    pair = numbered(20, 15)
    given = np.zeros_like(pair.label)
    given[19, 14] = 7
    dataset = PairTiles([pair], [given], size=8, overlap=2)
    assert sum(int(label.sum()) for _, _, label in dataset) == 7
    assert dataset[len(dataset) - 1][2][7, 7] == 7


@pytest.mark.parametrize(("size", "overlap"), [(0, 0), (8, 8), (8, -1)])
def test_sizes_outside_their_range_are_refused(size, overlap):
    with pytest.raises(ValueError, match=f"size is {size} and overlap {overlap}; give 1 pixel or more"):
        tiles(numbered(8, 8), size=size, overlap=overlap)


def test_labels_and_predictions_that_do_not_fit_are_refused():
    pair = numbered(8, 8)
    with pytest.raises(ValueError, match=r"labels are \[\(8, 7\)\] and pairs \[\(8, 8\)\]"):
        PairTiles([pair], [pair.label[:, 1:]], size=8)
    with pytest.raises(ValueError, match=r"a prediction is \(2, 8, 9\); give \(channels, 8, 8\)"):
        tiles(pair).assemble([np.zeros((2, 8, 9))])
    with pytest.raises(ValueError, match="argument 2 is shorter"):
        tiles(numbered(20, 8)).assemble([np.zeros((2, 8, 8))])
