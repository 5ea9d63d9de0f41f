"""What `worth.py` has found: tables, and accuracy against time as a picture.

    python benchmarks/worth_report.py [--table worth_choices]

Reads worth_times.csv and worth.csv or worth_choices.csv below benchmarks/results, and writes worth.png or
worth_choices.png beside them. A star marks the Pareto front: no other model is both quicker and better.
"""

import math
import statistics
from collections.abc import Iterator
from typing import Literal

import tyro
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from rich.table import Table
from worth import CONSOLE, OURS, PROBLEMS, RESULTS, read

from crosshead.bench.plots import name_points, save
from crosshead.study.pictures import OURS as RED
from crosshead.study.pictures import THEIRS as SLATE
from crosshead.study.statistics import mean_and_error, paired


def main(*, table: Literal["worth", "worth_choices"] = "worth") -> None:
    """Prints means with standard errors and differences to ivit_nano, and draws accuracy against time.

    Args:
        table: whose rows.
    """
    budget = {"worth": "equal time", "worth_choices": "equally many images"}[table]
    times = {(row["task"], row["model"]): row for row in read("worth_times")}
    figure = Figure(figsize=(12, 8.4), dpi=110, layout="constrained")
    for axes, (name, problem) in zip(figure.subplots(2, 2).flat, PROBLEMS.items(), strict=True):
        found = scores_of(name, table)
        if OURS not in found:
            axes.set_axis_off()
            continue
        shown = Table(title=problem.title)
        for head in ("model", "score, ± standard error", f"minus {OURS}", "95 % interval", "ms an image"):
            shown.add_column(head)
        points, front = {}, list(pareto(name, found, times))
        colours = {model: RED if model.startswith(OURS) else SLATE for model in found}
        for model, scores in sorted(found.items(), key=lambda pair: -statistics.fmean(pair[1].values())):
            mean, error = mean_and_error([100 * score for score in scores.values()])
            shared = sorted(scores.keys() & found[OURS].keys())
            words = (
                ("", "")
                if model == OURS or not shared
                else paired([scores[seed] - found[OURS][seed] for seed in shared]).in_words()
            )
            row = times.get((name, model))
            if row:
                points[model] = (float(row["infer_ms"]), mean)
                axes.errorbar(*points[model], yerr=error, fmt="o", color=colours[model], capsize=3)
            mark = "*" if model in front else ""
            shown.add_row(
                mark + model,
                f"{mean:.2f}" if math.isnan(error) else f"{mean:.2f} ± {error:.2f}",
                *words,
                row["infer_ms"] if row else "",
            )
        CONSOLE.print(shown)
        if not points:
            axes.set_axis_off()
            continue
        axes.plot(*zip(*(points[model] for model in front), strict=True), color="#bbbbbb", zorder=0)
        axes.set(xscale="log", xlabel="milliseconds an image, from pixels to result", title=problem.title)
        for ticks in (axes.xaxis.set_major_formatter, axes.xaxis.set_minor_formatter):
            ticks(FuncFormatter(lambda x, _: f"{x:g}"))
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        name_points(axes, points, colours)
    save(figure, RESULTS / f"{table}.png", title=f"Trained from scratch, {budget}; grey: the Pareto front")


def scores_of(name: str, table: str) -> dict[str, dict[int, float]]:
    """By model and seed."""
    found: dict[str, dict[int, float]] = {}
    for row in read(table):
        if (row["task"], row["split"]) == (name, "test"):
            found.setdefault(row["model"], {})[int(row["seed"])] = float(row["score"])
    return found


def pareto(
    name: str, found: dict[str, dict[int, float]], times: dict[tuple[str, str], dict[str, str]]
) -> Iterator[str]:
    """The models that no other one surpasses in both time and score, the quickest first."""
    best = float("-inf")
    timed = [model for model in found if (name, model) in times]
    for model in sorted(timed, key=lambda model: float(times[name, model]["infer_ms"])):
        if (mean := statistics.fmean(found[model].values())) > best:
            best = mean
            yield model


if __name__ == "__main__":
    tyro.cli(main)
