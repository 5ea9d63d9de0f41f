"""`crosshead bench`: speed and memory, measured beside rivals."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from crosshead.bench.options import AttentionOptions, BackboneOptions
from crosshead.cli.flags import summary_of
from crosshead.cli.menu import Menu, menu_of

if TYPE_CHECKING:
    from pathlib import Path

    from rich.table import Table

    from crosshead.bench.attention import AttentionRow
    from crosshead.bench.backbone import BackboneRow
    from crosshead.cli.console import Terminal


def bench_menu(run: Callable[[Any], object]) -> Menu:
    """The benchmarks by name."""
    kinds = {"attention": AttentionOptions, "backbone": BackboneOptions}
    return menu_of(kinds, run, about=summary_of(bench), what="benchmark")


def bench(request: AttentionOptions | BackboneOptions) -> None:
    """Measure speed and memory of attention, or of whole backbones, beside their rivals."""
    if isinstance(request, AttentionOptions):
        bench_attention(request.resolved())
    else:
        bench_backbone(request.resolved())


def bench_attention(options: AttentionOptions) -> None:
    """Measures, shows each group of rows as soon as it is there, and writes everything into a folder."""
    from crosshead.bench.attention import measure_attention, setting_of
    from crosshead.bench.plots import draw_attention
    from crosshead.bench.report import crossovers, free_folder, head_lines, ratios, slopes, write_table
    from crosshead.bench.roofline import measure_machine
    from crosshead.cli.console import Terminal

    console = Terminal()
    output = free_folder(options.output, "attention")
    setting = setting_of(options, _ready(options.device, options.threads))
    described = (
        f"{setting.dtype}, {setting.device}, batch {setting.batch}, {setting.heads} heads, head dim "
        f"{setting.head_dim}, {setting.landmarks} landmarks, mixing {setting.mixing}"
    )
    console.line(f"measuring the machine; results go to {output}")
    machine = measure_machine(setting)
    head = head_lines(sys.argv[1:], described, machine=str(machine))
    console.line(f"{described}; {machine}")
    rows: list[AttentionRow] = []
    with _progress() as tell:
        for group in measure_attention(options, setting, machine, tell):
            rows += group
            _show_attention(console, group)
            write_table(output / "results.csv", rows, head)
    tables = {"ratios": ratios(rows), "slopes": slopes(rows), "crossover": crossovers(rows)}
    for name, table in tables.items():
        write_table(output / f"{name}.csv", table, head)
    for name, quantity in (("time", "median_s"), ("memory", "beyond_bytes")):
        draw_attention(output / f"{name}.png", rows, quantity=quantity, title=f"{described}\n{head[2]}")
    _show_summary(console, tables)
    _say_where(console, output)


def bench_backbone(options: BackboneOptions) -> None:
    """Measures, shows each group of rows as soon as it is there, and writes everything into a folder."""
    from crosshead.bench.backbone import BackboneRow, measure_backbones, ratios
    from crosshead.bench.plots import draw_backbones
    from crosshead.bench.report import free_folder, head_lines, write_table
    from crosshead.cli.console import Terminal

    console = Terminal()
    output = free_folder(options.output, "backbone")
    device = _ready(options.device, options.threads)
    described = f"{options.dtype}, {device}, batch {options.batch}" + (
        ", compiled" if options.compile else ""
    )
    head = head_lines(sys.argv[1:], described)
    console.line(f"{described}; results go to {output}")
    rows: list[BackboneRow] = []
    with _progress() as tell:
        for group in measure_backbones(options, device, tell):
            rows += group
            _show_backbones(console, group)
            write_table(output / "results.csv", rows, head)
    compared = ratios(rows)
    write_table(output / "ratios.csv", compared, head)
    draw_backbones(output / "images_per_second.png", rows, title=f"{described}\n{head[2]}")
    _show_ratios(console, compared, key=("passes", "model", "against"), across="size", value="speed_ratio")
    _say_where(console, output)


def choose_device(device: str) -> str:
    """The device that is meant; "auto" is cuda where there is one.

    Raises:
        ValueError: if there is no such device.
    """
    import torch

    there_is_one = torch.cuda.is_available()
    if device == "cuda" and not there_is_one:
        raise ValueError("device is cuda, and torch finds none: use --device cpu")
    return ("cuda" if there_is_one else "cpu") if device == "auto" else device


def _ready(device: str, threads: int | None) -> str:
    import logging

    import torch

    logging.getLogger("torch").setLevel(logging.ERROR)  # torch.compile tells of tools it does without
    if threads is not None:
        torch.set_num_threads(threads)
    return choose_device(device)


@contextmanager
def _progress() -> Iterator[Callable[[str, float], None]]:
    from crosshead.cli.progress import Bar

    with Bar() as bar:
        yield lambda what, done: bar.show(what, done=done, total=1.0)


def _show_attention(console: "Terminal", rows: Sequence["AttentionRow"]) -> None:
    table = _table(
        f"{rows[0].passes}, {rows[0].tokens:,} tokens (medians, quartiles; shares of the roofline)"
    )
    table.add_column("provider", no_wrap=True)
    for column in ("ms", "q25", "q75", "MiB beyond", "needed %", "done %"):
        table.add_column(column, justify="right")
    for before, row in zip([None, *rows], rows, strict=False):
        if before is not None and before.level != row.level:
            table.add_section()
        table.add_row(
            row.provider,
            *(_number(seconds, 1e-3) for seconds in (row.median_s, row.q25_s, row.q75_s)),
            _number(row.beyond_bytes, 2**20),
            *(_number(percent, 1) for percent in (row.percent_of_limit_needed, row.percent_of_limit_done)),
        )
    console.print(table)
    _say_what_is_missing(console, [(row.provider, row.status) for row in rows])


def _show_backbones(console: "Terminal", rows: Sequence["BackboneRow"]) -> None:
    table = _table(f"{rows[0].passes}, {rows[0].size} pixels (medians; spread of quartiles; peak memory)")
    table.add_column("model", no_wrap=True)
    for column in ("img/s", "ms", "spread %", "MiB", "M par", "GMAC"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        spread = None
        if row.median_s is not None and row.q25_s is not None and row.q75_s is not None:
            spread = (row.q75_s - row.q25_s) / row.median_s
        table.add_row(
            row.model,
            _number(row.images_per_second, 1),
            _number(row.median_s, 1e-3),
            _number(spread, 1e-2),
            _number(row.peak_bytes, 2**20),
            _number(row.parameters, 1e6),
            _number(row.multiply_adds, 1e9),
        )
    console.print(table)
    _say_what_is_missing(console, [(row.model, row.status) for row in rows])


def _say_what_is_missing(console: "Terminal", statuses: list[tuple[str, str]]) -> None:
    for name, status in statuses:
        if status != "measured":
            console.line(f"{name}: {status}")


def _table(title: str) -> "Table":
    from rich import box
    from rich.table import Table

    return Table(title=title, title_justify="left", box=box.SIMPLE, padding=(0, 1), pad_edge=False)


def _show_ratios(
    console: "Terminal", lines: list[dict[str, Any]], *, key: tuple[str, ...], across: str, value: str
) -> None:
    """A table with a row for each key and a column for each size."""
    sizes = sorted({line[across] for line in lines})
    table = _table(
        "Time over that of the base: above 1 is slower"
        if value == "time_ratio"
        else "Images per second of the base over those of the model: above 1, the base is the faster"
    )
    for column in key:
        table.add_column(column, no_wrap=True)
    for size in sizes:
        table.add_column(f"{size:,}", justify="right")
    cells: dict[tuple, dict[int, float]] = {}
    for line in lines:
        cells.setdefault(tuple(line[name] for name in key), {})[line[across]] = line[value]
    for names, values in cells.items():
        table.add_row(*names, *(f"{values[n]:.2f}" if n in values else "" for n in sizes))
    console.print(table)


def _show_summary(console: "Terminal", tables: dict[str, list[dict[str, Any]]]) -> None:
    key = ("passes", "provider", "against")
    _show_ratios(console, tables["ratios"], key=key, across="tokens", value="time_ratio")
    for line in tables["crossover"]:
        start, crossing = line["faster_from_tokens"], line["crossing_tokens"]
        console.line(
            f"{line['provider']} against {line['against']}, {line['passes']}: "
            + (f"faster from {start:,} tokens" if start else "nowhere faster")
            + (f", crossing near {crossing:,}" if crossing else "")
            + f" (measured {line['measured_from']:,} to {line['measured_to']:,})",
        )
    for line in tables["slopes"]:
        if line["quantity"] == "median_s":
            console.line(
                f"log-log slope of time, {line['provider']}, {line['passes']}, "
                f"{line['from_tokens']:,} to {line['to_tokens']:,} tokens: {line['slope']:.2f}",
            )


def _say_where(console: "Terminal", output: "Path") -> None:
    for path in sorted(output.iterdir()):
        console.line(f"written: {path}")


def _number(value: float | None, unit: float) -> str:
    """Three digits that count."""
    if value is None:
        return ""
    scaled = value / unit
    return f"{scaled:,.0f}" if abs(scaled) >= 100 else f"{scaled:.3g}"
