import pickle
import traceback

import numpy as np
import pytest
from torch.utils.data import DataLoader, Dataset

from crosshead.tasks.classify.image_array import ImageArray
from crosshead.tasks.splits import ImageSplits
from crosshead.tasks.task import DataError


class Failing(Dataset):
    def __len__(self):
        return 1

    def __getitem__(self, index):
        try:
            raise OSError("disk on fire")
        except OSError as error:
            raise DataError("cat.jpg: unreadable; replace it") from error


def splits(**changes):
    images = ImageArray(np.zeros((2, 4, 4), np.uint8), np.arange(2))
    fields = {"classes": ("a", "b"), "in_chans": 1, "image_size": 4, "mean": (0.5,), "std": (0.5,)}
    return ImageSplits(train=images, test=images, **{**fields, **changes})


def test_a_data_error_is_a_value_error_of_one_line():
    assert isinstance(DataError("x"), ValueError)
    assert str(DataError("cat.jpg: first\nsecond")) == "cat.jpg: first second"


def test_a_data_error_survives_pickling():
    assert (
        str(pickle.loads(pickle.dumps(DataError("cat.jpg: bad; replace it")))) == "cat.jpg: bad; replace it"
    )


def test_a_data_error_of_a_worker_process_keeps_its_one_line():
    with pytest.raises(DataError) as caught:
        list(DataLoader(Failing(), num_workers=1))
    assert str(caught.value) == "cat.jpg: unreadable; replace it"
    # Ends the worker now: the traceback would keep it until a garbage collection, which then waits for it.
    traceback.clear_frames(caught.tb)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classes": ("a",)}, r"classes is \('a',\); classification needs two or more"),
        ({"in_chans": 4, "mean": (0.5,) * 4, "std": (0.5,) * 4}, "in_chans is 4; images have 1 .* or 3"),
        ({"mean": (0.5, 0.5)}, "mean has 2 values and std 1; give one for each of the 1 bands"),
        ({"std": ()}, "mean has 1 values and std 0"),
    ],
)
def test_splits_that_contradict_themselves_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        splits(**changes)


def test_splits_can_be_sent_to_another_process():
    again = pickle.loads(pickle.dumps(splits()))
    assert again.classes == ("a", "b")
    assert len(again.train) == 2


def test_splits_do_not_change():
    with pytest.raises(AttributeError):
        splits().image_size = 8  # pyright: ignore[reportAttributeAccessIssue]
