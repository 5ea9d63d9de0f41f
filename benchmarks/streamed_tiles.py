"""Which tile `streamed` should use, and from which size it pays beside `reference`.

    python benchmarks/streamed_tiles.py       about a minute on two cores

Times reference and streamed with tiles of several sizes, taking turns, on shapes from small to large. Writes
benchmarks/results/streamed_tiles.csv: best and median of seven runs in milliseconds.
"""

import csv
import os
import platform
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from crosshead.attention.impl import reference, streamed
from crosshead.attention.mixing import HeadMixing
from crosshead.attention.operands import Operands

RESULT = Path(__file__).parent / "results" / "streamed_tiles.csv"
THREADS, SEED, REPEATS = 2, 0, 7
TILES = tuple(2**power for power in range(17, 23))
# batch, heads, tokens, landmarks, head dim
SHAPES = (
    (1, 8, 256, 64, 64),
    (1, 8, 1024, 64, 64),
    (1, 8, 4096, 64, 64),
    (1, 8, 16384, 64, 64),
    (1, 24, 4096, 49, 16),
    (8, 24, 196, 49, 16),
    (32, 12, 256, 49, 32),
)


def contenders(shape: tuple[int, ...], *, backward: bool) -> dict[str, Callable[[], Tensor]]:
    batch, heads, tokens, landmarks, dim = shape
    torch.manual_seed(SEED)
    made = [torch.randn(batch, heads, tokens, dim, requires_grad=backward) for _ in range(3)]
    made += [torch.randn(batch, heads, landmarks, dim, requires_grad=backward) for _ in range(2)]
    mixing = HeadMixing(logits=0.1 * torch.randn(heads, heads), weights=0.1 * torch.randn(heads, heads))
    call = Operands._make((*made, *mixing, *mixing, None, None, dim**-0.5))

    def with_tile(elements: int) -> Tensor:
        streamed.TILE_ELEMENTS = elements
        return streamed.attention(call)

    found: dict[str, Callable[[], Tensor]] = {"reference": partial(reference.attention, call)}
    return found | {str(elements): partial(with_tile, elements) for elements in TILES}


def main() -> None:
    torch.set_num_threads(THREADS)
    rows = []
    for shape in SHAPES:
        for backward in (False, True):
            calls = contenders(shape, backward=backward)
            times: dict[str, list[float]] = {name: [] for name in calls}
            for repeat in range(REPEATS + 1):
                for name, call in calls.items():
                    started = time.perf_counter()
                    output = call()
                    if backward:
                        output.sum().backward()
                    if repeat:
                        times[name].append(1000 * (time.perf_counter() - started))
            place = dict(zip(("batch", "heads", "tokens", "landmarks", "head_dim"), shape, strict=True))
            passes = "forward+backward" if backward else "forward"
            for name, taken in times.items():
                best, median = round(min(taken), 2), round(statistics.median(taken), 2)
                rows.append({**place, "passes": passes, "tile": name, "best_ms": best, "median_ms": median})
    machine = {
        "command": "python benchmarks/streamed_tiles.py",
        "hardware": f"{platform.machine()}, {os.cpu_count()} cores, {THREADS} threads",
        "torch": torch.__version__,
        "seed": SEED,
    }
    with RESULT.open("w", newline="") as file:
        writer = csv.DictWriter(file, [*rows[0], *machine])
        writer.writeheader()
        writer.writerows({**row, **machine} for row in rows)
    show(rows)


def show(rows: list[dict]) -> None:
    table = Table(title="median milliseconds; streamed by elements of a tile")
    for name in ("B, H, N, L, D", "passes", "reference", *map(str, TILES)):
        table.add_column(name, justify="right", no_wrap=True)
    width = len(TILES) + 1
    for i in range(0, len(rows), width):
        block = rows[i : i + width]
        shape = ", ".join(
            str(block[0][name]) for name in ("batch", "heads", "tokens", "landmarks", "head_dim")
        )
        table.add_row(shape, block[0]["passes"], *(f"{row['median_ms']:.1f}" for row in block))
    Console().print(table)


if __name__ == "__main__":
    main()
