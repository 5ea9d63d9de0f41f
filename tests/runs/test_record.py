import dataclasses
import json
from pathlib import Path

import pytest

from crosshead.runs.folder import RunError, RunFolder
from crosshead.runs.record import RunRecord, read_record
from crosshead.tasks.change.recipe import ChangeRecipe
from crosshead.tasks.classify.recipe import ClassifyRecipe
from crosshead.tasks.detect.recipe import DetectRecipe
from crosshead.tasks.meta import ClassifyMeta, DetectMeta, ChangeMeta, SegmentMeta
from crosshead.tasks.segment.recipe import SegmentRecipe

RECORD = RunRecord(
    name="folder",
    recipe=ClassifyRecipe(
        data="folder",
        data_dir=Path("/data/birds"),
        model="ivit_nano",
        model_args={"landmarks": (7, (3, 4)), "mixing": "none"},
        swap_landmarks=(4, 4),
        epochs=3,
    ),
    meta=ClassifyMeta(classes=("crow", "owl"), in_chans=1, image_size=32, mean=(0.1,), std=(1 / 3,)),
    start=None,
    stamp={"versions": {}},
)
LOOK = {"classes": ("crow", "owl"), "in_chans": 1, "mean": (0.1,), "std": (1 / 3,)}
SHARED = {"data_dir": Path("/data/birds"), "model": "ivit_nano", "epochs": 4, "val_every": 2}
# A recipe and meta of each task, with a choice made wherever JSON has no word for it: tuples, paths, None.
DENSE = {
    "segment": (
        SegmentRecipe(data="masks", crop=32, scale=(0.5, 1.5), class_names=("crow", "owl"), **SHARED),
        SegmentMeta(**LOOK, ignore_index=255),
    ),
    "detect": (
        DetectRecipe(data="coco", anchor_sizes=(4, 8, 16, 32, 64), scenes=(8, 4), in_chans=1, **SHARED),
        DetectMeta(**LOOK, category_ids=(3, 7), masks=True, min_size=32, max_size=40),
    ),
    "change": (
        ChangeRecipe(data="pairs", class_names=("same", "gone", "new"), **SHARED),
        ChangeMeta(**LOOK, bands=("red",), after_mean=(0.2,), after_std=(0.3,)),
    ),
}


def test_what_is_written_is_read_again(tmp_path):
    run = RunFolder(tmp_path)
    RECORD.write(run)
    assert read_record(run) == RECORD


@pytest.mark.parametrize("task", DENSE)
def test_what_is_written_of_another_task_is_read_again(tmp_path, task):
    recipe, meta = DENSE[task]
    record = RunRecord(name="birds", recipe=recipe, meta=meta, start="/runs/digits-1", stamp={})
    record.write(RunFolder(tmp_path))
    assert json.loads((tmp_path / "recipe.json").read_text())["task"] == task
    read = read_record(RunFolder(tmp_path))
    assert read == record
    assert (type(read.recipe), type(read.meta)) == (type(recipe), type(meta))


def test_a_task_that_is_unknown_and_the_facts_of_another_are_refused(tmp_path):
    recipe, meta = DENSE["change"]
    content = {
        "task": "change",
        **dataclasses.asdict(RunRecord(name="", recipe=recipe, meta=meta, start=None, stamp={})),
    }
    for changes in (
        {"task": "divine"},
        {"task": "detect"},
        {"meta": dataclasses.asdict(DENSE["segment"][1])},
    ):
        (tmp_path / "recipe.json").write_text(json.dumps({**content, **changes}, default=str))
        with pytest.raises(RunError, match="no recipe of this version"):
            read_record(RunFolder(tmp_path))


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(RunError, match="is no folder: name a run folder"):
        read_record(RunFolder(tmp_path / "nowhere"))
    with pytest.raises(RunError, match=f"stopped before .* was written: train again with --out {tmp_path}"):
        read_record(RunFolder(tmp_path))
    (tmp_path / "notes.txt").touch()
    with pytest.raises(RunError, match=r"recipe.json does not exist: name the folder of a run"):
        read_record(RunFolder(tmp_path))


@pytest.mark.parametrize("field", ["recipe", "meta", "name", "task"])
def test_a_recipe_with_a_part_missing_is_refused(tmp_path, field):
    content = {"task": "classify", **dataclasses.asdict(RECORD)}
    del content[field]
    (tmp_path / "recipe.json").write_text(json.dumps(content, default=str))
    with pytest.raises(RunError, match="no recipe of this version"):
        read_record(RunFolder(tmp_path))


def test_a_field_of_another_version_is_named(tmp_path):
    content = {"task": "classify", **dataclasses.asdict(RECORD)}
    content["recipe"]["teleport"] = 1
    (tmp_path / "recipe.json").write_text(json.dumps(content, default=str))
    with pytest.raises(RunError, match="teleport"):
        read_record(RunFolder(tmp_path))
