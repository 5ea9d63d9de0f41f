"""Pictures of the measurements: log-log, each line named where it ends."""

import io
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator

from crosshead.bench.attention import AttentionRow
from crosshead.bench.backbone import BackboneRow
from crosshead.bench.options import BY_NAME, MODELS, PROVIDERS
from crosshead.bench.report import points_of
from crosshead.runs.folder import write_atomically

Curves = Mapping[str, Sequence[tuple[float, float]]]
EMPHASISED = ("fused", "interactive-layer", "ivit_small")
# Height of a label as a fraction of its panel.
LABEL_HEIGHT = 0.042


def draw_attention(path: Path, rows: Sequence[AttentionRow], *, quantity: str, title: str) -> None:
    """Draws one quantity against the number of tokens: panels for each pass and level.

    Args:
        path: the PNG to write.
        rows: what was measured.
        quantity: "median_s" or "beyond_bytes".
        title: above all panels.
    """
    unit, label = {
        "median_s": (1e-3, "milliseconds"),
        "beyond_bytes": (2**20, "MiB beyond inputs, outputs and gradients"),
    }[quantity]
    levels = [level for level in ("operator", "layer") if any(row.level == level for row in rows)]
    passes = list(dict.fromkeys(row.passes for row in rows))
    figure, panels = _panels(len(passes), len(levels))
    for line, one_pass in zip(panels, passes, strict=True):
        for axes, level in zip(line, levels, strict=True):
            names = dict.fromkeys(row.provider for row in rows if row.level == level)
            curves = {
                name: [(x, y / unit) for x, y in points_of(rows, name, one_pass, quantity)] for name in names
            }
            draw_curves(axes, curves, dotted=[name for name in names if not BY_NAME[name].mixes_heads])
            axes.set(title=f"{level}s, {one_pass}", xlabel="tokens", ylabel=label)
    save(figure, path, title=f"{title}\nsolid: heads talk to each other; dotted: they do not")


def draw_backbones(path: Path, rows: Sequence[BackboneRow], *, title: str) -> None:
    """Draws images per second and peak memory against the size of the image.

    Args:
        path: the PNG to write.
        rows: what was measured.
        title: above all panels.
    """
    passes = list(dict.fromkeys(row.passes for row in rows))
    figure, panels = _panels(len(passes), 2)
    quantities = {"images_per_second": ("images per second", 1), "peak_bytes": ("peak MiB", 2**20)}
    for line, one_pass in zip(panels, passes, strict=True):
        for axes, (quantity, (label, unit)) in zip(line, quantities.items(), strict=True):
            curves: dict[str, list[tuple[float, float]]] = {row.model: [] for row in rows}
            for row in rows:
                if row.passes == one_pass and (value := getattr(row, quantity) or 0) > 0:
                    curves[row.model].append((row.size, value / unit))
            draw_curves(axes, curves)
            axes.set(title=one_pass, xlabel="height and width, pixels", ylabel=label)
    save(figure, path, title=title)


def _panels(rows: int, columns: int) -> tuple[Figure, Any]:
    figure = Figure(figsize=(8 * columns, 5.5 * rows), dpi=110, layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False)


def draw_curves(axes: Axes, curves: Curves, *, dotted: Collection[str] = (), log_y: bool = True) -> None:
    """Draws curves against a logarithmic axis and writes each name beside the end of its curve.

    Args:
        axes: the panel.
        curves: points by name, in ascending order.
        dotted: names whose curves are dotted.
        log_y: whether the other axis is logarithmic too.
    """
    curves = {name: points for name, points in curves.items() if points}
    axes.set(xscale="log", yscale="log" if log_y else "linear")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    if not curves:
        axes.text(0.5, 0.5, "nothing measured", transform=axes.transAxes, ha="center", color="#777777")
        return
    colours = colours_of(curves)
    if len({x for points in curves.values() for x, _ in points}) == 1:
        _draw_bars(axes, {name: points[0][1] for name, points in curves.items()}, colours)
        return
    for name, points in curves.items():
        axes.plot(
            *zip(*points, strict=True),
            linestyle=":" if name in dotted else "-",
            linewidth=2.6 if name in EMPHASISED else 1.3,
            marker="o",
            markersize=4,
            color=colours[name],
        )
    ticks = sorted({x for points in curves.values() for x, _ in points})
    axes.set_xticks(ticks, [f"{tick:,.0f}" for tick in ticks], minor=False)
    if log_y:
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:,.6g}"))
    axes.minorticks_off()
    name_points(axes, {name: points[-1] for name, points in curves.items()}, colours)


def _draw_bars(axes: Axes, heights: Mapping[str, float], colours: Mapping[str, Any]) -> None:
    """Of a single size there is nothing to connect: a bar for each name, from 0 on."""
    axes.set(xscale="linear", yscale="linear")
    drawn = axes.bar(range(len(heights)), list(heights.values()), color=[colours[name] for name in heights])
    axes.bar_label(drawn, [f"{height:,.4g}" for height in heights.values()], padding=2, fontsize=8)
    axes.set_xticks(range(len(heights)), list(heights), rotation=30, ha="right", rotation_mode="anchor")
    axes.grid(visible=False, axis="x")


def colours_of(names: Iterable[str]) -> dict[str, Any]:
    """The colour of each name, the same in every picture for what the benchmarks know.

    Example:
        >>> colours_of(["fused"]) == {"fused": colours_of(["exact", "fused"])["fused"]}
        True
    """
    pairs = mpl.colormaps["tab20"].colors  # type: ignore[attr-defined]
    palette = (*pairs[::2], *pairs[1::2])
    # Operators, layers and models never share a panel.
    levels = (
        [provider.name for provider in PROVIDERS if provider.level == "operator"],
        [provider.name for provider in PROVIDERS if provider.level == "layer"],
        list(MODELS),
    )
    places = {name: place for level in levels for place, name in enumerate(level)}
    names = list(names)
    others = (name for name in names if name not in places)
    places |= {name: len(palette) - 1 - number for number, name in enumerate(others)}
    return {name: palette[places[name] % len(palette)] for name in names}


def name_points(
    axes: Axes, points: Mapping[str, tuple[float, float]], colours: Mapping[str, Any], *, fontsize: int = 9
) -> None:
    """Writes names in a column at the right, in the order of their points, moved apart where they overlap.

    Args:
        axes: the panel, its limits final.
        points: one for each name.
        colours: the same names' colours.
        fontsize: of the names.
    """
    to_axes = axes.transData + axes.transAxes.inverted()
    heights = {name: float(to_axes.transform(point)[1]) for name, point in points.items()}
    order = sorted(heights, key=lambda name: heights[name])
    gap = min(LABEL_HEIGHT, 1 / max(1, len(order)))
    for name, height in zip(order, spread([heights[name] for name in order], gap=gap), strict=True):
        # Thin and grey, so that nobody takes it for data.
        arrow = {"arrowstyle": "-", "color": "#bbbbbb", "linewidth": 0.6}
        axes.annotate(
            name,
            xy=points[name],
            xytext=(1.05, height),
            textcoords="axes fraction",
            va="center",
            fontsize=fontsize,
            color=colours[name],
            weight="bold" if name in EMPHASISED else "normal",
            arrowprops={**arrow, "relpos": (0, 0.5)},
        )


def spread(places: Sequence[float], gap: float = LABEL_HEIGHT) -> list[float]:
    """Ascending places moved apart to at least `gap`, up first, and down again from the upper end at 1.

    Example:
        >>> spread([0.125, 0.125, 0.5], gap=0.25)
        [0.125, 0.375, 0.625]
        >>> spread([0.875, 1.0], gap=0.25)
        [0.75, 1.0]
    """
    moved = list(places)
    for index in range(1, len(moved)):
        moved[index] = max(moved[index], moved[index - 1] + gap)
    ceiling = 1.0
    for index in reversed(range(len(moved))):
        moved[index] = min(moved[index], ceiling)
        ceiling = moved[index] - gap
    return moved


def save(figure: Figure, path: Path, *, title: str = "") -> None:
    """Writes a PNG, whole or not at all, with a title above all panels."""
    if title:
        figure.suptitle(title, fontsize=10)
    picture = io.BytesIO()
    FigureCanvasAgg(figure).print_png(picture)
    write_atomically(path, picture.getvalue())
