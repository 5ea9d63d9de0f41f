"""The tables of a study, drawn from its CSVs alone."""

import csv
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crosshead.runs.folder import RunError
from crosshead.study.statistics import Difference, Row, Summary, difference, summaries
from crosshead.study.trial import CANDIDATE, SHAPE, Shape, arm_of, read_rows

RESULTS, COSTS = "results.csv", "prices.csv"
# Differences are against the first of these that was trained.
BASES = ("interactive:mixing=none", "interactive", "interactive:mixing=both", "softmax")
# In a document, and where there is little room.
HEADINGS = {
    "mechanism": "mechanism",
    "accuracy % ± standard error (seeds)": "accuracy %",
    "difference % (95 % interval)": "difference %",
    "parameters": "parameters",
    "M multiply-adds": "MMAC",
    "ms an image, inference": "infer ms",
    "ms an image, training": "train ms",
    "peak MiB, training": "MiB",
}


@dataclass(frozen=True, kw_only=True)
class Line:
    """One candidate in the table of a study.

    Attributes:
        summary: its accuracy.
        difference: to the base of the study, paired by seed; None for the base itself.
        cost: its row of prices.csv, if there is one.
    """

    summary: Summary
    difference: Difference | None
    cost: Row | None


@dataclass(frozen=True, kw_only=True)
class Report:
    """All lines of a study, the most accurate first, and the label that differences are against."""

    lines: list[Line]
    base: str


def read_study(folder: Path) -> Report:
    """Reads results.csv, and prices.csv where there is one.

    Raises:
        RunError: if there is no such table, or no trial is finished.
    """
    costs = _read_costs(folder / COSTS)
    found = summaries(read_rows(folder / RESULTS))
    if not found:
        raise RunError(f"{folder / RESULTS} holds no published trial yet: let the study go on first")
    by_heads: dict[str, list[Summary]] = {}
    for summary in found:
        by_heads.setdefault(summary.columns["heads"], []).append(summary)
    bases = {heads: choose_base(group) for heads, group in by_heads.items()}
    lines = []
    for summary in found:
        base = bases[summary.columns["heads"]]
        compared = None if summary is base else difference(summary, base)
        lines.append(Line(summary=summary, difference=compared, cost=costs.get(_place(summary.columns))))
    if len(bases) == 1:
        (base,) = bases.values()
        return Report(lines=lines, base=base.label)
    names = sorted({base.attention for base in bases.values()})
    return Report(lines=lines, base=f"{' or '.join(names)} with as many heads")


def choose_base(found: Sequence[Summary]) -> Summary:
    """What the others are compared with: interactive attention, or the arm without mixing if one has mixing.

    Where a study varies the model as well, it is the one in the most common model.

    Args:
        found: candidates with as many heads.
    """
    arms = {arm_of(summary.attention) for summary in found}
    names = BASES if len(found) == 2 or {*BASES[:1], BASES[2]} <= arms else (*BASES[1:], BASES[0])
    common = {
        name: Counter(summary.columns[name] for summary in found).most_common(1)[0][0] for name in CANDIDATE
    }
    for attention in names:
        named = [summary for summary in found if summary.attention == attention]
        if named:
            return max(
                named, key=lambda summary: sum(summary.columns[name] == common[name] for name in common)
            )
    return found[0]


def table(report: Report) -> list[dict[str, Any]]:
    """The lines as they are written to table.csv; accuracies in per cent."""
    lines = []
    for line in report.lines:
        summary, found = line.summary, line.difference
        written: dict[str, Any] = {
            "mechanism": summary.label,
            "accuracy": _percent(summary.accuracy),
            "standard_error": _known(summary.standard_error),
            "seeds": len(summary.seeds),
            "difference": "" if found is None else _percent(found.mean),
            "low": "" if found is None else _known(found.low),
            "high": "" if found is None else _known(found.high),
            "p_value": "" if found is None or math.isnan(found.p_value) else f"{found.p_value:.2g}",
            "against": "" if found is None else report.base,
            "learning_rate": summary.learning_rate,
            "parameters": summary.parameters,
        }
        for name in ("multiply_adds", "infer_ms", "train_ms", "train_peak_bytes"):
            written[name] = "" if line.cost is None else line.cost[name]
        lines.append(written)
    return lines


def markdown(report: Report) -> str:
    """The table as it stands in a document."""
    rules = ["---", *["---:"] * (len(HEADINGS) - 1)]
    text = ["| " + " | ".join(cells) + " |" for cells in (HEADINGS, rules, *map(cells_of, report.lines))]
    return "\n".join([*text, "", f"Differences are against {report.base}, paired by seed.", ""])


def cells_of(line: Line) -> list[str]:
    """The cells of a line for people: means with errors, differences with intervals, costs."""
    summary, found, cost = line.summary, line.difference, line.cost
    cells = [
        summary.label,
        _with_error(summary),
        "" if found is None else _with_interval(found),
        f"{summary.parameters:,}",
    ]
    if cost is None:
        return [*cells, "", "", "", ""]
    peak = cost["train_peak_bytes"]
    return [
        *cells,
        f"{int(cost['multiply_adds']) / 1e6:,.1f}",
        f"{float(cost['infer_ms']):.2f}",
        f"{float(cost['train_ms']):.2f}",
        f"{int(peak) / 2**20:,.0f}" if peak else "",
    ]


def has_costs(path: Path, cases: Sequence[tuple[str, str, Shape]]) -> bool:
    """Whether a table of costs holds every case: data, mechanism and model."""
    written = _read_costs(path)
    return all(
        (data, attention, *(str(getattr(shape, name)) for name in SHAPE)) in written
        for data, attention, shape in cases
    )


def _read_costs(path: Path) -> dict[tuple[str, ...], dict[str, str]]:
    if not path.exists():
        return {}
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(line for line in file if not line.startswith("#")))
    return {_place(row): row for row in rows}


def _place(row: Row) -> tuple[str, ...]:
    return (row["data"], row["attention"], *(row[name] for name in SHAPE))


def _percent(value: float) -> str:
    return f"{100 * value:.2f}"


def _known(value: float) -> str:
    """Per cent of an error or of an end of an interval; empty where there is none, as with one seed."""
    return "" if math.isnan(value) else _percent(value)


def _with_error(summary: Summary) -> str:
    if len(summary.seeds) == 1:
        return f"{_percent(summary.accuracy)} (1)"
    return f"{_percent(summary.accuracy)} ± {_percent(summary.standard_error)} ({len(summary.seeds)})"


def _with_interval(found: Difference) -> str:
    mean, interval = found.in_words()
    return f"{mean} ({interval})"
