import warnings

import numpy as np
import pytest

from crosshead.tasks.pictures.change import GAP, draw_change, probability_map, stretched

RAMP = np.linspace(-3, 900, 401).reshape(1, 1, 401).repeat(4, axis=1)


def test_the_middle_of_a_band_fills_the_range_and_outliers_do_not_dim_it():
    values = np.asarray(stretched(RAMP, bands=[0]))[0, :, 0]
    assert (values[:8] == 0).all()
    assert (values[-8:] == 255).all()
    assert np.array_equal(values, np.sort(values))
    assert values[200] == pytest.approx(127.5, abs=1)
    spoiled = RAMP.copy()
    spoiled[0, 0, 0] = 1e6
    assert np.abs(np.asarray(stretched(spoiled, bands=[0]))[1:].astype(int) - values[:, None]).max() <= 2


def test_bands_are_red_green_and_blue_in_the_order_asked_for():
    bands = np.concatenate([RAMP, RAMP[..., ::-1], 0 * RAMP])
    assert np.asarray(stretched(bands, bands=(2, 0, 1)))[0, -1].tolist() == [0, 255, 0]
    assert np.asarray(stretched(bands, bands=(1,)))[0, 0].tolist() == [255, 255, 255]


def test_a_constant_band_is_black():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not np.asarray(stretched(0 * RAMP + 7, bands=[0])).any()


@pytest.mark.parametrize("bands", [(0, 1), (0, 1, 3), (-1,), ()])
def test_bands_that_are_not_there_are_refused(bands):
    with pytest.raises(ValueError, match=r"give one or three of 0\.\.2"):
        stretched(np.zeros((3, 4, 4)), bands=bands)


def test_probability_grows_brighter():
    colors = np.asarray(probability_map(np.linspace(0, 1, 9)[None]))[0].astype(int)
    brightness = colors @ (0.299, 0.587, 0.114)
    assert (np.diff(brightness) > 10).all()
    assert brightness[0] < 5
    assert brightness[-1] > 230


def test_before_after_and_change_stand_side_by_side():
    dark, bright, sure = np.zeros((1, 400, 420)), np.zeros((1, 400, 420)), np.zeros((400, 420))
    bright[:, 200:] = 1
    sure[:, 210:] = 1
    picture = draw_change(dark, bright, sure, bands=[0])
    assert picture.size == (3 * 420 + 2 * GAP, 400)
    pixels = np.asarray(picture)
    before, after, change = (pixels[:, start : start + 420] for start in (0, 420 + GAP, 840 + 2 * GAP))
    assert (before == 0).all()
    assert np.array_equal(after[..., 0], 255 * bright[0])
    assert np.array_equal(change, np.asarray(probability_map(sure)))
    assert (pixels[:, 420 : 420 + GAP] == 255).all()


def test_small_pairs_are_enlarged_by_whole_pixels():
    before, after = np.random.default_rng(0).random((2, 6, 20, 30))
    picture = draw_change(before, after, before[0], bands=(3, 4, 5))
    assert picture.size == (3 * 600 + 2 * GAP, 400)
    first = np.asarray(picture)[::20, :600:20]
    assert np.array_equal(first, np.asarray(stretched(before, bands=(3, 4, 5))))


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"probability \(4, 5\)"):
        draw_change(np.zeros((1, 4, 4)), np.zeros((1, 4, 4)), np.zeros((4, 5)), bands=[0])
