"""The spectral difference, which needs no training."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from crosshead.tasks.change.held_out import deal_blocks
from crosshead.tasks.change.pairs import gather, scan_landsat

SCRIPT = Path(__file__).parents[2] / "benchmarks/spectral_difference.py"


def imported(path: Path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    return script


spectral_difference = imported(SCRIPT).spectral_difference


def image(seed: int, dtype: str = "float64") -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (3, 6, 5)).astype(dtype)


def test_it_is_the_distance_of_the_standardised_spectra():
    before, after = image(0), image(1)
    found = spectral_difference(before, after)
    for row in range(6):
        for column in range(5):
            squares = [
                ((a[row, column] - a.mean()) / a.std() - (b[row, column] - b.mean()) / b.std()) ** 2
                for a, b in zip(after, before, strict=True)
            ]
            assert found[row, column] == pytest.approx(sum(squares) ** 0.5, rel=1e-12)


def test_gain_and_offset_of_a_whole_channel_are_no_change():
    before = image(0)
    after = before * np.array([2.0, 0.1, 5.0])[:, None, None] + np.array([7.0, -3.0, 0.0])[:, None, None]
    assert spectral_difference(before, after) == pytest.approx(0, abs=1e-12)


def test_a_constant_channel_counts_for_nothing():
    before, after = image(0), image(1)
    before[2], after[2] = 4, 9
    assert np.array_equal(spectral_difference(before, after), spectral_difference(before[:2], after[:2]))


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_short_numbers_are_reckoned_in_float64_and_inputs_stay_as_they_are(dtype):
    before, after = image(0, dtype), image(1, dtype)
    kept = before.copy()
    expected = spectral_difference(before.astype(float), after.astype(float))
    assert np.array_equal(spectral_difference(before, after), expected)
    assert np.array_equal(before, kept)


def test_the_dates_may_be_exchanged():
    assert np.array_equal(spectral_difference(image(0), image(1)), spectral_difference(image(1), image(0)))


@pytest.mark.parametrize("after", [np.zeros((2, 6, 5)), np.zeros((3, 6, 4)), np.zeros((6, 5))])
def test_images_that_do_not_fit_are_refused(after):
    with pytest.raises(ValueError, match=r"one and the same \(channels, height, width\); got \(3, 6, 5\)"):
        spectral_difference(image(0), after)


class TestOnTheRealScene:
    """The figure that a learned detector has to beat."""

    @pytest.fixture
    def scene(self, real_data):
        (pair,) = gather(scan_landsat(real_data / "landsat-taizhou"))
        return pair, spectral_difference(pair.before, pair.after)

    def area(self, scene, where: np.ndarray | bool = True) -> float:
        pair, difference = scene
        labelled = where & (pair.label > 0)
        return float(roc_auc_score(pair.label[labelled] == 2, difference[labelled]))

    def test_it_finds_nearly_all_of_the_change(self, scene):
        assert round(self.area(scene), 3) == 0.990

    def test_it_finds_it_in_every_quarter_of_the_scene(self, scene):
        areas = []
        for rows in (slice(0, 200), slice(200, 400)):
            for columns in (slice(0, 200), slice(200, 400)):
                where = np.zeros((400, 400), bool)
                where[rows, columns] = True
                areas.append(self.area(scene, where))
        assert (round(min(areas), 2), round(max(areas), 3)) == (0.98, 0.995)

    def test_it_finds_it_in_every_fold(self, scene):
        folds = deal_blocks(*scene[0].size)
        areas = [self.area(scene, folds == fold) for fold in range(4)]
        assert [round(area, 3) for area in areas] == [0.991, 0.997, 0.991, 0.984]

    def test_without_standardising_it_finds_none(self, scene):
        pair, _ = scene
        raw = np.square(pair.after.astype(float) - pair.before).sum(axis=0)
        assert round(self.area((pair, raw)), 2) == 0.41
