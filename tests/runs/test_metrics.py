import dataclasses
import os
import shutil

import pytest

from crosshead.runs import engine
from crosshead.runs.folder import RunError, RunFolder
from crosshead.runs.metrics import AFTER, BEFORE, read_metrics
from crosshead.runs.record import read_record
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


def test_a_run_without_metrics_has_no_rows(tmp_path):
    assert read_metrics(RunFolder(tmp_path)) == []


def test_metrics_with_other_columns_are_refused(tmp_path):
    (tmp_path / "metrics.csv").write_text("a,b\n1,2\n")
    with pytest.raises(
        RunError, match=r"must have the columns epoch, step, learning_rate, ..., images_per_second, seconds"
    ):
        read_metrics(RunFolder(tmp_path))


def test_columns_of_another_task_are_not_continued(trained, tmp_path, dense_run):
    run = RunFolder(shutil.copytree(dense_run("change").path, tmp_path / "change"))
    shutil.copy(trained.metrics, run.metrics)
    record = read_record(run)
    longer = dataclasses.replace(record, recipe=dataclasses.replace(record.recipe, epochs=2))
    with pytest.raises(RunError, match=r"must have the columns epoch, .*, val_f1, .*: restore it"):
        engine.resume(run, longer)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("\n1,", "\none,"),
        lambda text: text.replace("\n1,", "\n1,1,"),
        lambda text: text.rpartition(",")[0],
        lambda text: text + "3,15\n",
        lambda text: text.replace(".", "?"),
        lambda text: text + "\0",
    ],
)
def test_damaged_metrics_are_refused_in_one_line(trained, tmp_path, change):
    run = RunFolder(tmp_path)
    run.metrics.write_text(change(trained.metrics.read_text()))
    with pytest.raises(RunError, match=rf"^{run.metrics} [^\n]*: restore it or move it away$"):
        read_metrics(run)


def test_metrics_that_are_no_text_or_a_pipe_are_refused(tmp_path):
    run = RunFolder(tmp_path)
    run.metrics.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RunError, match="cannot be read"):
        read_metrics(run)
    run.metrics.unlink()
    os.mkfifo(run.metrics)
    with pytest.raises(RunError, match="is not a file"):
        read_metrics(run)
