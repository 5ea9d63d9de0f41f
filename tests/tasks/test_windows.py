"""Windows: they cover an image, overlap enough, and what they say is averaged."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from crosshead.tasks.windows import sliding_windows, window_starts


def noise(height: int, width: int, *, channels: int = 3) -> torch.Tensor:
    return torch.randn(2, channels, height, width, generator=torch.Generator().manual_seed(0))


class Watched:
    """Gives its input back as scores and notes the sizes of what it saw."""

    def __init__(self) -> None:
        self.sizes: list[tuple[int, int]] = []

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        self.sizes.append((images.shape[-2], images.shape[-1]))
        return images


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(1, 40), width=st.integers(1, 40), size=st.integers(1, 20), overlap=st.floats(0, 0.95)
)
def test_a_net_that_looks_at_single_pixels_gives_the_softmax_of_the_whole(height, width, size, overlap):
    images, watched = noise(height, width), Watched()
    probabilities = sliding_windows(watched, images, size=size, overlap=overlap)
    torch.testing.assert_close(probabilities, images.softmax(1))
    assert set(watched.sizes) == {(min(size, height), min(size, width))}


@pytest.mark.parametrize(
    ("shape", "calls"),
    [((8, 8), 1), ((3, 5), 1), ((9, 8), 2), ((14, 8), 2), ((15, 8), 3), ((14, 20), 6), ((3, 9), 2)],
)
def test_there_are_no_more_windows_than_the_overlap_needs(shape, calls):
    watched = Watched()
    sliding_windows(watched, noise(*shape), size=8, overlap=0.25)
    assert len(watched.sizes) == calls


def test_neighbours_overlap_by_at_least_the_fraction_asked_for():
    seen = []

    def predict(columns: torch.Tensor) -> torch.Tensor:
        seen.append(columns[0, 0, 0].int().tolist())
        return columns

    sliding_windows(predict, torch.arange(101.0).expand(1, 2, 1, 101), size=20, overlap=0.4)
    assert seen[0][0] == 0
    assert seen[-1][-1] == 100
    assert all(len(set(one) & set(next_one)) >= 8 for one, next_one in pairwise(seen))


def test_probabilities_are_averaged_and_not_scores():
    # The first window is as good as sure of class 0, the second undecided.
    answers = iter([torch.tensor([40.0, 0.0]), torch.tensor([0.0, 0.0])])

    def predict(images: torch.Tensor) -> torch.Tensor:
        return next(answers)[:, None, None].expand(1, 2, *images.shape[-2:])

    class_0 = sliding_windows(predict, torch.zeros(1, 3, 1, 12), size=8, overlap=0.5)[0, 0, 0]
    # In the overlap the first window's weights fall, 4 to 1, and the second's rise.
    expected = torch.tensor([1.0] * 4 + [0.9, 0.8, 0.7, 0.6] + [0.5] * 4)
    torch.testing.assert_close(class_0, expected)


def test_half_precision_scores_become_float32_probabilities():
    probabilities = sliding_windows(lambda images: images.bfloat16(), noise(9, 5), size=4)
    assert probabilities.dtype == torch.float32
    torch.testing.assert_close(probabilities.sum(1), torch.ones(2, 9, 5))


@pytest.mark.parametrize(
    ("options", "message"), [({"size": 0}, "size must"), ({"size": 4, "overlap": 1.0}, "overlap must")]
)
def test_windows_that_could_not_cover_an_image_are_refused(options, message):
    for size in (8, 2):
        with pytest.raises(ValueError, match=message):
            sliding_windows(torch.zeros_like, noise(size, size), **options)
    with pytest.raises(ValueError, match=message):
        window_starts(8, **{"overlap": 0.25, **options})


@pytest.mark.parametrize(
    ("length", "starts"), [(1, [0]), (8, [0]), (9, [0, 1]), (14, [0, 6]), (15, [0, 3, 7]), (20, [0, 6, 12])]
)
def test_windows_begin_evenly_spread_from_the_first_pixel_to_the_last(length, starts):
    assert window_starts(length, 8, 0.25) == starts
