"""Parameters, multiply-adds and activations of every iViT, and of known models beside them.

Writes benchmarks/results/backbone.csv and the table in docs/backbone.md:

    python benchmarks/backbone_table.py
"""

import csv
from importlib.metadata import version
from pathlib import Path

from crosshead.vision import Footprint, footprint
from crosshead.vision.variants import VARIANTS

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks/results/backbone.csv"
DOCUMENT = ROOT / "docs/backbone.md"
BEGIN, END = "<!-- backbone table: begin -->\n", "<!-- backbone table: end -->\n"
IMAGE_SIZE = 224
NEIGHBOURS = ("convnext_tiny", "swin_tiny_patch4_window7_224", "xcit_small_12_p16_224", "efficientvit_b2")


def main() -> None:
    costs = {name: footprint(name, image_size=IMAGE_SIZE) for name in (*VARIANTS, *NEIGHBOURS)}
    stamp = {"torch": version("torch"), "timm": version("timm")}
    with RESULTS.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["model", "image_size", *Footprint._fields, *stamp])
        writer.writerows([name, IMAGE_SIZE, *cost, *stamp.values()] for name, cost in costs.items())
    before, _, rest = DOCUMENT.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    DOCUMENT.write_text(before + BEGIN + table(costs) + END + after)


def table(costs: dict[str, Footprint]) -> str:
    lines = ["| model | parameters | multiply-adds | activations |", "|---|---|---|---|"]
    for name, (parameters, multiply_adds, activations) in costs.items():
        lines.append(
            f"| {name} | {parameters / 1e6:.2f} M | {multiply_adds / 1e9:.2f} G | {activations / 1e6:.1f} M |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
