"""Change detection as a whole: an evaluation speaks of the very map that a prediction writes."""

import dataclasses
import json
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import roc_auc_score

from crosshead.runs.evaluate import evaluate
from crosshead.runs.load import load_run
from crosshead.runs.rows import read_metrics
from crosshead.tasks.change.data import WholePairs
from crosshead.tasks.change.evaluation import change_metrics
from crosshead.tasks.change.pictures import change_colors, stretched
from crosshead.tasks.change.predict import pair_probabilities
from crosshead.tasks.change.task import TASK
from crosshead.tasks.pictures import draw_labels


@pytest.fixture(scope="module")
def run(dense_run):
    return dense_run("change")


@pytest.fixture(scope="module")
def evaluated(run):
    return evaluate(run, accelerator="cpu")


@pytest.fixture(scope="module")
def loaded(run) -> tuple[Any, Any]:
    """The record and the net."""
    return load_run(run)


def test_the_map_that_a_prediction_writes_gives_exactly_the_metrics_of_the_evaluation(
    run, loaded, evaluated, pair_data
):
    record, model = loaded
    assert max(TASK.data(record.recipe).test.pairs[0].size) > record.recipe.tile
    paths = tuple(pair_data / date / "field.npy" for date in ("before", "after"))
    pair = TASK.read(record.meta, paths, position=0)
    (prediction,) = TASK.predict(record.recipe, record.meta, model, [pair])
    predicted = np.asarray(prediction.maps()[".labels.png"]).astype(int)
    (held_out,) = TASK.data(record.recipe).test.pairs
    labelled = held_out.label > 0
    truth, guess = held_out.label[labelled].astype(int), predicted[labelled]
    written = json.loads(run.evaluation.read_text())
    confusion = [[int(((truth == row) & (guess == column)).sum()) for column in (1, 2)] for row in (1, 2)]
    expected = asdict(change_metrics(torch.tensor(confusion), torch.ones(2), record.meta.classes))
    del expected["auc"]
    assert {name: written[name] for name in expected} == expected
    probabilities = pair_probabilities(model, record.meta.standardise(held_out), tile=record.recipe.tile)
    assert np.array_equal(probabilities.argmax(0) + 1, predicted)
    assert written["auc"] == pytest.approx(roc_auc_score(truth == 2, probabilities[1][labelled]), abs=1e-6)
    assert (written["images"], evaluated[0].counted) == (1, "image pairs")


def test_a_training_logs_validation_and_never_the_test_set(run):
    (epoch,) = read_metrics(run)
    assert {name for name in epoch if name.startswith("val_")} == {
        f"val_{name}" for name in ("loss", "accuracy", "kappa", "auc", "f1")
    }
    assert not any(name.startswith("test") for name in epoch)


def test_an_evaluation_draws_the_pairs_with_the_labels_of_every_split(evaluated):
    _, ((name, path),) = evaluated
    assert (name, path.name) == ("examples", "examples.png")
    with Image.open(path) as picture:
        assert picture.width > picture.height


def test_examples_are_pairs_with_labels_of_the_split(loaded):
    record, _ = loaded
    val: Any = TASK.data(record.recipe).val
    (pair,) = val.pairs
    elsewhere = dataclasses.replace(pair, name="elsewhere", label=np.zeros_like(pair.label))
    (example,) = TASK.examples(record.meta, WholePairs([elsewhere, pair, elsewhere]), split="val")
    _, shown = example.input.content
    assert np.array_equal(shown.before, pair.before)
    assert np.array_equal(shown.label, pair.label)
    assert example.name == shown.name == "val image 0"
    after = stretched(pair.after, bands=(0, 1, 2))
    drawn = draw_labels(after, pair.label, classes=("", "a", "b"), colors=change_colors(["a", "b"]))
    assert example.truth is not None
    assert example.truth.crop((0, 0, *drawn.size)) == drawn


def test_a_negative_tile_is_refused(loaded):
    record, model = loaded
    with pytest.raises(ValueError, match=r"^tile must be 1 pixel or more, or 0 to see pairs whole; got -1$"):
        TASK.predict(record.recipe, record.meta, model, [], tile=-1)
