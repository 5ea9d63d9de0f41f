"""The table of a study: one row for each finished trial, kept as soon as it is there."""

import csv
import io
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from crosshead.measure.stamp import stamp
from crosshead.runs.folder import RunError, write_atomically
from crosshead.study.trial import Shape, Trial

# What decides a trial, and a row must hold.
COLUMNS = {*Trial.__dataclass_fields__, *Shape.__dataclass_fields__} - {"shape"}


class Ledger:
    """A CSV file with a row for each trial. Rows are added, never changed.

    A row begins with what decides a trial (`Trial.facts`); results follow, and on what they were made.

    Args:
        path: the file; it need not exist.

    Raises:
        RunError: there is a file, and it is no such table.

    Example:
        >>> Ledger(Path("no/such/results.csv")).rows
        []
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[dict[str, str]] = []
        if path.exists():
            self.rows = read_rows(path)

    def find(self, trial: Trial) -> dict[str, str] | None:
        """The row of a trial, or None where it is not finished."""
        names, key = list(trial.facts()), trial.key()
        return next((row for row in self.rows if tuple(row[name] for name in names) == key), None)

    def add(self, trial: Trial, result: dict[str, Any], *, arguments: Sequence[str]) -> dict[str, str]:
        """Writes a row, with the command, versions and hardware; answers it as it is written.

        Args:
            trial: which trial.
            result: what came out.
            arguments: the command line after `crosshead`.

        Raises:
            RunError: the table in the file has other columns.
        """
        found = stamp()
        machine = found["hardware"]
        row = {
            **trial.facts(),
            **result,
            "command": f"crosshead {shlex.join(arguments)}",
            "finished": found["created"],
            "hardware": "; ".join(
                [f"{machine['processor']}, {machine['cores']} cores", *machine["accelerators"]]
            ),
            "versions": "; ".join(f"{name} {number}" for name, number in found["versions"].items() if number),
        }
        written = {name: str(value) for name, value in row.items()}
        if self.rows and list(self.rows[0]) != list(written):
            raise RunError(
                f"{self.path} has other columns than this version writes: name another folder with --out"
            )
        self.rows.append(written)
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, list(written), lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        write_atomically(self.path, text.getvalue().encode())
        return written


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a table of trials.

    Raises:
        RunError: the file is no such table.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise RunError(f"{path} cannot be read ({error}): name the results.csv of a study") from None
    if not rows or not {*COLUMNS, "accuracy"} <= rows[0].keys():
        raise RunError(f"{path} is no table of a study, or is damaged: name the results.csv of a study")
    # Cells that are missing are None; those beyond the last column stand under None.
    for number, row in enumerate(rows, start=1):
        if None in row or None in row.values() or not _is_number(row["accuracy"]):
            raise RunError(f"{path} is damaged in row {number}: take that line out, or name another folder")
    return rows


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
