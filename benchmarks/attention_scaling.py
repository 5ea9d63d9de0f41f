"""How time and memory of the attention operator grow with the number of tokens, against exact attention.

    python benchmarks/attention_scaling.py            about seven minutes on two cores
    python benchmarks/attention_scaling.py --quick    about a minute, up to 4,096 tokens

Writes attention_scaling.csv, attention_scaling_slopes.csv and attention_scaling.png into benchmarks/results.
Landmarks are given, so pooling is not part of what is timed. Providers take turns within one process, and a
time is taken only after the result has been compared with float64. Memory is the high-water mark of a process
of its own, counted from when the inputs exist; `beyond_bytes` leaves out the output and the gradients, which
any implementation must return.
"""

import argparse
import csv
import gc
import json
import math
import os
import platform
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import Any

import matplotlib as mpl
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

import crosshead
from crosshead.testing.budgets import assert_within_budget
from crosshead.testing.inputs import OperatorInputs, make_inputs, output_and_gradients
from crosshead.testing.oracle import rounded_attention

HEADS, HEAD_DIM, LANDMARKS, SEED, INPUT_SEED = 8, 64, 64, 1, 0
PASSES = ("forward", "forward+backward")
PROVIDERS = ("reference", "streamed", "exact")
OPERANDS = {"exact": ("query", "key", "value")}
# Gradients in float64 take long, the map of exact attention gigabytes; outputs of ours are always compared.
GRADIENTS_CHECKED_UP_TO, EXACT_CHECKED_UP_TO = 4096, 1024


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table: one provider, one pass, one length. Times in seconds; None where skipped."""

    provider: str
    passes: str
    tokens: int
    status: str = "measured"
    repeats: int = 0
    median_s: float | None = None
    min_s: float | None = None
    q25_s: float | None = None
    q75_s: float | None = None
    checked: str = ""
    input_bytes: int | None = None
    output_bytes: int | None = None
    gradient_bytes: int | None = None
    peak_bytes: int | None = None
    beyond_bytes: int | None = None


def inputs_of(tokens: int, *, backward: bool, dtype: torch.dtype = torch.float32) -> OperatorInputs:
    return make_inputs(
        batch=1,
        heads=HEADS,
        queries=tokens,
        keys=tokens,
        landmarks=LANDMARKS,
        head_dim=HEAD_DIM,
        value_dim=HEAD_DIM,
        mixing="both",
        dtype=dtype,
        requires_grad=backward,
        seed=INPUT_SEED,
    )


def attend(provider: Any, inputs: OperatorInputs) -> Tensor:
    args, kwargs = inputs.arguments()
    if provider == "exact":
        return scaled_dot_product_attention(*args)
    return crosshead.interactive_attention(*args, **kwargs, impl=provider)


def leaves_of(provider: str, inputs: OperatorInputs) -> list[Tensor]:
    floating = inputs.floating()
    return [floating[name] for name in OPERANDS.get(provider, floating)]


def runner(provider: str, inputs: OperatorInputs, cotangent: Tensor, *, backward: bool) -> Callable[[], Any]:
    leaves = leaves_of(provider, inputs)

    def forward() -> Any:
        with torch.no_grad():
            return attend(provider, inputs)

    def forward_and_backward() -> Any:
        output = attend(provider, inputs)
        return output, torch.autograd.grad(output, leaves, cotangent)

    return forward_and_backward if backward else forward


def check(provider: str, tokens: int, *, backward: bool) -> str:
    """Compares a provider with float64 inside the error budget; raises where it is outside."""
    if provider == "exact" and tokens > EXACT_CHECKED_UP_TO:
        return f"not above {EXACT_CHECKED_UP_TO} tokens"
    backward = backward and tokens <= GRADIENTS_CHECKED_UP_TO
    inputs = inputs_of(tokens, backward=backward)
    if provider == "exact":
        names = OPERANDS["exact"]
        inputs = replace(inputs, **{n: x.detach() for n, x in inputs.floating().items() if n not in names})

        def plain(q: Tensor, k: Tensor, v: Tensor, **_: object) -> Tensor:
            return (q @ k.mT * HEAD_DIM**-0.5).softmax(-1) @ v

        def tested(q: Tensor, k: Tensor, v: Tensor, **_: object) -> Tensor:
            return scaled_dot_product_attention(q, k, v)

        exact = output_and_gradients(plain, inputs.to(torch.float64))
        actual, rounded = (output_and_gradients(function, inputs) for function in (tested, plain))
    else:
        wide = inputs.to(torch.float64)
        exact = output_and_gradients(crosshead.interactive_attention, wide, impl="reference")
        actual = output_and_gradients(crosshead.interactive_attention, inputs, impl=provider)
        rounded = output_and_gradients(rounded_attention, inputs)
    assert_within_budget(actual, exact=exact, reference=rounded)
    return "output and gradients" if backward else "output"


def quartiles(times: list[float]) -> dict[str, Any]:
    if len(times) == 1:
        return dict.fromkeys(("median_s", "min_s", "q25_s", "q75_s"), round(times[0], 6))
    q25, median, q75 = statistics.quantiles(times, n=4, method="inclusive")
    named = {"median_s": median, "min_s": min(times), "q25_s": q25, "q75_s": q75}
    return {name: round(seconds, 6) for name, seconds in named.items()}


def measure_times(
    tokens: int, passes: str, *, budget: float, repeats: int, last: dict[str, tuple[int, float]]
) -> Iterator[Row]:
    """Times the providers in turns; one that would not fit its budget once is skipped, and says so."""
    backward = passes != "forward"
    inputs = inputs_of(tokens, backward=backward)
    cotangent = torch.ones(1, HEADS, tokens, HEAD_DIM)
    runs, wanted, checked = {}, {}, {}
    for provider in PROVIDERS:
        expected = 0.0
        if provider in last:
            before, seconds = last[provider]
            expected = seconds * (tokens / before) ** (2 if provider == "exact" else 1)
        if expected > budget:
            status = f"skipped: one run would take about {expected:.0f} s, more than {budget:.0f} s"
            yield Row(provider=provider, passes=passes, tokens=tokens, status=status)
            continue
        checked[provider] = check(provider, tokens, backward=backward)
        runs[provider] = runner(provider, inputs, cotangent, backward=backward)
        wanted[provider] = max(1, min(repeats, int(budget / expected))) if expected else repeats
        if expected < budget / 4:
            runs[provider]()  # warm-up, where there is time for one
    times: dict[str, list[float]] = {provider: [] for provider in runs}
    for repeat in range(repeats):
        for provider, run in runs.items():
            if repeat < wanted[provider] and sum(times[provider]) < budget:
                start = time.perf_counter()
                run()
                times[provider].append(time.perf_counter() - start)
    for provider, seconds in times.items():
        summary = quartiles(seconds)
        last[provider] = (tokens, summary["median_s"])
        yield Row(
            provider=provider,
            passes=passes,
            tokens=tokens,
            repeats=len(seconds),
            checked=checked[provider],
            **summary,
        )


def status_bytes(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status has no {field}; memory can be measured on Linux only")


def measure_memory_here(provider: str, tokens: int, passes: str, threads: int) -> dict[str, int]:
    """The high-water mark of this process over one run, counted from when the inputs exist."""
    torch.set_num_threads(threads)
    backward = passes != "forward"
    small = inputs_of(64, backward=backward)
    runner(
        provider, small, torch.ones(1, HEADS, 64, HEAD_DIM), backward=backward
    )()  # thread pools, libraries
    inputs = inputs_of(tokens, backward=backward)
    cotangent = torch.ones(1, HEADS, tokens, HEAD_DIM)
    run = runner(provider, inputs, cotangent, backward=backward)
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts again from here
    baseline = status_bytes("VmRSS")
    result = run()
    peak = status_bytes("VmHWM") - baseline
    output, gradients = result if backward else (result, ())
    returned = {"output_bytes": output.nbytes, "gradient_bytes": sum(g.nbytes for g in gradients)}
    given = sum(x.nbytes for x in leaves_of(provider, inputs)) + (cotangent.nbytes if backward else 0)
    return {
        "input_bytes": given,
        **returned,
        "peak_bytes": peak,
        "beyond_bytes": peak - sum(returned.values()),
    }


def measure_memory(row: Row, threads: int) -> Row:
    """Adds the memory of one run in a fresh process."""
    if row.status != "measured":
        return row
    task = json.dumps([row.provider, row.tokens, row.passes, threads])
    # Freed blocks of 64 kB and more go back to the system at once, so that resident memory is memory in use.
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    process = subprocess.run(
        [sys.executable, __file__, "--memory-of", task], capture_output=True, text=True, env=environment
    )
    if process.returncode:
        return replace(row, status=f"memory failed: {process.stderr.strip().splitlines()[-1]}")
    return replace(row, **json.loads(process.stdout.splitlines()[-1]))


def points_of(rows: list[Row], provider: str, passes: str, quantity: str) -> list[tuple[int, float]]:
    return [
        (row.tokens, value)
        for row in rows
        if (row.provider, row.passes) == (provider, passes)
        and (value := getattr(row, quantity)) is not None
        and value > 0
    ]


def slopes(rows: list[Row], first: int) -> list[dict[str, object]]:
    """Least-squares slopes in log-log coordinates from `first` tokens on."""
    found = []
    for provider, passes, quantity in product(PROVIDERS, PASSES, ("median_s", "beyond_bytes")):
        points = [point for point in points_of(rows, provider, passes, quantity) if point[0] >= first]
        if len(points) < 2:
            continue
        logs = [[math.log(x) for x in axis] for axis in zip(*points, strict=True)]
        line = {"provider": provider, "passes": passes, "quantity": quantity}
        line |= {"from_tokens": points[0][0], "to_tokens": points[-1][0], "points": len(points)}
        found.append(line | {"slope": round(statistics.linear_regression(*logs).slope, 3)})
    return found


def stamp(threads: int) -> list[str]:
    """What a number needs beside it to be believed."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    script = Path(__file__)
    command = f"python {script.parent.name}/{script.name} {shlex.join(sys.argv[1:])}".strip()
    return [
        f"command: {command}",
        f"date: {datetime.now(UTC).date()}",
        f"hardware: {model}, {torch.backends.cpu.get_cpu_capability()}, {os.cpu_count()} cores, "
        f"{memory:.0f} GiB",
        f"versions: crosshead {crosshead.__version__}, torch {torch.__version__}, "
        f"python {platform.python_version()}",
        f"setting: float32, batch 1, {HEADS} heads, head dim {HEAD_DIM}, {LANDMARKS} landmarks, mixing both, "
        f"threads {threads}",
        f"seeds: inputs {INPUT_SEED}, cotangent of the checks {SEED}",
    ]


def write_csv(path: Path, lines: list[dict[str, object]], head: list[str]) -> None:
    with path.open("w", newline="") as file:
        file.writelines(f"# {line}\n" for line in head)
        writer = csv.DictWriter(file, list(lines[0]))
        writer.writeheader()
        writer.writerows(lines)


def plot(rows: list[Row], path: Path, title: str) -> None:
    mpl.use("agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(11, 4.6), layout="constrained")
    colours = dict(zip(PROVIDERS, ("tab:orange", "tab:blue", "tab:gray"), strict=True))
    for axis, quantity, unit, label in (
        (axes[0], "median_s", 1e-3, "time, milliseconds"),
        (axes[1], "beyond_bytes", 2**20, "memory beyond inputs, output and gradients, MiB"),
    ):
        for provider, (passes, style) in product(PROVIDERS, zip(PASSES, ("--", "-"), strict=True)):
            points = [(x, y / unit) for x, y in points_of(rows, provider, passes, quantity)]
            if points:
                line = {"marker": "o", "ms": 4, "color": colours[provider], "label": f"{provider}, {passes}"}
                axis.plot(*zip(*points, strict=True), style, **line)
        axis.set(xscale="log", yscale="log", xlabel="tokens", ylabel=label)
        ticks = sorted({row.tokens for row in rows})
        axis.set_xticks(ticks, [f"{tick:,}" for tick in ticks], minor=False)
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    axes[0].legend(fontsize=8)
    figure.suptitle(title, fontsize=10)
    figure.savefig(path, dpi=130)


def show(rows: list[Row], steep: list[dict[str, object]], console: Console) -> None:
    def number(value: float | None, unit: float, digits: int) -> str:
        return "" if value is None else f"{value / unit:,.{digits}f}"

    table = Table(
        title="Attention by number of tokens: milliseconds, MiB beyond inputs, output and gradients"
    )
    for column in ("tokens", "pass", "provider", "median", "q25", "q75", "min", "runs", "MiB", "note"):
        text = column in ("pass", "provider", "note")
        table.add_column(column, justify="left" if text else "right", no_wrap=column != "note")
    for row in rows:
        times = (row.median_s, row.q25_s, row.q75_s, row.min_s)
        table.add_row(
            f"{row.tokens:,}",
            row.passes.replace("forward", "fwd").replace("backward", "bwd"),
            row.provider,
            *(number(value, 1e-3, 1) for value in times),
            str(row.repeats or ""),
            number(row.beyond_bytes, 2**20, 1),
            row.status.removeprefix("measured"),
        )
    console.print(table)
    for line in steep:
        console.print("log-log slope of {provider}, {passes}, {quantity}: {slope}".format(**line))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="up to 4,096 tokens, fewer repeats")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--budget", type=float, default=60.0, help="seconds for one provider, pass and length"
    )
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.memory_of:
        print(json.dumps(measure_memory_here(*json.loads(options.memory_of))))
        return

    console = Console(width=max(110, Console().width))
    torch.set_num_threads(options.threads)
    lengths = (256, 1024, 4096) if options.quick else (256, 1024, 4096, 16_384, 65_536)
    repeats = 5 if options.quick else 11
    rows: list[Row] = []
    for passes in PASSES:
        last: dict[str, tuple[int, float]] = {}
        for tokens in lengths:
            timed = measure_times(tokens, passes, budget=options.budget, repeats=repeats, last=last)
            for row in sorted(timed, key=lambda row: PROVIDERS.index(row.provider)):
                console.print(f"{row.tokens:>6,} {row.passes:<16} {row.provider:<9} {row.status}")
                rows.append(measure_memory(row, options.threads))
    steep = slopes(rows, 256 if options.quick else 4096)
    show(rows, steep, console)

    head = stamp(options.threads)
    options.output.mkdir(parents=True, exist_ok=True)
    name = "attention_scaling_quick" if options.quick else "attention_scaling"
    write_csv(options.output / f"{name}.csv", [asdict(row) for row in rows], head)
    write_csv(options.output / f"{name}_slopes.csv", steep, head)
    plot(
        rows,
        options.output / f"{name}.png",
        f"{head[2].removeprefix('hardware: ')}; {head[4].removeprefix('setting: ')}",
    )
    console.print(f"written to {options.output}: {name}.csv, {name}_slopes.csv, {name}.png")


if __name__ == "__main__":
    main()
