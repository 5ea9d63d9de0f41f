"""A training seen from the terminal: progress, what an interruption leaves, what came out."""

import sys
import time
from collections.abc import Callable, Sequence

from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from crosshead.cli.console import quiet, say
from crosshead.cli.progress import clock, percent
from crosshead.cli.signals import SIGNALS
from crosshead.cli.training_progress import ShowTraining
from crosshead.runs.folder import RunFolder
from crosshead.runs.rows import Rows, best_row, has_stopped_early, read_metrics, score_of, title_of
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
    try:
        with quiet():
            fit([ShowTraining(run, recipe), *_heads_of(recipe)])
    except BaseException as error:
        code = SIGNALS.code(error)
        if code is None:
            raise
        if run.recipe.exists():
            say(f"interrupted; go on after the last finished epoch: crosshead resume {run.path}")
        sys.exit(code)
    if rank_zero_only.rank != 0:
        return
    rows = read_metrics(run)
    say(
        _outcome(rows, recipe.patience, time.perf_counter() - started),
        f"model: {run.model} ({'moving average of the ' if recipe.ema else ''}weights of the last epoch)",
        f"curves: {run.curves}",
        f"next: crosshead evaluate {run.path}",
        f"      crosshead predict {run.path} {task_of(recipe.task).arguments}",
    )


def _heads_of(recipe: Recipe) -> Sequence[Callback]:
    if recipe.explain_every is None:
        return []
    from crosshead.explain.training import ShowHeads

    return [ShowHeads(recipe.explain_every)]


def _outcome(rows: Rows, patience: int | None, seconds: float) -> str:
    """The validation score of the last epoch, which is always validated, and of the best one."""
    score = score_of(rows)
    if score is None:
        return f"trained without a validation set; {clock(seconds)} in all"
    best = best_row(rows)
    early = f"stopped early, patience is {patience}; " if has_stopped_early(rows, patience) else ""
    return (
        f"{early}validation {title_of(score)} {percent(float(rows[-1][score]))} after epoch "
        f"{rows[-1]['epoch']}, best {percent(float(best[score]))} after epoch {best['epoch']}; "
        f"{clock(seconds)} in all"
    )
