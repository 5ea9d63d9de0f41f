"""A picture of a confusion matrix: which classes are taken for which."""

import io

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

NAMED, COUNTED = 40, 20


def draw_confusion(title: str, confusion: list[list[int]], classes: tuple[str, ...]) -> bytes:
    """Draws a confusion matrix, each row as fractions of its true class.

    Args:
        title: what stands above it, before the accuracy.
        confusion: counts: row the true class, column the predicted one.
        classes: their names, written out for up to 40 of them; counts are written into the cells of up to 20.

    Returns:
        A PNG file.

    Example:
        >>> draw_confusion("animals", [[8, 2], [0, 10]], ("cat", "dog"))[1:4]
        b'PNG'
    """
    counts = np.asarray(confusion)
    fractions = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    size = min(max(4.5, 1.5 + 0.5 * len(classes)), 16)
    figure = Figure(figsize=(size + 1, size), dpi=120, layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(fractions, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(
        image, ax=axes, shrink=0.8, format=PercentFormatter(1.0), label="fraction of the true class"
    )
    if len(classes) <= NAMED:
        ticks = range(len(classes))
        axes.set_xticks(ticks, classes, rotation=45, ha="right", rotation_mode="anchor")
        axes.set_yticks(ticks, classes)
    if len(classes) <= COUNTED:
        for row, column in zip(*counts.nonzero(), strict=True):
            color = "white" if fractions[row, column] > 0.5 else "black"
            axes.text(
                column, row, str(counts[row, column]), ha="center", va="center", color=color, fontsize=8
            )
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    axes.set_title(f"{title}: {np.trace(counts) / max(counts.sum(), 1):.2%} of {counts.sum():,} right")
    picture = io.BytesIO()
    FigureCanvasAgg(figure).print_png(picture)
    return picture.getvalue()
