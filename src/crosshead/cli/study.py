"""`crosshead study`: accuracy at equal budget."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from crosshead.study.options import PrimaryOptions, RivalsOptions, StudyOptions

if TYPE_CHECKING:
    from rich.console import Console

    from crosshead.study.execution import Place, Progress
    from crosshead.study.plans import Candidate


def study(
    request: Annotated[PrimaryOptions, tyro.conf.subcommand("primary")]
    | Annotated[RivalsOptions, tyro.conf.subcommand("rivals")],
) -> None:
    """Compare mechanisms by training them at equal budget."""
    from crosshead.study import plans

    if isinstance(request, PrimaryOptions):
        attentions: tuple[str, ...] = plans.PRIMARY
        name = "primary"
    else:
        attentions = request.mechanisms or plans.all_mechanisms()
        name = "rivals"
    place, precision = place_of(request)
    run(name, plans.candidates(attentions, request, precision), request, place)


def run(name: str, found: "Sequence[Candidate]", options: StudyOptions, place: "Place") -> None:
    """Says what will be trained, trains it with progress, and says where the results are."""
    from rich.console import Console

    from crosshead.study.execution import run_study
    from crosshead.study.forecast import forecast_seconds
    from crosshead.study.ledger import Ledger

    console = Console()
    out = options.out or Path("studies") / f"{name}-{options.data}"
    ledger = Ledger(out / "results.csv")
    trials = sum(len(candidate.selecting()) + candidate.options.seeds for candidate in found)
    _say(console, f"{trials} trainings of {len(found)} mechanisms, {place.jobs} at a time on {place.device}")
    with console.status("trying each for three steps", spinner="line") as status:
        seconds = forecast_seconds(found, ledger, place, tell=lambda name: status.update(f"trying {name}"))
    _say(
        console,
        f"about {_clock(seconds)}; results go to {ledger.path}, and an interrupted study goes on there",
    )
    if options.plan:
        return
    with _progress(console) as tell:
        run_study(found, ledger, place, arguments=sys.argv[1:], tell=tell)
    _say(console, f"next: crosshead study report {out}")


def place_of(options: StudyOptions) -> "tuple[Place, str]":
    """Where a study runs, and in which precision.

    Raises:
        ValueError: there is no such device.
    """
    import os

    import torch

    from crosshead.study.execution import Place

    there_is_one = torch.cuda.is_available()
    device = ("cuda" if there_is_one else "cpu") if options.device == "auto" else options.device
    if device == "cuda" and not there_is_one:
        raise ValueError("device is cuda, and torch finds none: use --device cpu")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    jobs = options.jobs or (4 if device == "cuda" else cores)
    place = Place(
        device=device,
        jobs=jobs,
        threads=max(1, cores // jobs),
        workers=max(1, cores // jobs - 1) if device == "cuda" else 0,
        data_dir=None if options.data_dir is None else options.data_dir.expanduser().resolve(),
    )
    return place, options.precision or ("bf16-mixed" if device == "cuda" else "32-true")


@contextmanager
def _progress(console: "Console") -> "Iterator[Callable[[Progress], None]]":
    """A bar in samples with the time left, and a line for every finished training."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"))
    with Progress(
        *columns,
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
        speed_estimate_period=1200,
    ) as bar:
        task = bar.add_task("", total=1)

        def tell(progress: "Progress") -> None:
            bar.update(
                task,
                description=f"{progress.finished} of {progress.trials} trainings",
                completed=progress.samples,
                total=progress.samples_in_all,
            )
            if progress.row is not None:
                row = progress.row
                _say(
                    console,
                    f"{progress.finished:>3}/{progress.trials} {row['attention']}, rate {row['learning_rate']}, seed "
                    f"{row['seed']}: {float(row['accuracy']):.2%} {row['split']} accuracy, "
                    f"{_clock(float(row['train_seconds']))}",
                )

        yield tell


def _say(console: "Console", text: str) -> None:
    console.print(text, highlight=False, markup=False, soft_wrap=True)


def _clock(seconds: float) -> str:
    from crosshead.cli.progress import clock

    return clock(seconds)
