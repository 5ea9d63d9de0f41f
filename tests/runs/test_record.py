import dataclasses
import json
from pathlib import Path

import pytest

from crosshead.runs.folder import RunError, RunFolder
from crosshead.runs.classify.recipe import ClassifyRecipe
from crosshead.runs.facts import ImageFacts
from crosshead.runs.record import RunRecord, read_record

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
    facts=ImageFacts(classes=("crow", "owl"), in_chans=1, image_size=32, mean=(0.1,), std=(1 / 3,)),
    start=None,
    stamp={"versions": {}},
)


def test_what_is_written_is_read_again(tmp_path):
    run = RunFolder(tmp_path)
    RECORD.write(run)
    assert read_record(run) == RECORD


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(RunError, match="is no folder: name a run folder"):
        read_record(RunFolder(tmp_path / "nowhere"))
    with pytest.raises(RunError, match=r"recipe.json does not exist: name the folder of a run"):
        read_record(RunFolder(tmp_path))


@pytest.mark.parametrize("field", ["recipe", "facts", "name", "task"])
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
