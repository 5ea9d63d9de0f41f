from pathlib import Path

import pytest

from crosshead.tasks.classify.recipe import ClassifyRecipe
from crosshead.tasks.task import Evaluation, task_of

ONE, TWO = Path("one.png"), Path("two.png")


@pytest.mark.parametrize(
    ("name", "kind", "options", "single_images"),
    [
        ("segment", "Segmentation", {"tile"}, True),
        ("boxes", "Detection", {"tile", "min_score"}, True),
        ("masks", "Detection", {"tile", "min_score"}, True),
        ("change", "ChangeDetection", {"tile"}, False),
    ],
)
def test_a_recipe_leads_to_the_job_of_its_task(dense_recipe, name, kind, options, single_images):
    job = task_of(dense_recipe(name))
    assert type(job).__name__ == kind
    assert job.options == options
    assert job.single_images is single_images


def test_a_recipe_of_a_classification_does_too():
    job = task_of(ClassifyRecipe(data="digits", model="ivit_nano", epochs=1))
    assert type(job).__name__ == "Classification"
    assert job.options == {"top"}
    assert not job.single_images


@pytest.mark.parametrize("name", ["segment", "boxes"])
def test_each_image_is_an_input(dense_recipe, name):
    assert task_of(dense_recipe(name)).inputs((ONE, TWO)) == [(ONE,), (TWO,)]


def test_the_files_of_two_dates_are_one_input(dense_recipe):
    job = task_of(dense_recipe("change"))
    assert job.inputs((ONE, TWO)) == [(ONE, TWO)]
    with pytest.raises(ValueError, match=r"^1 file for two dates: give the files of the earlier date"):
        job.inputs((ONE,))
    with pytest.raises(ValueError, match=r"^3 files for two dates"):
        job.inputs((ONE, TWO, TWO))


def test_an_evaluation_that_does_not_say_its_figures_is_none():
    with pytest.raises(TypeError, match=r"abstract methods? '?by_class'?, '?measures'?"):
        Evaluation(images=1, weights="last")  # pyright: ignore[reportAbstractUsage]
