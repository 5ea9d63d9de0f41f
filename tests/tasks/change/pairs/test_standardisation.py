import json
from dataclasses import asdict

import numpy as np
import pytest

from crosshead.tasks.change.pairs.images import ImagePair, ImagePairs
from crosshead.tasks.change.pairs.standardisation import BandStatistics, band_statistics


def pair(seed: int, height: int, width: int, *, dtype: str = "uint8") -> ImagePair:
    before, after = np.random.default_rng(seed).integers(0, 256, (2, 3, height, width)).astype(dtype)
    return ImagePair(
        name=f"pair {seed}", before=before, after=after, label=np.zeros((height, width), np.uint8)
    )


def together(*pairs: ImagePair) -> ImagePairs:
    return ImagePairs(pairs=pairs, bands=("r", "g", "b"), classes=("no", "yes"))


def test_each_band_of_each_date_gets_mean_0_and_spread_1():
    pairs = together(pair(0, 6, 5), pair(1, 4, 9))
    statistics = band_statistics(pairs, transductive=True)
    images = [statistics.standardise(one) for one in pairs.pairs]
    for date in ("before", "after"):
        values = np.concatenate([getattr(one, date).reshape(3, -1) for one in images], axis=1)
        assert values.dtype == np.float32
        assert np.allclose(values.mean(axis=1, dtype=float), 0, atol=1e-7)
        assert np.allclose(values.std(axis=1, dtype=float), 1, atol=1e-7)


def test_standardising_is_exact():
    one = pair(0, 6, 5)
    statistics = band_statistics(together(one), transductive=True)
    values = one.after[2].astype(float)
    expected = ((values - values.mean()) / values.std()).astype(np.float32)
    assert np.array_equal(statistics.standardise(one).after[2], expected)
    assert statistics.standardise(one).label is one.label
    assert statistics.standardise(one).name == "pair 0"


def test_held_out_pixels_do_not_count():
    one, other = pair(0, 6, 5), pair(1, 4, 9)
    masks = [np.random.default_rng(2).random(size) < 0.5 for size in ((6, 5), (4, 9))]
    statistics = band_statistics(together(one, other), masks)
    seen = np.concatenate([one.before[1][~masks[0]], other.before[1][~masks[1]]]).astype(float)
    assert statistics.before_mean[1] == pytest.approx(seen.mean(), rel=1e-14)
    assert statistics.before_std[1] == pytest.approx(seen.std(), rel=1e-14)
    for image, mask in ((one, masks[0]), (other, masks[1])):
        image.before[:, mask] = 0
        image.after[:, mask] = 255
    assert band_statistics(together(one, other), masks) == statistics


def test_sums_of_large_float32_images_do_not_lose_digits():
    image = np.full((1, 300, 300), 16_777_217.0, np.float32)
    image[0, 0, 0] = 0
    one = ImagePair(name="a", before=image, after=image, label=np.zeros((300, 300), np.uint8))
    pairs = ImagePairs(pairs=(one,), bands=("r",), classes=("no", "yes"))
    assert band_statistics(pairs, transductive=True).before_mean[0] == pytest.approx(
        image.astype(float).mean(), rel=1e-14
    )


def test_a_constant_band_is_only_centred():
    one = pair(0, 6, 5)
    one.before[1] = 7
    statistics = band_statistics(together(one), transductive=True)
    assert (statistics.before_mean[1], statistics.before_std[1]) == (7, 1)
    assert not statistics.standardise(one).before[1].any()


def test_statistics_can_be_kept_as_json():
    statistics = band_statistics(together(pair(0, 6, 5)), transductive=True)
    again = json.loads(json.dumps(asdict(statistics)))
    assert BandStatistics(**{name: tuple(values) for name, values in again.items()}) == statistics


def test_whole_images_are_measured_only_when_asked():
    pairs, masks = together(pair(0, 6, 5)), [np.zeros((6, 5), bool)]
    with pytest.raises(ValueError, match="held_out is None and transductive False; give the held-out blocks"):
        band_statistics(pairs)
    with pytest.raises(ValueError, match="held_out is given and transductive True"):
        band_statistics(pairs, masks, transductive=True)
    with pytest.raises(ValueError, match="held_out covers every pixel"):
        band_statistics(pairs, [~masks[0]])


def test_statistics_of_another_sensor_are_refused():
    with pytest.raises(ValueError, match="pair 0 has 3 bands where statistics are of 1"):
        BandStatistics(before_mean=(0,), before_std=(1,), after_mean=(0,), after_std=(1,)).standardise(
            pair(0, 6, 5)
        )
    with pytest.raises(ValueError, match="give one for each band"):
        BandStatistics(before_mean=(0, 0), before_std=(1,), after_mean=(0,), after_std=(1,))
