"""What was trained, at a glance: a line for each run folder. Imports neither torch nor lightning."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from crosshead.runs.folder import RunError, RunFolder, read_json
from crosshead.runs.lock import is_locked
from crosshead.runs.rows import Rows, best_row, has_stopped_early, read_metrics, score_of, title_of

State = Literal["finished", "training", "unfinished", "unknown", "broken"]

# What an evaluation.json calls the metrics that are worth a place in a table, in that order.
_METRICS = ("top1", "top5", "mean_iou", "pixel_accuracy", "f1", "accuracy", "kappa", "auc")
_PRECISION = ("ap", "ap50")


@dataclass(frozen=True, kw_only=True)
class Survey:
    """A run in a line; what is not known is None.

    Attributes:
        run: its folder.
        state: whether all epochs are done, a process trains there now, it waits to be resumed, an earlier
            version of Crosshead did not write how many epochs there are, or it cannot be read.
        fault: why it cannot be read.
        recipe: name of its recipe.
        task: of the recipe.
        model: likewise.
        epochs: that are done.
        asked: epochs that were asked for.
        score: what the scores are.
        best: the best score on the validation set, a fraction.
        last: that of the last validated epoch.
        test: metrics of the test set, fractions by their names.
        seconds: that the epochs took.
        date: when its last epoch was written.
    """

    run: str
    state: State
    fault: str | None = None
    recipe: str | None = None
    task: str | None = None
    model: str | None = None
    epochs: int | None = None
    asked: int | None = None
    score: str | None = None
    best: float | None = None
    last: float | None = None
    test: dict[str, float] = field(default_factory=dict)
    seconds: float | None = None
    date: datetime | None = None


def survey(folder: Path) -> list[Survey]:
    """The runs in a folder, and in folders of runs within it, by name.

    Raises:
        RunError: if there is no such folder.
    """
    if not folder.is_dir():
        raise RunError(f"{folder} is not a folder: name one that holds run folders, such as runs")
    return [survey_run(RunFolder(path)) for path in _run_folders(folder)]


def survey_run(run: RunFolder) -> Survey:
    """A run in a line."""
    try:
        content = read_json(run.recipe, remedy="nothing can be said of the run")
        recipe = content["recipe"]
        rows = read_metrics(run)
        epochs, asked = len(rows), _asked(content, len(rows))
        patience = recipe.get("patience")
        score = score_of(rows)
        known = [float(row[score]) for row in rows if row[score]] if score else []
        return Survey(
            run=str(run.path),
            state=_state(run, rows, asked, patience),
            recipe=str(content["name"]),
            task=str(content["task"]),
            model=str(recipe["model"]),
            epochs=epochs,
            asked=asked,
            score=None if score is None else title_of(score),
            best=_number(best_row(rows)[score or ""]) if known else None,
            last=_number(known[-1]) if known else None,
            test=_test_metrics(run),
            seconds=round(sum(float(row["seconds"]) for row in rows), 2),
            date=datetime.fromtimestamp(_newest(run.metrics, run.recipe)),
        )
    except (RunError, OSError, KeyError, TypeError, ValueError, AttributeError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        return Survey(run=str(run.path), state="broken", fault=reason)


def _run_folders(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir(), key=lambda path: _natural(path.name)):
        if not path.is_dir() or path.name.startswith("."):
            continue
        if any((path / name).exists() for name in ("recipe.json", "metrics.csv", "checkpoints", "model")):
            yield path
        else:
            yield from _run_folders(path)


def _natural(name: str) -> list[tuple[int, int, str]]:
    """digits-2 before digits-10."""
    parts = name.replace("_", "-").split("-")
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts]


def _asked(content: dict[str, Any], done: int) -> int | None:
    """Epochs in all; runs of earlier versions of Crosshead do not say how many come before the last stage."""
    before, last = content.get("epochs_before"), content["recipe"]["epochs"]
    asked = int(last) + int(before or 0)
    return None if before is None and done > asked else asked


def _state(run: RunFolder, rows: Rows, asked: int | None, patience: int | None) -> State:
    if is_locked(run):
        return "training"
    if has_stopped_early(rows, patience):
        return "finished"
    if asked is None:
        return "unknown"
    return "finished" if rows and len(rows) >= asked else "unfinished"


def _test_metrics(run: RunFolder) -> dict[str, float]:
    """The metrics of evaluation.json that are worth a place in a table."""
    if not run.evaluation.is_file():
        return {}
    content = read_json(run.evaluation, remedy="evaluate the run again")
    found = {name: content.get(name) for name in _METRICS}
    for kind in ("box", "mask"):
        if isinstance(part := content.get(kind), dict):
            found |= {f"{kind}_{name}": part.get(name) for name in _PRECISION}
    for size, nets in (content.get("agreement") or {}).items():
        found[f"cosine at {size} px"] = nets.get("linearized", {}).get("cosine")
    return {
        title_of(name): float(value)
        for name, value in found.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }


def _number(value: str | float) -> float | None:
    return None if math.isnan(float(value)) else float(value)


def _newest(*paths: Path) -> float:
    return max(path.stat().st_mtime for path in paths if path.exists())


def sort_key(found: Survey, column: str) -> tuple[bool, Any]:
    """What runs are sorted by: the largest score, and the newest, come first; the unknown last."""
    if column == "run":
        return False, [_natural(part) for part in Path(found.run).parts]
    value = getattr(found, column)
    if column == "test":
        value = next(iter(value.values()), None)
    if value is None:
        return True, 0
    if isinstance(value, datetime):
        return False, -value.timestamp()
    return False, -value if isinstance(value, int | float) else value


def sort(runs: Iterable[Survey], column: str) -> list[Survey]:
    """The runs by a column, an attribute of `Survey`; names ascend, numbers and dates descend."""
    return sorted(runs, key=lambda found: sort_key(found, column))
