import dataclasses
import shutil

import pytest

from crosshead.runs import engine
from crosshead.runs.folder import RunError, RunFolder
from crosshead.runs.record import read_record
from crosshead.runs.rows import AFTER, BEFORE, read_metrics
from crosshead.tasks.classify.module import Classifier


def test_a_finished_run_has_one_row_for_each_epoch(trained, tiny):
    rows = read_metrics(trained)
    assert [int(row["epoch"]) for row in rows] == [1, 2]
    assert [int(row["step"]) for row in rows] == [5, 10]
    assert all(tuple(row) == (*BEFORE, *Classifier.columns, *AFTER) for row in rows)
    for row in rows:
        assert 0 < float(row["train_loss"]) < 5
        assert 0 < float(row["val_loss"]) < 5
        assert 0 <= float(row["val_accuracy"]) <= 1
        assert float(row["images_per_second"]) > 1
    assert 0 < float(rows[0]["learning_rate"]) < tiny.lr
    assert float(rows[1]["learning_rate"]) == 0


def test_columns_of_another_task_are_not_continued(trained, tmp_path, dense_run):
    run = RunFolder(shutil.copytree(dense_run("change").path, tmp_path / "change"))
    shutil.copy(trained.metrics, run.metrics)
    record = read_record(run)
    longer = dataclasses.replace(record, recipe=dataclasses.replace(record.recipe, epochs=2))
    with pytest.raises(RunError, match=r"must have the columns epoch, .*, val_f1, .*: restore it"):
        engine.resume(run, longer)
