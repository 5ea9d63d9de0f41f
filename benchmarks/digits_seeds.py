"""Trains the digits recipe from three seeds and writes what each reached.

    python benchmarks/digits_seeds.py       about six minutes on two cores

Writes benchmarks/results/digits_seeds.csv: the test accuracy of the last epoch, by `crosshead evaluate`.
"""

import csv
import json
import subprocess
import sys
from pathlib import Path
from statistics import mean, stdev

from rich.console import Console

RUNS, SEEDS = Path("runs/digits-seeds"), (0, 1, 2)
RESULT = Path(__file__).parent / "results" / "digits_seeds.csv"


def main() -> None:
    rows = []
    for seed in SEEDS:
        run = RUNS / str(seed)
        command = ["train", "digits", "--seed", str(seed), "--out", str(run)]
        subprocess.run([sys.executable, "-m", "crosshead.cli.main", *command], check=True)
        subprocess.run([sys.executable, "-m", "crosshead.cli.main", "evaluate", str(run)], check=True)
        with (run / "metrics.csv").open(newline="") as file:
            seconds = sum(float(epoch["seconds"]) for epoch in csv.DictReader(file))
        evaluation = json.loads((run / "evaluation.json").read_text())
        stamp = json.loads((run / "recipe.json").read_text())["stamp"]
        rows.append(
            {
                "command": " ".join(["crosshead", *command]),
                "seed": seed,
                "test_accuracy": evaluation["top1"],
                "seconds": round(seconds),
                "stamp": json.dumps(stamp),
            }
        )
    with RESULT.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    accuracies = [float(row["test_accuracy"]) for row in rows]
    error = stdev(accuracies) / len(accuracies) ** 0.5
    Console().print(f"digits, {len(rows)} seeds: {mean(accuracies):.4f} ± {error:.4f} (standard error)")


if __name__ == "__main__":
    main()
