"""`crosshead runs`: what was trained, with its scores."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

if TYPE_CHECKING:
    from rich.table import Table

    from crosshead.runs.survey import Survey

Column = Literal[
    "run", "state", "recipe", "task", "model", "epochs", "best", "last", "test", "seconds", "date"
]
FolderArgument = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="[DIR]")]


def runs(
    folder: FolderArgument = Path("runs"),
    *,
    sort: Column = "run",
    csv: bool = False,
    json: bool = False,
) -> None:
    """List what was trained: epochs, validation scores, metrics of the test set.

    Unfinished, running and broken ones are listed as such. The best and the last score are those of the
    validation set, and test metrics are there once a run was evaluated.

    Args:
        folder: the folder of run folders.
        sort: by which column; names ascend, and of numbers and dates the largest comes first.
        csv: print CSV, with fractions for scores, in place of a table.
        json: print JSON, likewise.
    """
    from crosshead.cli.console import Terminal
    from crosshead.runs import survey

    if csv and json:
        raise ValueError("csv and json exclude each other: give one of --csv and --json")
    found = [] if folder == Path("runs") and not folder.exists() else survey.sort(survey.survey(folder), sort)
    if json:
        _print_json(found)
    elif csv:
        _print_csv(found)
    elif found:
        _show(found, folder)
    else:
        Terminal().line(f"{folder} holds no run yet; to make one: crosshead train digits")


def _show(found: "Sequence[Survey]", folder: Path) -> None:
    from crosshead.cli.console import Terminal

    console = Terminal()
    if not console.is_terminal:
        console = Terminal(width=1000)
    console.print(table_of(found, folder, narrow=console.width < 100))
    for run in found:
        if run.fault is not None:
            console.line(f"{run.run} is broken: {run.fault}")


def table_of(found: "Sequence[Survey]", folder: Path, *, narrow: bool) -> "Table":
    """Below 100 columns without task, model and date."""
    from rich import box
    from rich.table import Table

    from crosshead.cli.progress import clock, percent

    table = Table(box=box.SIMPLE, padding=(0, 1), pad_edge=False)
    for heading in ("run", *(() if narrow else ("task", "model"))):
        table.add_column(heading, overflow="fold")
    for heading in ("epochs", "best", "last"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("test", overflow="fold")
    for heading in ("time", *(() if narrow else ("date",))):
        table.add_column(heading, justify="right", no_wrap=True)
    for run in found:
        asked = "?" if run.asked is None else str(run.asked)
        epochs = run.state if run.epochs is None else f"{run.epochs}/{asked}"
        if run.epochs is not None and run.state != "finished":
            epochs = (
                f"{epochs} {run.state}"
                if not narrow
                else f"{epochs}{'+' if run.state == 'training' else '-'}"
            )
        table.add_row(
            str(Path(run.run).relative_to(folder)),
            *([] if narrow else [run.task or "", Path(run.model or "").name]),
            epochs,
            *("" if score is None else percent(score) for score in (run.best, run.last)),
            ", ".join(f"{name} {percent(value)}" for name, value in list(run.test.items())[:2]),
            "" if run.seconds is None else clock(run.seconds),
            *([] if narrow else ["" if run.date is None else f"{run.date:%Y-%m-%d %H:%M}"]),
        )
    return table


def _print_json(found: "Sequence[Survey]") -> None:
    import json

    print(json.dumps([_plain(run) for run in found], indent=2))


def _print_csv(found: "Sequence[Survey]") -> None:
    import csv
    import dataclasses
    import json
    import sys

    from crosshead.runs.survey import Survey

    columns = [each.name for each in dataclasses.fields(Survey)]
    writer = csv.DictWriter(sys.stdout, columns, lineterminator="\n")
    writer.writeheader()
    for run in found:
        plain = _plain(run)
        writer.writerow({**plain, "test": json.dumps(plain["test"]) if plain["test"] else ""})


def _plain(run: "Survey") -> dict[str, Any]:
    return {**vars(run), "date": None if run.date is None else run.date.isoformat(timespec="seconds")}
