"""Where a backbone's time goes, operator by operator, and how near each kind comes to the machine's rate.

    python benchmarks/backbone_profile.py

Nothing else should run. Writes benchmarks/results/backbone_profile.csv and prints the table of
docs/backbone.md: one image, at each size, for inference and for a training step.
"""

import csv
import io
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

import timm
import torch
import tyro
from rich.console import Console
from rich.table import Table
from torch import nn
from torch.profiler import ProfilerActivity, profile

from crosshead.bench.providers import Setting
from crosshead.bench.roofline import measure_machine
from crosshead.measure.flops import flop_counter
from crosshead.measure.stamp import stamp_words
from crosshead.runs.folder import write_atomically
from crosshead.vision.variants import VARIANTS

RESULT = Path(__file__).parent / "results" / "backbone_profile.csv"
CONSOLE = Console(highlight=False)
KINDS = (
    "MLPs",
    "projections",
    "attention",
    "stem and steps",
    "depth-wise convolutions",
    "norms",
    "activations",
    "pooling",
    "copies",
    "sums",
    "everything else",
)
CALLS = 7


def kind_of(name: str, shapes: Sequence[Sequence[int]]) -> str:
    """What an operator is part of, by its name and the shapes of its operands."""
    if "conv" in name:
        weights = [shape for shape in shapes if len(shape) == 4]
        # A backward pass is given the gradient, the input and the weight, a forward pass the last two.
        return (
            kind_of_weight(weights[2 if "backward" in name else 1]) if len(weights) > 1 else "everything else"
        )
    for words, kind in (
        ("crosshead::", "attention"),
        ("layer_norm", "norms"),
        ("gelu", "activations"),
        ("bmm", "pooling"),
        ("mm", "projections"),
    ):
        if words in name:
            return kind
    if name in ("aten::copy_", "aten::cat", "aten::fill_", "aten::zero_"):
        return "copies"
    return "sums" if name in ("aten::add", "aten::add_", "aten::sum") else "everything else"


def kind_of_weight(shape: Sequence[int]) -> str:
    """What a convolution is part of, by its weight: (outputs, inputs, rows, columns)."""
    outputs, inputs, rows, _ = shape
    if rows > 1:
        return "depth-wise convolutions" if inputs == 1 else "stem and steps"
    return "MLPs" if outputs == 4 * inputs or inputs == 4 * outputs else "projections"


def times_by_kind(step: Callable[[], object]) -> dict[str, float]:
    """Milliseconds of each kind in one call, the median of several calls."""
    found: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for _ in range(CALLS):
        with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as profiled:
            step()
        spent: dict[str, float] = defaultdict(float)
        for event in profiled.key_averages(group_by_input_shape=True):
            spent[kind_of(event.key, event.input_shapes)] += event.self_cpu_time_total / 1e3
        for kind in KINDS:
            found[kind].append(spent[kind])
    return {kind: median(times) for kind, times in found.items()}


def work_by_kind(model: nn.Module, image: torch.Tensor, *, train: bool) -> dict[str, int]:
    """Multiply-adds of each kind for one image; a backward pass needs twice those of the forward pass."""
    with flop_counter() as counter, torch.inference_mode():
        model(image)
    work: dict[str, int] = defaultdict(int)
    for module, operators in counter.get_flop_counts().items():
        for operator, flops in operators.items():
            kind = kind_of_module(module, str(operator))
            if kind is not None:
                work[kind] += flops // 2 * (3 if train else 1)
    return work


def kind_of_module(name: str, operator: str) -> str | None:
    """What the multiply-adds of a module are part of; None where its parts tell."""
    last = name.rpartition(".")[2]
    if last == "attn":
        return "attention" if "crosshead" in operator else "pooling" if "bmm" in operator else "projections"
    kinds = {"fc1": "MLPs", "fc2": "MLPs", "conv_dw": "depth-wise convolutions"}
    kinds |= dict.fromkeys(("conv1", "conv2", "downsample"), "stem and steps")
    return kinds.get(last)


def main(*, model: str = "ivit_small", sizes: Sequence[int] = (224, 512, 1024)) -> None:
    """Profiles a backbone of ours on this machine's CPU, one image at a time.

    Args:
        model: its name.
        sizes: sides of the image in pixels.
    """
    if model not in VARIANTS:
        raise SystemExit(f"model must be one of {', '.join(VARIANTS)}; got {model}")
    machine = measure_machine(Setting(device="cpu", dtype="float32"))
    CONSOLE.print(str(machine))
    rows = []
    for train in (False, True):
        for size in sizes:
            net, image = timm.create_model(model).train(train), torch.randn(1, 3, size, size)

            def step(net: nn.Module = net, image: torch.Tensor = image, train: bool = train) -> None:
                with torch.inference_mode(not train):
                    scores = net(image)
                if train:
                    scores.sum().backward()
                    net.zero_grad()

            work = work_by_kind(net, image, train=train)
            times = times_by_kind(step)
            total = sum(times.values())
            for kind in KINDS:
                rate = work[kind] / (times[kind] / 1e3) if times[kind] and work[kind] else 0.0
                rows.append(
                    {
                        "model": model,
                        "passes": "train" if train else "inference",
                        "size": size,
                        "kind": kind,
                        "ms": round(times[kind], 3),
                        "share": round(times[kind] / total, 4),
                        "multiply_adds": work[kind],
                        "gflops": round(2e-9 * rate, 1),
                        "of_matrix_product": round(rate / machine.multiply_adds_per_second, 3),
                        **stamp_words("; "),
                    }
                )
            CONSOLE.print(f"{size} pixels, {'training' if train else 'inference'}: {total:.1f} ms")
    write(rows)
    CONSOLE.print(table_of(rows, sizes))


def write(rows: list[dict]) -> None:
    """Writes the table."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(RESULT, text.getvalue().encode())


def table_of(rows: list[dict], sizes: Sequence[int]) -> Table:
    """Shares of the time in per cent, and in brackets the rate against that of a large matrix product."""
    shown = Table(title="share of the time (of the rate of a matrix product), %")
    shown.add_column("")
    cases = [(passes, size) for passes in ("inference", "train") for size in sizes]
    for passes, size in cases:
        shown.add_column(f"{passes}, {size}")
    for kind in KINDS:
        cells = []
        for passes, size in cases:
            (row,) = (
                row for row in rows if (row["kind"], row["passes"], row["size"]) == (kind, passes, size)
            )
            rate = f" ({100 * row['of_matrix_product']:.0f})" if row["multiply_adds"] else ""
            cells.append(f"{100 * row['share']:.0f}{rate}")
        shown.add_row(kind, *cells)
    return shown


if __name__ == "__main__":
    tyro.cli(main)
