"""Reading metrics.csv: one row for each finished epoch. Imports neither torch, lightning nor matplotlib."""

import csv
import math

from crosshead.runs.folder import RunError, RunFolder

Rows = list[dict[str, str]]

BEFORE = ("epoch", "step", "learning_rate")
AFTER = ("images_per_second", "seconds")
_WORDS = {"iou": "IoU", "ap": "AP", "ap50": "AP50", "f1": "F1", "auc": "AUC"}


def read_metrics(run: RunFolder) -> Rows:
    """The rows of metrics.csv; none if there is no such file yet.

    Raises:
        RunError: if the file is damaged, or has other columns.
    """
    if not run.metrics.exists():
        return []
    remedy = "restore it or move it away"
    if not run.metrics.is_file():
        raise RunError(f"{run.metrics} is not a file: {remedy}")
    try:
        with run.metrics.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            columns = tuple(reader.fieldnames or ())
            rows = list(reader)
    except (ValueError, csv.Error) as error:
        raise RunError(f"{run.metrics} cannot be read ({error}): {remedy}") from None
    if columns[: len(BEFORE)] != BEFORE or columns[-len(AFTER) :] != AFTER:
        raise RunError(
            f"{run.metrics} must have the columns {', '.join(BEFORE)}, ..., {', '.join(AFTER)}: {remedy}"
        )
    for number, row in enumerate(rows, start=2):
        if not _is_whole(row):
            raise RunError(f"{run.metrics} has no row of numbers in line {number}: {remedy}")
    return rows


def _is_whole(row: dict[str, str]) -> bool:
    """Whether a row has a number, or nothing, in each column and no more."""
    try:
        int(row["epoch"])
        for value in row.values():
            float(value or "nan")
    except (TypeError, ValueError):
        return False
    return None not in row.values()


def score_of(rows: Rows) -> str | None:
    """The column that says how good the net is on the validation set; None without such a set.

    Example:
        >>> score_of([{"train_loss": "2", "val_loss": "1", "val_f1": "0.5", **dict.fromkeys(AFTER, "1")}])
        'val_f1'
    """
    score = list(rows[0])[-len(AFTER) - 1] if rows else ""
    return score if score.startswith("val_") else None


def validated(rows: Rows) -> Rows:
    """The rows of the epochs that were validated."""
    score = score_of(rows)
    return [] if score is None else [row for row in rows if row[score]]


def comparable(score: float) -> float:
    """A score to choose epochs by: one that is undefined, for want of anything to measure, is the worst.

    Example:
        >>> comparable(float("nan")) < comparable(0.0)
        True
    """
    return -1.0 if math.isnan(score) else score


def best_row(rows: Rows) -> dict[str, str]:
    """The first of the validated rows that no other one surpasses.

    Raises:
        ValueError: if no epoch was validated.
    """
    score = score_of(rows)
    return max(validated(rows), key=lambda row: comparable(float(row[score or ""])))


def has_stopped_early(rows: Rows, patience: int | None) -> bool:
    """Whether a training ends after these epochs: so many validations did not surpass the best one.

    Args:
        rows: of metrics.csv.
        patience: how many; None for never.
    """
    score, known = score_of(rows), validated(rows)
    if patience is None or score is None or not rows[-1][score]:
        return False
    return len(known) - 1 - known.index(best_row(rows)) >= patience


def title_of(column: str) -> str:
    """A column of metrics.csv in words, without saying of which set.

    Example:
        >>> title_of("val_mean_iou"), title_of("train_loss")
        ('mean IoU', 'loss')
    """
    words = column.removeprefix("train_").removeprefix("val_").split("_")
    return " ".join(_WORDS.get(word, word) for word in words)
