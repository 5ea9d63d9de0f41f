"""Whether interaction pays more, the more heads there are: the slope of its gain, the best head count."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import linear_regression

from crosshead.study.statistics import (
    Difference,
    Row,
    Summary,
    difference,
    differences_by_seed,
    mean_and_error,
    paired,
    summaries,
)
from crosshead.study.trial import arm_of

WITH, WITHOUT = "interactive:mixing=both", "interactive:mixing=none"


@dataclass(frozen=True, kw_only=True)
class Best:
    """The number of heads with which one arm did best on held-out training samples.

    Attributes:
        heads: that number.
        summary: its published trials.
    """

    heads: int
    summary: Summary


@dataclass(frozen=True, kw_only=True)
class HeadsReport:
    """What rows of several numbers of heads say about interaction.

    Attributes:
        gains: accuracy with interaction minus without, by the number of heads.
        slope: of the gain over the binary logarithm of the heads: accuracy for each doubling, over seeds.
        best_with: the best number of heads with interaction; None where nothing was validated.
        best_without: the same without.
        best: accuracy of the one minus that of the other.
    """

    gains: dict[int, Difference]
    slope: Difference
    best_with: Best | None
    best_without: Best | None
    best: Difference | None


def read_heads(rows: Sequence[Row]) -> HeadsReport | None:
    """The report, or None where fewer than two numbers of heads were trained in both arms.

    Example:
        >>> read_heads([]) is None
        True
    """
    arms: dict[str, dict[int, Summary]] = {WITH: {}, WITHOUT: {}}
    for summary in summaries(rows):
        if (arm := arm_of(summary.attention)) in arms:
            arms[arm][int(summary.columns["heads"])] = summary
    counts = sorted(arms[WITH].keys() & arms[WITHOUT].keys())
    by_heads = {heads: differences_by_seed(arms[WITH][heads], arms[WITHOUT][heads]) for heads in counts}
    seeds = sorted(set.intersection(*map(set, by_heads.values()))) if len(counts) > 1 else []
    if not seeds:
        return None
    doublings = [math.log2(heads) for heads in counts]
    slopes = [
        linear_regression(doublings, [by_heads[heads][seed] for heads in counts]).slope for seed in seeds
    ]
    best_with, best_without = (_best(arms[arm], counts, rows) for arm in (WITH, WITHOUT))
    return HeadsReport(
        gains={heads: paired(list(found.values())) for heads, found in by_heads.items()},
        slope=paired(slopes),
        best_with=best_with,
        best_without=best_without,
        best=difference(best_with.summary, best_without.summary) if best_with and best_without else None,
    )


def _best(found: dict[int, Summary], counts: Sequence[int], rows: Sequence[Row]) -> Best | None:
    scores = {}
    for heads in counts:
        columns = found[heads].columns
        same = {name: columns[name] for name in columns if name != "samples"}
        validated = [
            float(row["accuracy"])
            for row in rows
            if row["split"] == "validation" and all(row[name] == value for name, value in same.items())
        ]
        if not validated:
            return None
        scores[heads] = mean_and_error(validated)[0]
    heads = max(scores, key=lambda heads: (scores[heads], -heads))
    return Best(heads=heads, summary=found[heads])


def heads_in_words(report: HeadsReport) -> list[str]:
    """What the report says, line by line."""
    lines = [
        f"{heads:>3} heads: both minus none {' % ('.join(gain.in_words())})"
        for heads, gain in report.gains.items()
    ]
    lines.append(f"slope: {' % for each doubling of the heads ('.join(report.slope.in_words())})")
    if report.best_with and report.best_without and report.best:
        lines.append(
            f"best on held-out training samples: {report.best_with.heads} heads with interaction, "
            f"{report.best_without.heads} without: {' % ('.join(report.best.in_words())})"
        )
    return lines
