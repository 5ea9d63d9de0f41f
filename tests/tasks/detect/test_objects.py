import numpy as np
import pytest

from crosshead.tasks.detect.objects import Objects, no_objects


@pytest.mark.parametrize("name", ["labels", "masks", "crowd", "area"])
def test_objects_have_one_entry_of_everything_each(name):
    fields = vars(no_objects(image_id=1, size=(6, 4), masks=True))
    with pytest.raises(ValueError, match=f"{name} must have 0 entries, one for each box; got 2"):
        Objects(**{**fields, name: np.zeros(2)})


def test_no_objects_have_every_array_all_the_same():
    objects = no_objects(image_id=5, size=(6, 4), masks=True)
    assert objects.masks is not None
    assert (len(objects), objects.boxes.shape, objects.masks.shape) == (0, (0, 4), (0, 4, 6))
    assert (objects.labels.dtype, objects.crowd.dtype) == (np.int64, bool)
    assert no_objects(image_id=5, size=(6, 4), masks=False).masks is None
