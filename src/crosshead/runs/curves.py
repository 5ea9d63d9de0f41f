"""curves.png: the course of a training in one picture."""

import io
import math

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from crosshead.runs.folder import RunFolder, write_atomically
from crosshead.runs.rows import title_of

# Paul Tol's bright colours: they can be told apart without seeing red or green.
COLORS = ("#4477aa", "#cc6677", "#228833", "#ccbb44", "#66ccee", "#aa3377")


def draw_curves(run: RunFolder, rows: list[dict[str, str]]) -> None:
    """Draws losses, scores and learning rate against the epoch.

    Args:
        run: the run, whose curves.png is replaced.
        rows: the rows of its metrics.csv; of its scores the last is the one that counts.
    """
    if not rows:
        return
    figure = Figure(figsize=(12, 3.6), dpi=120, layout="constrained")
    loss, score, rate = figure.subplots(1, 3)
    marker = "o" if len(rows) < 30 else None

    def plot(axes: Axes, column: str, label: str, color: str) -> None:
        known = [row for row in rows if row[column]]
        epochs, values = [int(row["epoch"]) for row in known], [float(row[column]) for row in known]
        axes.plot(epochs, values, color=color, label=label, marker=marker, markersize=3)

    measured = [name for name in rows[0] if name.startswith(("train_", "val_"))]
    losses = [name for name in measured if name.endswith("_loss")]
    scores = [name for name in measured if name not in losses]
    for name, color in zip(losses, COLORS, strict=False):
        plot(loss, name, "training" if name.startswith("train_") else "validation", color)
    loss.set_title("Loss")
    several = len({title_of(name) for name in scores}) > 1
    for name, color in zip(scores, COLORS, strict=False):
        part = "training" if name.startswith("train_") else "validation"
        plot(score, name, f"{part} {title_of(name)}" if several else part, color)
    values = [float(row[scores[-1]]) for row in rows if row[scores[-1]]] if scores else []
    title = title_of(scores[-1]) if scores else "no metrics"
    values = [value for value in values if not math.isnan(value)]
    part = "training" if scores and scores[-1].startswith("train_") else "validation"
    reached = f" ({part}: last {values[-1]:.2%}, best {max(values):.2%})" if values else ""
    score.set_title(title[0].upper() + title[1:] + reached)
    score.yaxis.set_major_formatter(PercentFormatter(1.0))
    plot(rate, "learning_rate", "", "#555555")
    rate.set_title("Learning rate at the end of the epoch")
    rate.ticklabel_format(axis="y", scilimits=(-2, 3))
    rate.set_ylim(bottom=0)
    first, last = int(rows[0]["epoch"]), int(rows[-1]["epoch"])
    for axes in (loss, score, rate):
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        # Whole epochs even where there is one alone, about which matplotlib would show a twentieth.
        axes.set_xlim(first - 0.5, last + 0.5)
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    loss.legend(frameon=False)
    if several:
        score.legend(frameon=False)
    figure.suptitle(run.path.name, fontsize=11)
    picture = io.BytesIO()
    FigureCanvasAgg(figure).print_png(picture)
    write_atomically(run.curves, picture.getvalue())
