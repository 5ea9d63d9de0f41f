"""One training of a study, and the table that keeps a row for each that is finished. Imports no torch."""

import ast
import csv
import dataclasses
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from crosshead.bench.report import write_table
from crosshead.measure.stamp import stamp_words
from crosshead.runs.folder import RunError

Data = Literal["digits", "fashion-mnist", "cifar10", "one-look-up", "twelve-look-ups"]
# Channels of an image; words of which look-ups are made.
IN_CHANS: dict[Data, int] = {
    "digits": 1,
    "fashion-mnist": 1,
    "cifar10": 3,
    "one-look-up": 85,
    "twelve-look-ups": 85,
}
Split = Literal["validation", "test"]


@dataclass(frozen=True, kw_only=True)
class Shape:
    """The model around the attention.

    Attributes:
        image_size: side of the images in pixels; items of a look-up.
        patch_size: side of a patch; 1 for look-ups.
        dim: channels `C`.
        depth: blocks.
        heads: heads `H`.
        mlp_ratio: hidden channels of the MLPs over `C`, before parameters are matched.
        landmarks: cells along each axis; of items, cells in all.

    Example:
        >>> Shape(image_size=28, patch_size=2, dim=64, depth=2, heads=8, mlp_ratio=2, landmarks=7).side
        14
    """

    image_size: int
    patch_size: int
    dim: int
    depth: int
    heads: int
    mlp_ratio: float
    landmarks: int

    @property
    def side(self) -> int:
        """Tokens along an axis of the image; of a look-up, its items."""
        return self.image_size // self.patch_size


@dataclass(frozen=True, kw_only=True)
class Trial:
    """Everything that decides the result of one training; equal trials are the same training.

    Attributes:
        data: where the samples come from.
        split: what it is measured on: a part carved from the training set, or the test set.
        attention: the mechanism, with options after a colon: `interactive:mixing=none,local_kernel=3`.
        shape: the model around it.
        samples: how many samples it is trained on, repetitions counted.
        batch_size: samples a step.
        learning_rate: at the peak of the schedule.
        weight_decay: of AdamW.
        precision: Lightning's name of it.
        seed: of the weights, the order and the augmentation.
    """

    data: Data
    split: Split
    attention: str
    shape: Shape
    samples: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    precision: str
    seed: int

    def columns(self) -> dict[str, Any]:
        """The columns of a table that say which trial a row belongs to."""
        columns = {**vars(self), **dataclasses.asdict(self.shape)}
        del columns["shape"]
        return columns

    def key(self) -> tuple[str, ...]:
        """What those columns of a CSV hold in a row of this trial."""
        return tuple(str(value) for value in self.columns().values())


SHAPE = tuple(Shape.__dataclass_fields__)
# The same in all trials of one candidate.
CANDIDATE = ("data", "attention", *SHAPE, "samples", "batch_size", "weight_decay", "precision")


def attention_options(attention: str) -> tuple[str, dict[str, Any]]:
    """The name of a mechanism, and its options.

    Raises:
        ValueError: if an option has no name or no value.

    Example:
        >>> attention_options("interactive:mixing=none,local_kernel=3")
        ('interactive', {'mixing': 'none', 'local_kernel': 3})
        >>> attention_options("ivit:attention_stages=(2,3)")
        ('ivit', {'attention_stages': (2, 3)})
    """
    name, _, listed = attention.partition(":")
    options: dict[str, Any] = {}
    for pair in filter(None, re.split(r",(?![^(]*\))", listed)):
        option, equals, text = pair.partition("=")
        if not (option.isidentifier() and equals and text):
            raise ValueError(f"attention {attention!r} holds {pair!r}: give name:option=value,option=value")
        try:
            options[option] = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            options[option] = text
    return name, options


def arm_of(attention: str) -> str:
    """The mechanism, whatever the rate at which its mixing matrices learn.

    Example:
        >>> arm_of("interactive-slow-mixing:mixing=both,scale=0.1")
        'interactive:mixing=both'
    """
    name, options = attention_options(attention)
    if name != "interactive-slow-mixing":
        return attention
    kept = ",".join(f"{option}={value}" for option, value in options.items() if option != "scale")
    return f"interactive:{kept}" if kept else "interactive"


class Ledger:
    """A CSV file with a row for each finished trial. Rows are added, never changed.

    A row begins with what decides a trial (`Trial.columns`); results follow, and what they were made on.

    Args:
        path: the file; it need not exist.

    Raises:
        RunError: if there is a file that is not such a table.

    Example:
        >>> Ledger(Path("no/such/results.csv")).rows
        []
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[dict[str, str]] = read_rows(path) if path.exists() else []

    def find(self, trial: Trial) -> dict[str, str] | None:
        """The row of a trial, or None where it is not finished."""
        names, key = list(trial.columns()), trial.key()
        return next((row for row in self.rows if tuple(row[name] for name in names) == key), None)

    def add(self, trial: Trial, result: dict[str, Any], *, arguments: Sequence[str]) -> dict[str, str]:
        """Writes a row, with the command, versions and hardware, and returns it as it is written.

        Args:
            trial: which trial.
            result: what came out.
            arguments: the command line after `crosshead`.

        Raises:
            RunError: if the table in the file has other columns.
        """
        words = stamp_words("; ")
        row = {
            **trial.columns(),
            **result,
            "command": f"crosshead {shlex.join(arguments)}",
            "finished": words["created"],
            "hardware": words["hardware"],
            "versions": words["versions"],
        }
        written = {name: str(value) for name, value in row.items()}
        if self.rows and list(self.rows[0]) != list(written):
            raise RunError(
                f"{self.path} has other columns than this version writes: name another folder with --out"
            )
        self.rows.append(written)
        write_table(self.path, self.rows, [])
        return written


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a table of trials.

    Raises:
        RunError: if the file is not such a table.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise RunError(f"{path} cannot be read ({error}): name the results.csv of a study") from None
    if not rows or not {*CANDIDATE, "split", "learning_rate", "seed", "accuracy"} <= rows[0].keys():
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
