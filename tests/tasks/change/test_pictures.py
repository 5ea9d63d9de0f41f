"""Two dates and the change between them, drawn."""

import warnings

import numpy as np
import pytest

from crosshead.tasks.change.pictures import draw_change, probability_map, stretched

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
    with pytest.raises(ValueError, match=r"bands must be one or three of 0\.\.2"):
        stretched(np.zeros((3, 4, 4)), bands=bands)


def test_probability_grows_brighter():
    colors = np.asarray(probability_map(np.linspace(0, 1, 9)[None]))[0].astype(int)
    brightness = colors @ (0.299, 0.587, 0.114)
    assert (np.diff(brightness) > 10).all()
    assert brightness[0] < 5
    assert brightness[-1] > 230


def test_before_after_and_change_stand_side_by_side_with_what_the_colours_mean():
    dark, bright, sure = np.zeros((1, 400, 420)), np.zeros((1, 400, 420)), np.zeros((400, 420))
    bright[:, 200:] = 1
    sure[:, 210:] = 1
    picture = draw_change(dark, bright, sure, bands=[0], title="field")
    pixels = np.asarray(picture).astype(int)
    before, after, change = (pixels[60:440, third : third + 400] for third in (10, 440, 870))
    assert (before == 0).all()
    assert (after[:150] == 0).all()
    assert (after[200:] == 255).all()
    for side, value in ((change[:, :190], 0.0), (change[:, 220:], 1.0)):
        assert (side == probability_map(np.full((1, 1), value)).getpixel((0, 0))).all()
    # Right of them, the bar goes through all colours.
    assert len(np.unique(pixels[60:440, 1305], axis=0)) > 150
    assert draw_change(dark, bright, sure, bands=[0], title="other name").tobytes() != picture.tobytes()


def test_a_small_pair_is_enlarged_and_a_large_one_made_smaller():
    for shape in ((6, 20, 30), (6, 1500, 1600), (6, 2000, 40)):
        before, after = np.random.default_rng(0).random((2, *shape))
        picture = draw_change(before, after, before[0], bands=(3, 4, 5), title="field")
        assert 1200 <= picture.width <= 2600
        assert picture.height <= 1400


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"probability \(4, 5\)"):
        draw_change(np.zeros((1, 4, 4)), np.zeros((1, 4, 4)), np.zeros((4, 5)), bands=[0], title="")
