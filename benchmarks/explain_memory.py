"""How much memory it takes to look into a layer, beyond what the layer takes by itself, float32.

    python benchmarks/explain_memory.py        about five minutes on two cores, Linux

The layer is one of the third stage of iViT-small: 320 channels, 20 heads, 6 x 6 landmarks; its grid grows to
256 x 256 = 65,536 tokens, where one factor of its map has 180 MiB and the map of one head 16 GiB. Each
figure comes from a process of its own, the high-water mark of its memory:

    forward_mib     a forward pass
    block_mib       the same, recorded
    recording_mib   what is kept after the block
    asking_mib      what the question takes beside that, its answer included
    beyond_mib      the larger of block - forward, and recording + asking

Writes benchmarks/results/explain_memory.csv.
"""

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from crosshead import InteractiveAttention
from crosshead.explain import (
    LayerCall,
    Recording,
    head_diversity,
    landmark_readers,
    landmark_sources,
    listening,
    map_columns,
    map_rows,
    record,
    rollout,
    through_other_heads,
)
from crosshead.measure.memory import ENVIRONMENT, measure_here
from crosshead.measure.stamp import stamp
from crosshead.measure.workload import Computed, Workload

RESULT = Path(__file__).parent / "results" / "explain_memory.csv"
SIDES = (64, 128, 256)
QUESTIONS: dict[str, Callable[[LayerCall, Recording], Any]] = {
    "row": lambda call, _: map_rows(call, (3, 5)),
    "row of one head": lambda call, _: map_rows(call, (3, 5), heads=7),
    "column": lambda call, _: map_columns(call, (3, 5)),
    "landmark: sources": lambda call, _: landmark_sources(call, (2, 2)),
    "landmark: readers": lambda call, _: landmark_readers(call, (2, 2)),
    "listening": lambda call, _: listening(call),
    "through other heads": lambda call, _: through_other_heads(call),
    "diversity": lambda call, _: head_diversity(call),
    "rollout": lambda _, recording: rollout(recording, (3, 5)),
}


def layer_of(side: int) -> tuple[InteractiveAttention, Tensor]:
    torch.manual_seed(0)
    layer = InteractiveAttention(320, 20, landmarks=(6, 6)).eval()
    for mixer in (layer.query_mixing, layer.key_mixing):
        for matrix in mixer.parameters():
            torch.nn.init.normal_(matrix, std=0.05)
    return layer, torch.randn(1, side * side, 320)


def peak(side: int, what: str) -> dict[str, int]:
    """Bytes, in this process: of a forward pass, of a recorded one ("block"), or of a question afterwards."""
    layer, x = layer_of(side)

    def forward(tokens: Tensor, grid: int) -> None:
        layer(tokens, grid=(grid, grid))

    def recorded(tokens: Tensor, grid: int) -> Recording:
        with record(layer) as recording:
            forward(tokens, grid)
        return recording

    small = torch.randn(1, 256, 320)
    with torch.inference_mode():
        if what in ("forward", "block"):
            run = forward if what == "forward" else recorded
            return {"peak": _peak(lambda: run(small, 16), lambda: run(x, side))}
        ask, little, whole = QUESTIONS[what], recorded(small, 16), recorded(x, side)
        found = _peak(lambda: ask(little[0], little), lambda: ask(whole[0], whole))
        return {"peak": found, "recording": whole.nbytes}


def _peak(warm_up: Callable[[], object], run: Callable[[], object]) -> int:
    def compute() -> Computed:
        run()
        return Computed(torch.empty(0))

    return measure_here(warm_up, Workload(compute, []))["peak_bytes"]


def measured(side: int, what: str) -> dict[str, float]:
    """Mebibytes, from a fresh process."""
    command = [sys.executable, __file__, str(side), what]
    answer = subprocess.run(command, env=os.environ | ENVIRONMENT, check=True, capture_output=True, text=True)
    return {name: count / 2**20 for name, count in json.loads(answer.stdout.splitlines()[-1]).items()}


def main() -> None:
    rows = []
    for side in SIDES:
        forward, block = (measured(side, what)["peak"] for what in ("forward", "block"))
        for what in QUESTIONS:
            asked = measured(side, what)
            beyond = max(block - forward, asked["recording"] + asked["peak"])
            columns = {
                "forward_mib": forward,
                "block_mib": block,
                "recording_mib": asked["recording"],
                "asking_mib": asked["peak"],
                "beyond_mib": beyond,
            }
            row = {"tokens": side * side, "heads": 20, "landmarks": 36, "question": what}
            rows.append({**row, **{name: round(value, 1) for name, value in columns.items()}})
            print(*rows[-1].values(), sep="  ", flush=True)
    machine = {"command": "python benchmarks/explain_memory.py", "stamp": json.dumps(stamp())}
    with RESULT.open("w", newline="") as file:
        writer = csv.DictWriter(file, [*rows[0], *machine], lineterminator="\n")
        writer.writeheader()
        writer.writerows({**row, **machine} for row in rows)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        torch.set_num_threads(2)
        print(json.dumps(peak(int(sys.argv[1]), sys.argv[2])))
    else:
        main()
