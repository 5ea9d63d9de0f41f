"""The pictures of a study."""

import math
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator

from crosshead.bench.plots import name_points, save
from crosshead.study.report import Line, Report
from crosshead.study.statistics import Summary, differences_by_seed
from crosshead.study.trial import arm_of

OURS, THEIRS = "#c0392b", "#34495e"


def draw_study(folder: Path, report: Report) -> list[Path]:
    """Draws what the rows can show and returns the files.

    accuracy.png always; price.png where costs were measured; pairs.png where two candidates were trained
    by the same seeds, heads.png where several numbers of heads were trained.
    """
    drawn = [_draw(folder / "accuracy.png", draw_accuracy, report)]
    if any(line.cost is not None for line in report.lines):
        drawn.append(_draw(folder / "price.png", draw_cost, report))
    if len(report.lines) == 2 and any(line.difference for line in report.lines):
        drawn.append(_draw(folder / "pairs.png", draw_pairs, report))
    if len({line.summary.columns["heads"] for line in report.lines}) > 1:
        drawn.append(_draw(folder / "heads.png", draw_heads, report))
    return drawn


def draw_accuracy(axes: Axes, report: Report) -> None:
    """Mean accuracy of every candidate with its standard error, and each seed as a dot."""
    lines = report.lines[::-1]
    for place, line in enumerate(lines):
        colour = _colour(line)
        seeds = [100 * accuracy for accuracy in line.summary.accuracies.values()]
        axes.plot(seeds, [place] * len(seeds), ".", color=colour, alpha=0.35)
        axes.errorbar(
            100 * line.summary.accuracy,
            place,
            xerr=100 * line.summary.standard_error,
            fmt="o",
            color=colour,
            capsize=3,
        )
    axes.set_yticks(range(len(lines)), [_plain(line.summary.label) for line in lines])
    shown = "mean ± standard error; dots: seeds" if _has_errors(report) else "one seed"
    axes.set(xlabel=f"test accuracy, % ({shown})", ylim=(-0.6, len(lines) - 0.4))
    axes.grid(axis="x", alpha=0.25)


def draw_cost(axes: Axes, report: Report) -> None:
    """Accuracy against the time of a training step."""
    points, colours = {}, {}
    for line in report.lines:
        if line.cost is None:
            continue
        summary, point = line.summary, (float(line.cost["train_ms"]), 100 * line.summary.accuracy)
        if math.isfinite(summary.accuracy):
            name = _plain(summary.label)
            points[name], colours[name] = point, _colour(line)
        axes.errorbar(
            *point,
            yerr=100 * summary.standard_error,
            fmt="o",
            color=_colour(line),
            capsize=3,
        )
    axes.set(
        xscale="log",
        xlabel="milliseconds an image, forward and backward",
        ylabel=f"test accuracy, % ({'± standard error' if _has_errors(report) else 'one seed'})",
    )
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.6g}"))
    axes.minorticks_off()
    axes.grid(alpha=0.25)
    name_points(axes, points, colours, fontsize=8)


def draw_pairs(axes: Axes, report: Report) -> None:
    """The differences of two candidates, seed by seed, their mean and its 95 % interval."""
    other = next(line for line in report.lines if line.difference is not None)
    base = next(line for line in report.lines if line.difference is None)
    found = other.difference
    assert found is not None
    by_seed = differences_by_seed(other.summary, base.summary)
    heights = [100 * accuracy for accuracy in by_seed.values()]
    axes.bar([str(seed) for seed in by_seed], heights, color=OURS, alpha=0.6)
    if not math.isnan(found.low):
        axes.axhspan(100 * found.low, 100 * found.high, color=THEIRS, alpha=0.15)
    axes.axhline(100 * found.mean, color=THEIRS)
    axes.axhline(0, color="black", linewidth=0.8)
    mean, interval = found.in_words()
    axes.set(
        xlabel="seed",
        ylabel="difference of test accuracy, %",
        title=f"{_plain(other.summary.label)} minus {_plain(base.summary.label)}\n{mean} %, "
        + (interval if math.isnan(found.low) else f"95 % interval {interval}"),
    )


def draw_heads(axes: Axes, report: Report) -> None:
    """Accuracy against the number of heads, a line with standard errors for each mechanism."""
    curves: dict[str, dict[int, Summary]] = {}
    for line in report.lines:
        summary = line.summary
        curves.setdefault(arm_of(summary.attention), {})[int(summary.columns["heads"])] = summary
    for place, (name, found) in enumerate(sorted(curves.items())):
        heads = sorted(found)
        # Beside each other, or points of one height would hide each other.
        shift = 2 ** (0.06 * (place - (len(curves) - 1) / 2))
        axes.errorbar(
            [count * shift for count in heads],
            [100 * found[count].accuracy for count in heads],
            yerr=[100 * found[count].standard_error for count in heads],
            marker="o",
            capsize=3,
            linestyle="-" if name.startswith("interactive") else ":",
            label=_plain(name),
        )
    counts = sorted({count for found in curves.values() for count in found})
    axes.set_xscale("log", base=2)
    axes.set_xticks(counts, [str(count) for count in counts])
    axes.minorticks_off()
    shown = "± standard error" if _has_errors(report) else "one seed"
    axes.set(xlabel="heads, at equal width", ylabel=f"test accuracy, % ({shown})")
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)


def _draw(path: Path, draw, report: Report) -> Path:
    # What is named line by line needs height for every line.
    per_line, least = {draw_accuracy: (0.32, 2.5), draw_cost: (0.22, 5.0)}.get(draw, (0.0, 5.0))
    height = 1.5 + per_line * len(report.lines)
    figure = Figure(
        figsize=(10 if draw is draw_cost else 8.5, max(height, least)), dpi=130, layout="constrained"
    )
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    draw(axes, report)
    if not axes.get_title():
        axes.set_title(_described(report), fontsize=10)
    save(figure, path)
    return path


def _described(report: Report) -> str:
    """The data and the budget, where they are the same throughout, and the number of seeds."""
    columns = [line.summary.columns for line in report.lines]
    data, samples = ({column[name] for column in columns} for name in ("data", "samples"))
    seeds = max(len(line.summary.seeds) for line in report.lines)
    words = [*(data if len(data) == 1 else ())]
    words += [f"{int(count):,} training samples" for count in (samples if len(samples) == 1 else ())]
    return ", ".join([*words, f"{seeds} seed{'s' if seeds > 1 else ''}"])


def _plain(label: str) -> str:
    """The name of a mechanism without the marks by which a command line takes it.

    Example:
        >>> _plain("interactive:local_kernel=3")
        'interactive, local kernel 3'
    """
    return label.replace(":", ", ").replace("=", " ").replace("_", " ")


def _has_errors(report: Report) -> bool:
    return any(len(line.summary.seeds) > 1 for line in report.lines)


def _colour(line: Line) -> str:
    return OURS if line.summary.attention.startswith(("interactive", "ivit")) else THEIRS
