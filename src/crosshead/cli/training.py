"""A training seen from the terminal: progress, what an interruption leaves, what came out."""

import sys
import time
from collections.abc import Callable, Sequence

from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from crosshead.cli.console import quiet, say
from crosshead.cli.progress import ShowProgress, clock, share
from crosshead.runs.checkpoints import comparable
from crosshead.runs.curves import title_of
from crosshead.runs.folder import RunFolder
from crosshead.runs.metrics import AFTER, read_metrics
from crosshead.tasks.recipe import Recipe


def show_training(run: RunFolder, recipe: Recipe, fit: Callable[[Sequence[Callback]], object]) -> None:
    """Trains with progress on the terminal, and says afterwards what to look at and what to do next.

    Args:
        run: The run.
        recipe: Its recipe.
        fit: The training, given further callbacks.
    """
    started = time.perf_counter()
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
    # The last epoch is always tested, others need not be.
    score = list(rows[0])[-len(AFTER) - 1]
    best = max((row for row in rows if row[score]), key=lambda row: comparable(float(row[score])))
    say(
        f"test {title_of(score)} {share(float(rows[-1][score]))} after epoch {rows[-1]['epoch']}, "
        f"best {share(float(best[score]))} after epoch {best['epoch']}; "
        f"{clock(time.perf_counter() - started)} in all",
        f"model: {run.model} ({'moving average of the ' if recipe.ema else ''}weights of the last epoch)",
        f"curves: {run.curves}",
        f"next: crosshead evaluate {run.path}",
        f"      crosshead predict {run.path} {'BEFORE AFTER' if recipe.task == 'change' else 'IMAGE'}",
    )
