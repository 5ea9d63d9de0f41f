import dataclasses
import json
import os
from pathlib import Path

import pytest

from crosshead.runs.folder import RunError, RunFolder
from crosshead.runs.record import VERSION, RunRecord, read_record
from crosshead.tasks.change.data import ChangeMeta
from crosshead.tasks.change.recipe import ChangeRecipe
from crosshead.tasks.classify.data import ClassifyMeta
from crosshead.tasks.classify.recipe import ClassifyRecipe
from crosshead.tasks.detect.data import DetectMeta
from crosshead.tasks.detect.recipe import DetectRecipe
from crosshead.tasks.segment.data import SegmentMeta
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
        SegmentRecipe(data="folder", crop=32, scale=(0.5, 1.5), class_names=("crow", "owl"), **SHARED),
        SegmentMeta(**LOOK, ignore_index=255),
    ),
    "detect": (
        DetectRecipe(data="folder", anchor_sizes=(4, 8, 16, 32, 64), scenes=(8, 4), in_chans=1, **SHARED),
        DetectMeta(**LOOK, category_ids=(3, 7), masks=True, min_size=32, max_size=40),
    ),
    "change": (
        ChangeRecipe(data="folder", class_names=("same", "gone", "new"), **SHARED),
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


def test_a_task_that_is_unknown_and_the_metadata_of_another_are_refused(tmp_path):
    recipe, meta = DENSE["change"]
    content = {
        "version": VERSION,
        "task": "change",
        **dataclasses.asdict(RunRecord(name="", recipe=recipe, meta=meta, start=None, stamp={})),
    }
    for changes in (
        {"task": "divine"},
        {"task": "detect"},
        {"meta": dataclasses.asdict(DENSE["segment"][1])},
    ):
        (tmp_path / "recipe.json").write_text(json.dumps({**content, **changes}, default=str))
        with pytest.raises(RunError, match="is not a recipe that Crosshead wrote"):
            read_record(RunFolder(tmp_path))


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(RunError, match="is not a folder: name a run folder"):
        read_record(RunFolder(tmp_path / "nowhere"))
    with pytest.raises(RunError, match=f"stopped before .* was written: train again with --out {tmp_path}"):
        read_record(RunFolder(tmp_path))
    (tmp_path / "notes.txt").touch()
    with pytest.raises(RunError, match=r"recipe.json does not exist: name the folder of a run"):
        read_record(RunFolder(tmp_path))


@pytest.mark.parametrize("field", ["recipe", "meta", "name", "task"])
def test_a_recipe_with_a_part_missing_is_refused(tmp_path, field):
    content = {"version": VERSION, "task": "classify", **dataclasses.asdict(RECORD)}
    del content[field]
    (tmp_path / "recipe.json").write_text(json.dumps(content, default=str))
    with pytest.raises(RunError, match="is not a recipe that Crosshead wrote"):
        read_record(RunFolder(tmp_path))


def test_a_field_of_another_version_is_named(tmp_path):
    content = {"version": VERSION, "task": "classify", **dataclasses.asdict(RECORD)}
    content["recipe"]["teleport"] = 1
    (tmp_path / "recipe.json").write_text(json.dumps(content, default=str))
    with pytest.raises(RunError, match="teleport"):
        read_record(RunFolder(tmp_path))


@pytest.mark.parametrize("version", [None, 1, 3, "2", [2]])
def test_a_recipe_of_another_version_is_refused_in_one_line(tmp_path, version):
    content = {"version": version, "task": "classify", **dataclasses.asdict(RECORD)}
    if version is None:
        del content["version"]
    (tmp_path / "recipe.json").write_text(json.dumps(content, default=str))
    with pytest.raises(
        RunError, match=rf"^\S+ is of version .*, and this Crosshead reads version {VERSION}: "
    ):
        read_record(RunFolder(tmp_path))


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(ClassifyRecipe)])
@pytest.mark.parametrize("value", [{}, [[]], -(10**30), "\x1b[2J", float("1e400")], ids=repr)
def test_an_edited_choice_is_read_or_refused_in_one_line(tmp_path, field, value):
    RECORD.write(RunFolder(tmp_path))
    content = json.loads((tmp_path / "recipe.json").read_text())
    content["recipe"][field] = value
    (tmp_path / "recipe.json").write_text(json.dumps(content))
    told = ""
    try:
        read = read_record(RunFolder(tmp_path)).recipe
        read.check()
        assert isinstance(getattr(read, field), str | dict | Path | float | int)
    except RunError as error:
        told = str(error)
    assert "\n" not in told
    assert told == "" or told.startswith(str(tmp_path / "recipe.json"))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("workers", 10**6),
        ("workers", True),
        ("epochs", 0),
        ("epochs", "3"),
        ("batch_size", 2.5),
        ("lr", "fast"),
        ("lr", -1),
        ("crop_scale", [0.1]),
        ("data", "elsewhere"),
        ("precision", "8-bit"),
    ],
)
def test_a_choice_of_the_wrong_type_or_out_of_bounds_is_named(tmp_path, field, value):
    RECORD.write(RunFolder(tmp_path))
    content = json.loads((tmp_path / "recipe.json").read_text())
    content["recipe"][field] = value
    (tmp_path / "recipe.json").write_text(json.dumps(content))
    with pytest.raises(RunError, match=rf"^[^\n]*{field}[^\n]*$"):
        read_record(RunFolder(tmp_path))


@pytest.mark.parametrize(
    ("field", "value"),
    [("classes", "crow"), ("classes", [1]), ("in_chans", "one"), ("mean", [None]), ("image_size", {})],
)
def test_metadata_of_the_wrong_type_are_named(tmp_path, field, value):
    RECORD.write(RunFolder(tmp_path))
    content = json.loads((tmp_path / "recipe.json").read_text())
    content["meta"][field] = value
    (tmp_path / "recipe.json").write_text(json.dumps(content))
    with pytest.raises(RunError, match=rf"^[^\n]*{field}[^\n]*$"):
        read_record(RunFolder(tmp_path))


@pytest.mark.parametrize("content", [b"", b"[]", b"3", b"{", b"\xff\x00", b"[" * 100_000, b'{"task": {}}'])
def test_a_file_that_is_no_record_is_refused_in_one_line(tmp_path, content):
    (tmp_path / "recipe.json").write_bytes(content)
    with pytest.raises(RunError, match=rf"^{tmp_path / 'recipe.json'} [^\n]*$"):
        read_record(RunFolder(tmp_path))


def test_a_pipe_in_place_of_a_file_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "recipe.json")
    with pytest.raises(RunError, match="is not a file"):
        read_record(RunFolder(tmp_path))
