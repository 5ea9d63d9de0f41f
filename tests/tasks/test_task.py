import pickle
import traceback
from typing import Any

import pytest
from torch.utils.data import DataLoader, Dataset

from crosshead.recipes import RECIPES
from crosshead.tasks.classify.recipe import ClassifyRecipe
from crosshead.tasks.task import DataError, Evaluation, require_folder, task_of


class Failing(Dataset):
    def __len__(self):
        return 1

    def __getitem__(self, index):
        try:
            raise OSError("disk on fire")
        except OSError as error:
            raise DataError("cat.jpg: unreadable; replace it") from error


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
    ("name", "options", "single_images", "arguments"),
    [
        ("classify", {"top"}, False, "IMAGE"),
        ("segment", {"tile"}, True, "IMAGE"),
        ("detect", {"tile", "min_score"}, True, "IMAGE"),
        ("change", {"tile"}, True, "BEFORE... AFTER..."),
    ],
)
def test_a_name_leads_to_its_task(name, options, single_images, arguments):
    task = task_of(name)
    assert task.recipe.task == name
    assert task.options == options
    assert task.single_images is single_images
    assert task.arguments == arguments


def test_every_recipe_is_of_a_task_that_exists():
    for recipe in RECIPES.values():
        made = recipe()
        assert isinstance(made, task_of(made.task).recipe)


@pytest.mark.parametrize("name", ["divine", "", "..", "task", "detect.net", "os", "a b"])
def test_a_name_that_leads_to_no_task_is_refused(name):
    with pytest.raises(ValueError, match=r"^task must be a folder of crosshead.tasks; got"):
        task_of(name)


@pytest.mark.parametrize(("name", "pairs"), [("segment", False), ("boxes", False), ("change", True)])
def test_a_change_detection_alone_looks_at_pairs(dense_recipe, name, pairs):
    assert task_of(dense_recipe(name).task).pairs == pairs


def test_a_detector_alone_tells_of_objects():
    assert task_of("detect").to_coco([]) == {"images": [], "annotations": [], "categories": []}
    with pytest.raises(ValueError, match=r"^COCO's format holds objects, and only a detector finds them"):
        task_of("segment").to_coco([])


@pytest.mark.parametrize("name", ["segment", "boxes", "masks", "change"])
def test_every_task_gives_three_splits(dense_recipe, name):
    recipe = dense_recipe(name)
    data: Any = task_of(recipe.task).data(recipe)
    assert all(len(split) > 0 for split in (data.train, data.val, data.test))
    without = dense_recipe(name, val=0.0)
    if name == "change":  # the others have a validation set of their own
        assert task_of(recipe.task).data(without).val is None


def test_an_evaluation_that_does_not_say_its_metrics_is_none():
    with pytest.raises(TypeError, match=r"abstract methods? '?by_class'?, '?metrics'?"):
        Evaluation(images=1, weights="last")  # pyright: ignore[reportAbstractUsage]


def test_a_folder_is_asked_for_and_downloads_are_refused_where_there_are_none(tmp_path):
    recipe = ClassifyRecipe(data="folder", model="ivit_nano", epochs=1)
    with pytest.raises(
        DataError, match=r"^classify needs the folder of its images: name it with --data-dir$"
    ):
        require_folder(recipe)
    given = ClassifyRecipe(data="folder", model="ivit_nano", epochs=1, data_dir=tmp_path, download=True)
    with pytest.raises(DataError, match=r"^classify cannot be downloaded: leave --download out"):
        require_folder(given)
    assert require_folder(given, downloads=True) == tmp_path
