"""A training seen from the terminal: progress, what an interruption leaves, what came out."""

import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from crosshead.cli.console import quiet, say
from crosshead.cli.progress import ShowProgress, clock, percent
from crosshead.runs.folder import RunFolder
from crosshead.runs.rows import AFTER, comparable, read_metrics, title_of
from crosshead.tasks.recipe import Recipe
from crosshead.tasks.task import task_of


def show_training(run: RunFolder, recipe: Recipe, fit: Callable[[Sequence[Callback]], object]) -> None:
    """Trains with progress on the terminal, and says afterwards what to look at and what to do next.

    Args:
        run: the run.
        recipe: its recipe.
        fit: the training, given further callbacks.
    """
    started = time.perf_counter()
    sys.unraisablehook = partial(_unless_loaders_end, sys.unraisablehook)
    try:
        with quiet():
            fit([ShowProgress(run, recipe)])
    except (KeyboardInterrupt, SystemExit) as stop:
        if run.recipe.exists():
            say(f"interrupted; go on after the last finished epoch: crosshead resume {run.path}")
        sys.exit(130 if isinstance(stop, KeyboardInterrupt) else stop.code)
    if rank_zero_only.rank != 0:
        return
    rows = read_metrics(run)
    say(
        _outcome(rows, time.perf_counter() - started),
        f"model: {run.model} ({'moving average of the ' if recipe.ema else ''}weights of the last epoch)",
        f"curves: {run.curves}",
        f"next: crosshead evaluate {run.path}",
        f"      crosshead predict {run.path} {task_of(recipe.task).arguments}",
    )


def _unless_loaders_end(show: Callable[[Any], object], problem: Any) -> None:
    """Where a loader process is told to end torch raises, at any place; the training has said why."""
    if "DataLoader worker" not in str(problem.exc_value):
        show(problem)


def _outcome(rows: list[dict[str, str]], seconds: float) -> str:
    """The validation score of the last epoch, which is always validated, and of the best one."""
    score = list(rows[0])[-len(AFTER) - 1]
    if not score.startswith("val_"):
        return f"trained without a validation set; {clock(seconds)} in all"
    best = max((row for row in rows if row[score]), key=lambda row: comparable(float(row[score])))
    return (
        f"validation {title_of(score)} {percent(float(rows[-1][score]))} after epoch {rows[-1]['epoch']}, "
        f"best {percent(float(best[score]))} after epoch {best['epoch']}; {clock(seconds)} in all"
    )
