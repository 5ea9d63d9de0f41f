import os
import subprocess
import sys

import pytest

from crosshead.runs.folder import RunError, RunFolder
from crosshead.runs.rows import AFTER, BEFORE, best_row, has_stopped_early, read_metrics, score_of, title_of


def test_a_run_without_metrics_has_no_rows(tmp_path):
    assert read_metrics(RunFolder(tmp_path)) == []


def test_metrics_with_other_columns_are_refused(tmp_path):
    (tmp_path / "metrics.csv").write_text("a,b\n1,2\n")
    with pytest.raises(
        RunError, match=r"must have the columns epoch, step, learning_rate, ..., images_per_second, seconds"
    ):
        read_metrics(RunFolder(tmp_path))


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


@pytest.mark.parametrize(
    ("column", "title"),
    [
        ("val_mean_iou", "mean IoU"),
        ("val_box_ap50", "box AP50"),
        ("val_mask_ap", "mask AP"),
        ("train_pixel_accuracy", "pixel accuracy"),
        ("val_f1", "F1"),
        ("val_auc", "AUC"),
        ("val_kappa", "kappa"),
        ("val_loss", "loss"),
    ],
)
def test_a_column_has_a_name_in_words(column, title):
    assert title_of(column) == title


def rows(*scores: str, column: str = "val_f1") -> list[dict[str, str]]:
    return [
        dict.fromkeys((*BEFORE, "train_loss"), "1") | {column: score} | dict.fromkeys(AFTER, "1")
        for score in scores
    ]


def test_the_score_is_the_last_column_of_the_validation_set():
    assert score_of(rows("0.5")) == "val_f1"
    assert score_of(rows("0.5", column="train_f1")) is None
    assert score_of([]) is None


def test_the_best_epoch_is_the_first_of_equals_and_never_an_undefined_one():
    found = rows("nan", "", "0.5", "0.7", "0.7")
    assert best_row(found) is found[3]


@pytest.mark.parametrize(
    ("scores", "patience", "stopped"),
    [
        (("0.5", "0.4", "0.3"), 2, True),
        (("0.5", "0.5", "0.5"), 2, True),
        (("0.5", "0.4", "0.6"), 2, False),
        (("0.5", "0.4"), 2, False),
        # Epochs in between that were not validated do not count, and none of them ends a training.
        (("0.5", "", "0.4", "", "0.3"), 2, True),
        (("0.5", "", "0.4", "", "0.3", ""), 2, False),
        (("nan", "nan"), 1, True),
        (("0.5", "0.4", "0.3"), None, False),
        ((), 1, False),
    ],
)
def test_patience_ends_after_so_many_validations_without_a_better_score(scores, patience, stopped):
    assert has_stopped_early(rows(*scores), patience) is stopped


def test_rows_are_read_without_torch():
    code = (
        "import sys, crosshead.runs.rows\n"
        "assert not {'torch', 'lightning', 'matplotlib', 'pydantic'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
