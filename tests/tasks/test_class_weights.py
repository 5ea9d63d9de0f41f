import numpy as np
import pytest

from crosshead.tasks.class_weights import balanced_weights


def test_each_class_weighs_the_same_in_all_and_samples_one_on_average():
    counts = np.array([70, 20, 10])
    weights = np.array(balanced_weights(counts))
    assert weights * counts == pytest.approx([100 / 3] * 3)
    assert (weights * counts).sum() / counts.sum() == pytest.approx(1)


def test_a_class_without_samples_does_not_change_the_others():
    assert balanced_weights([6, 0, 2]) == pytest.approx((8 / 12, 1, 2))
    with pytest.raises(ValueError, match="counts must have a sample of some class"):
        balanced_weights([0, 0])
