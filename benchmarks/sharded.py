"""A million tokens through one layer on four processes of this machine: memory of each, and bytes exchanged.

    python benchmarks/sharded.py        some minutes on two cores, Linux

Each process makes 256 of 1,024 rows of the grid itself, so that nobody ever holds the whole. A row for each
process and for inference and training: the high-water mark beyond parameters and tokens, outputs and
gradients included; what the process gave to collectives, as counted, and as `crosshead.measure.traffic` has
it; what it then sends where sums go round in a ring, and what it would send in ring attention. Last the same
at a quarter of the tokens. Writes benchmarks/results/sharded_million.csv.
"""

import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import torch
from torch import distributed

from crosshead import InteractiveAttention, own_rows, shard_tokens
from crosshead.attention.impl.fused.cpu import build
from crosshead.measure.memory import ENVIRONMENT, measure_here
from crosshead.measure.stamp import stamp
from crosshead.measure.traffic import ring_attention_traffic, sharded_traffic
from crosshead.measure.workload import Computed, Workload
from crosshead.testing.collectives import CountedCollectives

RANKS = 4
GRIDS = ((1024, 1024), (512, 512))
PASSES = ("inference", "training")
LAYER = {"dim": 128, "heads": 8, "landmarks": (8, 8)}
COMMAND = "python benchmarks/sharded.py"
RESULT = Path(__file__).parent / "results" / "sharded_million.csv"


def workload_of(grid: tuple[int, int], passes: str) -> Workload:
    """One call of the layer on this rank's rows, with a loss of their outputs in training."""
    torch.manual_seed(0)
    layer = InteractiveAttention(LAYER["dim"], LAYER["heads"], landmarks=LAYER["landmarks"])
    shard_tokens(layer, distributed.group.WORLD)
    rows = own_rows(grid[0], distributed.group.WORLD)
    own = (rows.stop - rows.start, grid[1])
    torch.manual_seed(1 + distributed.get_rank())
    x, parameters = torch.randn(1, own[0] * own[1], LAYER["dim"]), list(layer.parameters())

    def infer() -> Computed:
        with torch.inference_mode():
            return Computed(layer(x, grid=own))

    def train() -> Computed:
        tokens = x.requires_grad_()
        output = layer(tokens, grid=own)
        gradients = torch.autograd.grad(output.square().mean(), [tokens, *parameters])
        return Computed(output.detach(), gradients)

    return Workload(infer if passes == "inference" else train, [x, *parameters])


def measured(rank: int, store: str, grid: tuple[int, int], passes: str) -> dict[str, object]:
    """The row of one rank, which prints it."""
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo",
        store=distributed.FileStore(store, RANKS),
        rank=rank,
        world_size=RANKS,
        timeout=timedelta(minutes=20),
    )
    warm_up, workload = workload_of((8, 8), passes), workload_of(grid, passes)
    counted = CountedCollectives()
    began = time.perf_counter()

    def run() -> Computed:
        nonlocal began
        began = time.perf_counter()
        with counted:
            return workload.run()

    peak = measure_here(warm_up.run, replace(workload, run=run))["peak_bytes"]
    seconds = time.perf_counter() - began
    distributed.barrier()
    distributed.destroy_process_group()
    backward = passes == "training"
    formula = sharded_traffic(grid=grid, **LAYER)
    ring = ring_attention_traffic(tokens=grid[0] * grid[1], dim=LAYER["dim"], ranks=RANKS)
    return {
        "tokens": grid[0] * grid[1],
        "ranks": RANKS,
        "rank": rank,
        "impl": "streamed" if build.missing() else "fused",
        "passes": passes,
        "seconds": round(seconds, 1),
        "token_mib": round(workload.given[0].nbytes / 2**20),
        "peak_mib": round(peak / 2**20),
        "collectives": sum(counted.calls.values()),
        "given_bytes": sum(counted.bytes.values()),
        "formula_bytes": formula.forward + formula.gathered + backward * formula.backward,
        "sent_bytes": formula.sent(RANKS) if backward else "",
        "ring_attention_sent_bytes": ring if backward else "",
    }


def main() -> None:
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for grid in GRIDS:
            for passes in PASSES:
                store = f"{folder}/{grid[0]}-{passes}"
                commands = [
                    [sys.executable, __file__, str(rank), store, json.dumps(grid), passes]
                    for rank in range(RANKS)
                ]
                environment = os.environ | ENVIRONMENT
                processes = [
                    subprocess.Popen(each, env=environment, stdout=subprocess.PIPE, text=True)
                    for each in commands
                ]
                for process in processes:
                    rows.append(json.loads(process.communicate()[0].splitlines()[-1]))
                    print(*rows[-1].values(), sep="  ", flush=True)
    layer = ", ".join(f"{name} {value}" for name, value in LAYER.items())
    for row in rows:
        row |= {"layer": layer, "command": COMMAND, "stamp": json.dumps(stamp())}
    with RESULT.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        number, where, sides, kind = sys.argv[1:]
        print(json.dumps(measured(int(number), where, tuple(json.loads(sides)), kind)))
    else:
        main()
