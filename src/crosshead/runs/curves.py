"""curves.png: the course of a training in one picture."""

import io

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from crosshead.runs.folder import RunFolder, write_atomically

TRAIN, TEST = "#4477aa", "#cc6677"


def draw_curves(run: RunFolder, rows: list[dict[str, str]]) -> None:
    """Draws loss, accuracy and learning rate against the epoch.

    Args:
        run: The run, whose curves.png is replaced.
        rows: The rows of its metrics.csv.
    """
    if not rows:
        return
    figure = Figure(figsize=(12, 3.6), dpi=120, layout="constrained")
    loss, accuracy, rate = figure.subplots(1, 3)
    epochs = [int(row["epoch"]) for row in rows]
    marker = "o" if len(rows) < 30 else None

    def plot(axes: Axes, column: str, label: str, color: str) -> None:
        values = [float(row[column]) for row in rows]
        axes.plot(epochs, values, color=color, label=label, marker=marker, markersize=3)

    plot(loss, "train_loss", "training", TRAIN)
    plot(loss, "test_loss", "test", TEST)
    loss.set_title("Loss")
    plot(accuracy, "train_accuracy", "training", TRAIN)
    plot(accuracy, "test_accuracy", "test", TEST)
    best = max(float(row["test_accuracy"]) for row in rows)
    last = float(rows[-1]["test_accuracy"])
    accuracy.set_title(f"Accuracy (test: last {last:.2%}, best {best:.2%})")
    accuracy.yaxis.set_major_formatter(PercentFormatter(1.0))
    plot(rate, "learning_rate", "", "#555555")
    rate.set_title("Learning rate at the end of the epoch")
    rate.ticklabel_format(axis="y", scilimits=(-2, 3))
    for axes in (loss, accuracy, rate):
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    loss.legend(frameon=False)
    figure.suptitle(run.path.name, fontsize=11)
    picture = io.BytesIO()
    FigureCanvasAgg(figure).print_png(picture)
    write_atomically(run.curves, picture.getvalue())
