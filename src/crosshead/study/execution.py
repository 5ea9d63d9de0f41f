"""Runs the trials of a study, several at a time, and keeps each result at once."""

import multiprocessing
import os
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing.managers import SyncManager
from pathlib import Path
from typing import Any

from crosshead.runs.folder import RunError
from crosshead.study.ledger import Ledger
from crosshead.study.plans import Candidate, unfinished
from crosshead.study.trial import Trial

POLL_SECONDS = 0.5


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where trials run.

    Attributes:
        device: "cpu" or "cuda".
        jobs: trials at a time, each in a process of its own.
        threads: threads of each.
        workers: loader processes of each.
        data_dir: the folder of the data set.
    """

    device: str
    jobs: int
    threads: int
    workers: int
    data_dir: Path | None


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a study is.

    Attributes:
        row: of the trial that has just finished, or None.
        finished: trials that are finished.
        trials: trials in all.
        samples: samples that are trained on so far.
        samples_in_all: how many there will have been.
    """

    row: dict[str, str] | None
    finished: int
    trials: int
    samples: int
    samples_in_all: int


def run_study(
    found: Sequence[Candidate],
    ledger: Ledger,
    place: Place,
    *,
    arguments: Sequence[str],
    tell: Callable[[Progress], object] = lambda progress: None,
) -> None:
    """Trains whatever has no row yet: first what chooses learning rates, then what is published.

    A candidate's published trials start as soon as its own learning rate is known.

    Args:
        found: what to compare.
        ledger: where rows are, and go.
        place: where trials run.
        arguments: the command line after `crosshead`, for the rows.
        tell: told of every finished trial, and about twice a second of the samples.

    Raises:
        ValueError: what a trial raises; trials that are finished are kept.
        RunError: the system ended a training.
    """
    published = sum(len(candidate.selecting()) + candidate.options.seeds for candidate in found)
    samples_in_all = sum(
        len(candidate.selecting()) * candidate.select_samples
        + candidate.options.seeds * candidate.trial.samples
        for candidate in found
    )
    context = multiprocessing.get_context("spawn")
    manager = SyncManager(ctx=context)
    manager.start(_watch_parent, (os.getpid(),))
    with (
        manager,
        ProcessPoolExecutor(
            place.jobs, mp_context=context, initializer=_start, initargs=(place.threads, os.getpid())
        ) as pool,
    ):
        ticks = manager.Queue()
        running: dict[Future, Trial] = {}
        started: set[Trial] = set()
        counted = 0

        def progress(row: dict[str, str] | None) -> Progress:
            done = _finished(found, ledger)
            return Progress(
                row=row,
                finished=len(done),
                trials=published,
                samples=sum(trial.samples for trial in done if trial not in started) + counted,
                samples_in_all=samples_in_all,
            )

        try:
            while True:
                for trial in _open(found, ledger):
                    if trial not in started and len(running) < place.jobs:
                        started.add(trial)
                        running[pool.submit(_run, trial, place, ticks)] = trial
                if not running:
                    return
                done, _ = wait(running, timeout=POLL_SECONDS, return_when=FIRST_COMPLETED)
                counted += _drain(ticks)
                for future in done:
                    row = ledger.add(running.pop(future), _result(future), arguments=arguments)
                    tell(progress(row))
                tell(progress(None))
        except BaseException:
            for process in list(pool._processes.values()):
                process.terminate()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _open(found: Sequence[Candidate], ledger: Ledger) -> list[Trial]:
    """What can be trained now, in order: a candidate's learning rate before its results."""
    trials: list[Trial] = []
    for candidate in found:
        trials += unfinished(candidate.selecting(), ledger)
    for seed_major in _by_seed([candidate.testing(ledger) for candidate in found]):
        trials += unfinished([seed_major], ledger)
    return list(dict.fromkeys(trials))


def _by_seed(lists: Sequence[Sequence[Trial]]) -> list[Trial]:
    """The first seed of every candidate, then the second of every candidate, and so on."""
    longest = max((len(trials) for trials in lists), default=0)
    return [trials[place] for place in range(longest) for trials in lists if place < len(trials)]


def _finished(found: Sequence[Candidate], ledger: Ledger) -> set[Trial]:
    trials = {trial for candidate in found for trial in (*candidate.selecting(), *candidate.testing(ledger))}
    return {trial for trial in trials if ledger.find(trial) is not None}


def _result(future: Future) -> dict[str, Any]:
    try:
        return future.result()
    except BrokenProcessPool:
        raise RunError(
            "a training was ended from outside, perhaps for want of memory: run the command again with fewer "
            "--jobs; finished trainings are kept"
        ) from None


def _start(threads: int, parent: int) -> None:
    """Makes a worker process ready."""
    _watch_parent(parent)
    import logging
    import warnings

    import lightning.pytorch  # noqa: F401  sets the levels of its loggers when it is imported
    import torch

    torch.set_num_threads(threads)
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")


def _watch_parent(parent: int) -> None:
    threading.Thread(target=_leave_orphaned, args=(parent,), daemon=True).start()


def _leave_orphaned(parent: int) -> None:
    """Ends a process whose study was killed; it would train on, or wait, for nobody."""
    while os.getppid() == parent:
        time.sleep(POLL_SECONDS)
    os._exit(1)


def _run(trial: Trial, place: Place, ticks: Any) -> dict[str, Any]:
    from crosshead.study.training import run_trial

    return run_trial(
        trial, data_dir=place.data_dir, device=place.device, workers=place.workers, tell=ticks.put
    )


def _drain(ticks: Any) -> int:
    counted = 0
    while True:
        try:
            counted += ticks.get_nowait()
        except queue.Empty:
            return counted
