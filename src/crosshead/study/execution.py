"""Runs the trials of a study, several at a time, and keeps each result at once. Imports no torch."""

import gc
import multiprocessing
import os
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from itertools import chain, zip_longest
from multiprocessing.managers import SyncManager
from pathlib import Path
from typing import Any

from crosshead.runs.folder import RunError
from crosshead.study.plans import Candidate, unfinished
from crosshead.study.trial import Ledger, Trial

POLL_SECONDS = 0.5
# Steps of each candidate, after two that warm up, from which a forecast is made.
FORECAST_STEPS = 5


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


def forecast_seconds(
    found: Sequence[Candidate],
    ledger: Ledger,
    place: Place,
    *,
    tell: Callable[[str, int, int], object] = lambda attention, number, count: None,
) -> float:
    """About how many seconds the unfinished trials take, from a few steps of each candidate.

    Args:
        found: what is compared.
        ledger: what is finished.
        place: where trials run; `place.jobs` trainings are assumed to run side by side.
        tell: told which mechanism is being tried, how many were before, and how many there are.

    Raises:
        ValueError: if a model cannot be built.
    """
    total = 0.0
    still_open = [(candidate, candidate.open_samples(ledger)) for candidate in found]
    still_open = [(candidate, samples) for candidate, samples in still_open if samples]
    for number, (candidate, samples) in enumerate(still_open):
        tell(candidate.attention, number, len(still_open))
        total += samples * _seconds_per_sample(candidate, place)
    return total / place.jobs


def _seconds_per_sample(candidate: Candidate, place: Place) -> float:
    import torch

    from crosshead.study.training import seconds_per_sample

    _quieten()
    before = torch.get_num_threads()
    torch.set_num_threads(place.threads)
    try:
        return seconds_per_sample(
            replace(candidate.trial, learning_rate=candidate.options.learning_rates[0]),
            data_dir=place.data_dir,
            device=place.device,
            steps=FORECAST_STEPS,
        )
    finally:
        torch.set_num_threads(before)


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
        ValueError: if a trial raises it; trials that are finished are kept.
        RunError: if the system ended a training.
    """
    all_samples = [samples for candidate in found for samples in candidate.all_samples()]
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
                trials=len(all_samples),
                samples=sum(trial.samples for trial in done if trial not in started) + counted,
                samples_in_all=sum(all_samples),
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
    """What can be trained now: what chooses learning rates, then seed after seed of every candidate."""
    selecting = (trial for candidate in found for trial in candidate.selecting())
    seeds = zip_longest(*(candidate.testing(ledger) for candidate in found))
    testing = (trial for one_seed in seeds for trial in one_seed if trial is not None)
    return list(dict.fromkeys(unfinished(chain(selecting, testing), ledger)))


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
    import torch

    torch.set_num_threads(threads)
    _quieten()


def _quieten() -> None:
    """Nobody watches a single training of a study."""
    import logging
    import warnings

    import lightning.pytorch  # noqa: F401  sets the levels of its loggers when it is imported

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

    # A trainer and its data hold each other: without this they would pile up, training by training.
    gc.collect()
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
