"""The tables of a benchmark: what follows from the measurements, and how they are written."""

import csv
import dataclasses
import io
import math
import shlex
import statistics
from collections.abc import Mapping, Sequence
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crosshead.bench.options import COTANGENT_SEED, INPUT_SEED, WEIGHT_SEED
from crosshead.measure.stamp import stamp_words
from crosshead.runs.folder import next_run, write_atomically

if TYPE_CHECKING:
    from crosshead.bench.attention import AttentionRow

SLOPES_FROM = 4096
# Per level, what others are compared with, the first that was measured; and what the crossover is against.
BASES = {"operator": ("fused", "reference"), "layer": ("interactive-layer",)}
CROSSED = {"operator": "exact", "layer": "softmax-layer"}
CROSSING = {"operator": ("fused", "compiled", "streamed", "reference"), "layer": ("interactive-layer",)}


def free_folder(output: Path | None, name: str) -> Path:
    """The folder to write to: the one that was asked for, or the next free bench/NAME-NUMBER.

    Raises:
        ValueError: if it exists already and is not an empty folder.
    """
    if output is None:
        return next_run(Path("bench"), name).path
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise ValueError(f"{output} exists already: name another folder with --output")
    return output


def head_lines(arguments: Sequence[str], setting: str, **further: str) -> list[str]:
    """What a number needs beside it to be believed.

    Args:
        arguments: the command line after `crosshead`.
        setting: sizes, dtype, device.
        **further: more lines, by name.
    """
    words = stamp_words(", ")
    return [
        f"command: crosshead {shlex.join(arguments)}",
        f"date: {words['created']}",
        f"hardware: {words['hardware']}",
        f"versions: {words['versions']}",
        f"setting: {setting}, threads {words['threads']}",
        f"seeds: inputs {INPUT_SEED}, cotangents {COTANGENT_SEED}, weights {WEIGHT_SEED}",
        *(f"{name}: {text}" for name, text in further.items()),
    ]


def write_table(path: Path, rows: Sequence[Any], head: Sequence[str]) -> None:
    """Writes dataclasses or dictionaries as CSV below head lines that start with `#`; nothing for no rows."""
    lines = [row if isinstance(row, Mapping) else dataclasses.asdict(row) for row in rows]
    if not lines:
        return
    text = io.StringIO(newline="")
    text.writelines(f"# {line}\n" for line in head)
    writer = csv.DictWriter(text, list(lines[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    write_atomically(path, text.getvalue().encode())


def ratios(rows: Sequence["AttentionRow"]) -> list[dict[str, Any]]:
    """Time of each provider over that of the base of its level: above 1 is slower."""
    found = []
    key = attrgetter("level", "passes", "tokens")
    for (level, passes, tokens), group in groupby(sorted(rows, key=key), key):
        times = {row.provider: row.median_s for row in group if row.median_s is not None}
        base = next((name for name in BASES[level] if name in times), None)
        if base is None:
            continue
        for name, seconds in times.items():
            line = {"level": level, "passes": passes, "tokens": tokens, "provider": name, "against": base}
            found.append(line | {"time_ratio": float(f"{seconds / times[base]:.4g}")})
    return found


def slopes(rows: Sequence["AttentionRow"], *, first: int = SLOPES_FROM) -> list[dict[str, Any]]:
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


def crossovers(rows: Sequence["AttentionRow"]) -> list[dict[str, Any]]:
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
        fraction = -below / (above - below)
        line["crossing_tokens"] = round(
            lengths[first - 1] * (lengths[first] / lengths[first - 1]) ** fraction
        )
    return line


def points_of(
    rows: Sequence["AttentionRow"], name: str, passes: str, quantity: str
) -> list[tuple[int, float]]:
    """A curve against the number of tokens, what was not measured and what is not positive left out."""
    return sorted(
        (row.tokens, value)
        for row in rows
        if (row.provider, row.passes) == (name, passes) and (value := getattr(row, quantity) or 0) > 0
    )
