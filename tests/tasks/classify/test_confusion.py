import io

import numpy as np
import pytest
from PIL import Image

from crosshead.tasks.classify.confusion import draw_confusion


@pytest.mark.parametrize("count", [2, 30, 60])
def test_many_classes_make_a_larger_picture_within_bounds(count):
    picture = draw_confusion(
        "run", np.eye(count, dtype=int).tolist(), tuple(f"class {n}" for n in range(count))
    )
    width, height = Image.open(io.BytesIO(picture)).size
    assert 500 < width <= 120 * 17
    assert 500 < height <= 120 * 16


def test_the_counts_and_a_class_without_images_are_drawn():
    empty, right, wrong = (
        draw_confusion("run", confusion, ("a", "b"))
        for confusion in ([[0, 0], [0, 0]], [[3, 0], [0, 3]], [[0, 3], [3, 0]])
    )
    assert len({empty, right, wrong}) == 3
