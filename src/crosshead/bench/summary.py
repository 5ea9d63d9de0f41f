"""What follows from the measurements: ratios, slopes, and from which length on ours is the faster."""

import math
import statistics
from collections.abc import Sequence
from itertools import groupby
from typing import Any

from crosshead.bench.attention import AttentionRow

SLOPES_FROM = 4096
# Per level, what others are compared with, the first that was measured; and what the crossover is against.
BASES = {"operator": ("fused", "reference"), "layer": ("interactive-layer",)}
CROSSED = {"operator": "exact", "layer": "softmax-layer"}
CROSSING = {"operator": ("fused", "compiled", "streamed", "reference"), "layer": ("interactive-layer",)}


def ratios(rows: Sequence[AttentionRow]) -> list[dict[str, Any]]:
    """Time of each provider over that of the base of its level: above 1 is slower."""
    found = []
    for (level, passes, tokens), group in _grouped(rows):
        times = {row.provider: row.median_s for row in group if row.median_s is not None}
        base = next((name for name in BASES[level] if name in times), None)
        if base is None:
            continue
        for name, seconds in times.items():
            line = {"level": level, "passes": passes, "tokens": tokens, "provider": name, "against": base}
            found.append(line | {"time_ratio": float(f"{seconds / times[base]:.4g}")})
    return found


def slopes(rows: Sequence[AttentionRow], *, first: int = SLOPES_FROM) -> list[dict[str, Any]]:
    """Least-squares slopes of time and of memory in log-log coordinates, from `first` tokens on."""
    found = []
    for name, passes in dict.fromkeys((row.provider, row.passes) for row in rows):
        for quantity in ("median_s", "beyond_bytes"):
            points = [p for p in points_of(rows, name, passes, quantity) if p[0] >= first]
            if len(points) < 2:
                continue
            logs = [[math.log(x) for x in axis] for axis in zip(*points, strict=True)]
            line = {"provider": name, "passes": passes, "quantity": quantity, "points": len(points)}
            line |= {"from_tokens": points[0][0], "to_tokens": points[-1][0]}
            found.append(line | {"slope": round(statistics.linear_regression(*logs).slope, 3)})
    return found


def crossovers(rows: Sequence[AttentionRow]) -> list[dict[str, Any]]:
    """From which length on each of ours is faster than softmax attention.

    `faster_from_tokens` is the smallest measured length from which it is faster at all longer ones where both
    were measured; `crossing_tokens` interpolates the crossing between lengths, in log-log coordinates, and is
    empty where it is the faster at the shortest length already, or never.
    """
    found = []
    for level, names in CROSSING.items():
        for name in names:
            for passes in dict.fromkeys(row.passes for row in rows):
                ours = dict(points_of(rows, name, passes, "median_s"))
                theirs = dict(points_of(rows, CROSSED[level], passes, "median_s"))
                lengths = sorted(ours.keys() & theirs.keys())
                if lengths:
                    gains = [math.log(theirs[n] / ours[n]) for n in lengths]
                    line = {"provider": name, "against": CROSSED[level], "passes": passes}
                    found.append(line | _crossing(lengths, gains))
    return found


def _crossing(lengths: list[int], gains: list[float]) -> dict[str, Any]:
    """`gains` are logarithms, above zero where ours is faster."""
    line: dict[str, Any] = {"measured_from": lengths[0], "measured_to": lengths[-1]}
    line |= {"faster_from_tokens": None, "crossing_tokens": None}
    slower = [index for index, gain in enumerate(gains) if gain <= 0]
    first = slower[-1] + 1 if slower else 0
    if first < len(lengths):
        line["faster_from_tokens"] = lengths[first]
    if 0 < first < len(lengths):
        below, above = gains[first - 1], gains[first]
        share = -below / (above - below)
        line["crossing_tokens"] = round(lengths[first - 1] * (lengths[first] / lengths[first - 1]) ** share)
    return line


def points_of(rows: Sequence[AttentionRow], name: str, passes: str, quantity: str) -> list[tuple[int, float]]:
    """A curve against the number of tokens, what was not measured and what is not positive left out."""
    return sorted(
        (row.tokens, value)
        for row in rows
        if (row.provider, row.passes) == (name, passes) and (value := getattr(row, quantity) or 0) > 0
    )


def _grouped(rows: Sequence[AttentionRow]):
    def key(row: AttentionRow) -> tuple[str, str, int]:
        return row.level, row.passes, row.tokens

    return groupby(sorted(rows, key=key), key)
