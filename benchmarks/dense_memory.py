"""The most memory that a training step of a backbone takes at sizes of dense prediction, batch 1, float32.

    python benchmarks/dense_memory.py        about fifteen minutes on two cores, Linux

Each figure comes from a process of its own: the high-water mark beyond weights and image, gradients included.
A case that four times the memory of half its side would not fit is left out, and its row says so. Writes
benchmarks/results/dense_memory.csv.
"""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import timm
import torch

import crosshead.vision  # noqa: F401  registers iViT with timm
from crosshead.measure.memory import ENVIRONMENT, available_bytes, measure_here
from crosshead.measure.stamp import stamp
from crosshead.measure.workload import Computed, Workload

MODELS = ("ivit_small", "swin_tiny_patch4_window7_224", "deit_small_patch16_224")
SIZES = (512, 1024, 2048)
PASSES = ("inference", "training", "training, checkpointed")
RESULT = Path(__file__).parent / "results" / "dense_memory.csv"


def workload_of(name: str, size: int, passes: str) -> Workload:
    """One step on one random image."""
    torch.manual_seed(0)
    fixed = timm.get_pretrained_cfg(name)
    options = {"img_size": size} if fixed is not None and fixed.fixed_input_size else {}
    model = timm.create_model(name, num_classes=10, **options)
    model.set_grad_checkpointing(passes.endswith("checkpointed"))
    image, parameters = torch.randn(1, 3, size, size), list(model.parameters())

    def infer() -> Computed:
        with torch.inference_mode():
            return Computed(model.eval()(image))

    def train() -> Computed:
        output = model.train()(image)
        gradients = torch.autograd.grad(output.square().mean(), parameters, allow_unused=True)
        return Computed(output.detach(), tuple(each for each in gradients if each is not None))

    return Workload(infer if passes == "inference" else train, [image, *parameters])


def measured(name: str, size: int, passes: str) -> int:
    """Bytes, from a fresh process."""
    command = [sys.executable, __file__, name, str(size), passes]
    answer = subprocess.run(command, env=os.environ | ENVIRONMENT, check=True, capture_output=True, text=True)
    return int(answer.stdout.splitlines()[-1])


def main() -> None:
    rows = []
    for name in MODELS:
        for passes in PASSES:
            before = 0
            for size in SIZES:
                fits = 4.5 * before < available_bytes("cpu") - 2**30
                before = measured(name, size, passes) if fits else 4 * before
                peak = round(before / 2**20) if fits else ""
                rows.append({"model": name, "size": size, "passes": passes, "peak_mib": peak})
                print(*rows[-1].values(), sep="  ", flush=True)
    for row in rows:
        row["note"] = "" if row["peak_mib"] != "" else "would not fit"
        row["command"] = "python benchmarks/dense_memory.py"
        row["stamp"] = json.dumps(stamp())
    with RESULT.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        case, pixels, kind = sys.argv[1:]
        torch.set_num_threads(2)
        warm_up = workload_of(case, 224, kind)
        print(measure_here(warm_up.run, workload_of(case, int(pixels), kind))["peak_bytes"])
    else:
        main()
