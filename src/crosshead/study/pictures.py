"""The pictures of a study."""

import math
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from crosshead.bench.plots import draw_curves, save
from crosshead.study.report import Line, Report
from crosshead.study.statistics import difference

OURS, THEIRS = "#c0392b", "#34495e"


def draw_study(folder: Path, report: Report) -> list[Path]:
    """Draws what the rows can show; answers the files.

    accuracy.png always; price.png where prices were measured; pairs.png where two candidates were trained.
    """
    drawn = [_draw(folder / "accuracy.png", draw_accuracy, report)]
    if any(line.price is not None for line in report.lines):
        drawn.append(_draw(folder / "price.png", draw_price, report))
    if len(report.lines) == 2:
        drawn.append(_draw(folder / "pairs.png", draw_pairs, report))
    if len({line.summary.facts["image_size"] for line in report.lines}) > 1:
        drawn.append(_draw(folder / "lengths.png", draw_lengths, report))
    return drawn


def draw_accuracy(axes: Axes, report: Report) -> None:
    """Mean accuracy of every candidate with its standard error, and each seed as a dot."""
    lines = report.lines[::-1]
    for place, line in enumerate(lines):
        colour = _colour(line)
        seeds = [float(row["accuracy"]) * 100 for row in _rows_of(report, line)]
        axes.plot(seeds, [place] * len(seeds), ".", color=colour, alpha=0.35)
        axes.errorbar(
            100 * line.summary.accuracy,
            place,
            xerr=100 * line.summary.standard_error,
            fmt="o",
            color=colour,
            capsize=3,
        )
    axes.set_yticks(range(len(lines)), [line.summary.label for line in lines])
    axes.set(xlabel="test accuracy, % (mean ± standard error; dots: seeds)", ylim=(-0.6, len(lines) - 0.4))
    axes.grid(axis="x", alpha=0.25)


def draw_price(axes: Axes, report: Report) -> None:
    """Accuracy against the time of a training step."""
    for line in report.lines:
        if line.price is None:
            continue
        summary, milliseconds = line.summary, float(line.price["train_ms"])
        axes.errorbar(
            milliseconds,
            100 * summary.accuracy,
            yerr=100 * summary.standard_error,
            fmt="o",
            color=_colour(line),
            capsize=3,
        )
        axes.annotate(
            summary.label,
            (milliseconds, 100 * summary.accuracy),
            xytext=(6, 4),
            textcoords="offset points",
            fontsize=8,
            color=_colour(line),
        )
    axes.set(
        xscale="log",
        xlabel="milliseconds an image, forward and backward",
        ylabel="test accuracy, % (± standard error)",
    )
    axes.margins(x=0.25)
    axes.grid(alpha=0.25)


def draw_pairs(axes: Axes, report: Report) -> None:
    """The differences of two candidates, seed by seed, their mean and its 95 % interval."""
    other = next(line for line in report.lines if line.difference is not None)
    base = next(line for line in report.lines if line.difference is None)
    by_seed = [
        {int(row["seed"]): float(row["accuracy"]) for row in _rows_of(report, line)} for line in (other, base)
    ]
    seeds = sorted(by_seed[0].keys() & by_seed[1].keys())
    axes.bar(
        [str(seed) for seed in seeds],
        [100 * (by_seed[0][seed] - by_seed[1][seed]) for seed in seeds],
        color=OURS,
        alpha=0.6,
    )
    found = difference(report.rows, other.summary.facts, base.summary.facts)
    assert found is not None
    if not math.isnan(found.low):
        axes.axhspan(100 * found.low, 100 * found.high, color=THEIRS, alpha=0.15)
    axes.axhline(100 * found.mean, color=THEIRS)
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set(
        xlabel="seed",
        ylabel="difference of test accuracy, %",
        title=f"{other.summary.label} minus {base.summary.label}: {100 * found.mean:+.2f} %, 95 % interval "
        f"{100 * found.low:+.2f} to {100 * found.high:+.2f}",
    )


def draw_lengths(axes: Axes, report: Report) -> None:
    """Accuracy against the number of tokens, a line for each mechanism."""
    curves: dict[str, list[tuple[float, float]]] = {}
    for line in report.lines:
        facts = line.summary.facts
        side = int(facts["image_size"]) // int(facts["patch_size"])
        tokens = side if facts["data"] == "list-ops" else side**2
        curves.setdefault(line.summary.attention, []).append((tokens, 100 * line.summary.accuracy))
    draw_curves(axes, {name: sorted(points) for name, points in curves.items()})
    axes.set(yscale="linear", xlabel="tokens", ylabel="test accuracy, %")


def _draw(path: Path, draw, report: Report) -> Path:
    height = 1.5 + 0.32 * len(report.lines) if draw is draw_accuracy else 5.0
    figure = Figure(figsize=(8.5, max(height, 2.5)), dpi=130, layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    draw(axes, report)
    save(figure, path)
    return path


def _rows_of(report: Report, line: Line) -> list[dict[str, str]]:
    facts = line.summary.facts
    return [
        row
        for row in report.rows
        if row["split"] == "test" and all(row[name] == value for name, value in facts.items())
    ]


def _colour(line: Line) -> str:
    return OURS if line.summary.attention.startswith("interactive") else THEIRS
