"""`crosshead study`: accuracy at equal budget."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crosshead.cli.bench import choose_device
from crosshead.cli.flags import summary_of
from crosshead.cli.menu import Menu, menu_of
from crosshead.cli.signals import SIGNALS
from crosshead.study.options import (
    AblationOptions,
    ConjunctionsOptions,
    HeadsOptions,
    PrimaryOptions,
    ReportOptions,
    RivalsOptions,
    StudyOptions,
)

if TYPE_CHECKING:
    from crosshead.cli.console import Terminal
    from crosshead.study.execution import Place, Progress
    from crosshead.study.plans import Candidate


STUDIES = {
    "primary": PrimaryOptions,
    "rivals": RivalsOptions,
    "ablation": AblationOptions,
    "heads": HeadsOptions,
    "conjunctions": ConjunctionsOptions,
    "report": ReportOptions,
}


def study_menu(run: Callable[[Any], object]) -> Menu:
    """The studies by name."""
    return menu_of(STUDIES, run, about=summary_of(study), what="study")


def study(request: StudyOptions | ReportOptions) -> None:
    """Compare mechanisms by training them at equal budget, and draw what came out."""
    from crosshead.study import plans

    if isinstance(request, ReportOptions):
        report(request.folder)
        return
    place, precision = place_of(request)
    match request:
        case PrimaryOptions():
            name, found = "primary", plans.candidates(plans.PRIMARY, request, precision)
        case RivalsOptions():
            name = "rivals"
            found = plans.candidates(request.mechanisms or plans.all_mechanisms(), request, precision)
        case AblationOptions():
            name, found = "ablation", plans.ablation(request, precision)
        case HeadsOptions():
            name, found = "heads", plans.heads(request, precision)
        case ConjunctionsOptions():
            name, found = "conjunctions", plans.conjunctions(request, precision)
        case _:
            raise TypeError(f"{type(request).__name__} are options of no study")
    run(name, found, request, place)


def run(name: str, found: "Sequence[Candidate]", options: StudyOptions, place: "Place") -> None:
    """Says what will be trained, trains it with progress, and says where the results are."""
    from crosshead.cli.console import Terminal
    from crosshead.cli.progress import Bar
    from crosshead.study.execution import forecast_seconds, run_study
    from crosshead.study.trial import Ledger

    if options.data_dir is None and options.data in ("fashion-mnist", "cifar10"):
        raise ValueError(f"{options.data} needs the folder of its images: name it with --data-dir")
    console = Terminal()
    out = options.out or Path("studies") / f"{name}-{options.data}"
    ledger = Ledger(out / "results.csv")
    found = _buildable(console, found)
    trials = sum(len(candidate.all_samples()) for candidate in found)
    console.line(f"{trials} trainings of {len(found)} mechanisms, {place.jobs} at a time on {place.device}")
    with Bar() as bar:
        seconds = forecast_seconds(
            found,
            ledger,
            place,
            tell=lambda name, number, count: bar.show(f"trying {name}", done=number, total=count),
        )
    console.line(
        f"about {_clock(seconds)}; results go to {ledger.path}, and an interrupted study goes on there",
    )
    if options.plan:
        return
    try:
        with _progress(console) as tell:
            run_study(found, ledger, place, arguments=sys.argv[1:], tell=tell)
    except BaseException as error:
        if SIGNALS.code(error) is not None:
            console.line("interrupted; the same command goes on after the last finished training")
        raise
    measure_cost(console, found, out, place.device)
    report(out)


def _buildable(console: "Terminal", found: "Sequence[Candidate]") -> "list[Candidate]":
    """The candidates whose models can be built; says why of the others.

    Raises:
        ValueError: if none can, or a name is unknown.
    """
    from crosshead.study.backbone import UnknownAttention, build_model
    from crosshead.study.trial import IN_CHANS

    kept, reason = [], None
    for candidate in found:
        trial = candidate.trial
        try:
            build_model(
                trial.data, trial.attention, trial.shape, num_classes=2, in_chans=IN_CHANS[trial.data]
            )
        except UnknownAttention:
            raise  # a slip of the pen, not a mechanism that does not fit
        except (ValueError, TypeError, NotImplementedError, ImportError) as error:
            reason = error
            console.line(f"left out: {error}")
        else:
            kept.append(candidate)
    if not kept:
        raise ValueError(f"nothing is left to train: {reason}")
    return kept


def measure_cost(console: "Terminal", found: "Sequence[Candidate]", out: "Path", device: str) -> None:
    """Measures what each mechanism costs, now that nothing else runs, unless it is all written already."""
    from crosshead.bench.report import head_lines, write_table
    from crosshead.cli.progress import Bar
    from crosshead.study.cost import BATCH, Case, measure_costs
    from crosshead.study.report import COSTS, has_costs

    cases: list[Case] = [(one.trial.data, one.attention, one.trial.shape) for one in found]
    if has_costs(out / COSTS, cases):
        return
    with Bar() as bar:
        bar.show("measuring time and memory")
        rows = measure_costs(cases, device=device, tell=bar.show)
    write_table(out / COSTS, rows, head_lines(sys.argv[1:], f"float32, {device}, batch {BATCH}"))


def report(folder: "Path") -> None:
    """Writes the tables and pictures of a study from its CSVs, and prints the table."""
    from rich import box
    from rich.table import Table

    from crosshead.bench.report import write_table
    from crosshead.cli.console import Terminal
    from crosshead.runs.folder import write_atomically
    from crosshead.study.heads import heads_in_words, read_heads
    from crosshead.study.pictures import draw_study
    from crosshead.study.report import HEADINGS, RESULTS, cells_of, markdown, read_study, table
    from crosshead.study.trial import read_rows

    found = read_study(folder)
    console = Terminal()
    headings = list(HEADINGS.values())
    # Accuracies and costs apart: together they do not fit a terminal of eighty columns.
    parts: list[Sequence[int]] = [range(4)]
    if any(line.cost for line in found.lines):
        parts.append([0, *range(4, len(headings))])
    for part in parts:
        shown = Table(box=box.SIMPLE, padding=(0, 1), pad_edge=False)
        for place in part:
            shown.add_column(
                headings[place], justify="right" if place else "left", no_wrap=place > 0, overflow="fold"
            )
        for line in found.lines:
            cells = cells_of(line)
            shown.add_row(*(cells[place] for place in part))
        console.print(shown)
    console.line(f"differences are against {found.base}, paired by seed, with 95 % intervals")
    if by_heads := read_heads(read_rows(folder / RESULTS)):
        for line in heads_in_words(by_heads):
            console.line(line)
    write_table(folder / "table.csv", table(found), [])
    write_atomically(folder / "table.md", markdown(found).encode())
    for path in (folder / "table.csv", folder / "table.md", *draw_study(folder, found)):
        console.line(f"written: {path}")


def place_of(options: StudyOptions) -> "tuple[Place, str]":
    """Where a study runs, and in which precision.

    Raises:
        ValueError: if there is no such device, or fewer cores than threads.
    """
    import torch
    from joblib import cpu_count

    from crosshead.study.execution import Place

    device = choose_device(options.device)
    cores = cpu_count()  # affinity and limits of a container counted
    torch.set_num_threads(min(torch.get_num_threads(), cores))
    most = max(1, cores // options.threads)
    jobs = options.jobs or (min(4, most) if device == "cuda" else most)
    if jobs * options.threads > cores:
        raise ValueError(
            f"jobs x threads must be at most {cores}, the cores that this process may use; got {jobs} x "
            f"{options.threads}: threads that wait for a core spin and slow all of them down"
        )
    place = Place(
        device=device,
        jobs=jobs,
        threads=options.threads,
        workers=cores // jobs - options.threads if device == "cuda" else 0,
        data_dir=None if options.data_dir is None else options.data_dir.expanduser().resolve(),
    )
    return place, options.precision or ("bf16-mixed" if device == "cuda" else "32-true")


@contextmanager
def _progress(console: "Terminal") -> "Iterator[Callable[[Progress], None]]":
    """How many samples are trained on and the time left, and a line for every finished training."""
    from crosshead.cli.progress import Bar

    with Bar() as bar:

        def tell(progress: "Progress") -> None:
            bar.show(
                f"{progress.finished} of {progress.trials} trainings",
                done=progress.samples,
                total=float(progress.samples_in_all),
            )
            if progress.row is not None:
                console.line(f"{progress.finished:>3}/{progress.trials} {_described(progress.row)}")

        yield tell


def _described(row: dict[str, str]) -> str:
    return (
        f"{row['attention']}, rate {row['learning_rate']}, seed {row['seed']}: "
        f"{float(row['accuracy']):.2%} {row['split']} accuracy, {_clock(float(row['train_seconds']))}"
    )


def _clock(seconds: float) -> str:
    from crosshead.cli.progress import clock

    return clock(seconds)
