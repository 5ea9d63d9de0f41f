"""Detection, segmentation and change detection on real data, each beside a ResNet-18 of the same library.

    python benchmarks/dense.py --cells DIR --nuclei DIR --clothes DIR --landsat DIR

Both backbones start from scratch and are trained by the same recipe with the same flags. What is finished is
not trained again, and what was interrupted is resumed. Some three hours of one core of an AMD EPYC server;
--only NAME picks one recipe. Writes benchmarks/results/dense_*.csv, and pictures beside them.
"""

import argparse
import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from sklearn.metrics import roc_auc_score
from spectral_difference import spectral_difference

from crosshead.tasks.change.held_out import deal_blocks
from crosshead.tasks.change.pairs import gather, scan_landsat

RESULTS, RUNS = Path(__file__).parent / "results", Path("runs/dense")
SOURCES = {
    "bccd": "cells",
    "nuclei": "nuclei",
    "nuclei-semantic": "nuclei",
    "fashion-scenes": "clothes",
    "landsat": "landsat",
}
EPOCHS = {"bccd": "16", "nuclei": "4", "nuclei-semantic": "6", "fashion-scenes": "2", "landsat": "6"}
MODELS: dict[str, list[str]] = {"ivit": [], "resnet18": ["--model", "resnet18"]}
TASK_OF = {"bccd": "detect", "nuclei": "detect", "landsat": "change"}


def plan(recipe: str) -> list[tuple[str, str, list[str]]]:
    """Name of the run, model and flags of each training of a recipe."""
    flags = ["--epochs", EPOCHS[recipe]]
    if recipe == "landsat":
        return [
            (f"landsat-{model}-{fold}", model, [*flags, "--fold", str(fold)])
            for fold in range(4)
            for model in MODELS
        ]
    trainings = [(f"{recipe}-{model}", model, flags) for model in MODELS]
    if recipe == "bccd":
        # ResNet-18 takes nearly twice as long for an epoch: this is what it reaches in the minutes of iViT.
        trainings.append(("bccd-resnet18-9", "resnet18", ["--epochs", "9"]))
    return trainings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    for name in dict.fromkeys(SOURCES.values()):
        parser.add_argument(f"--{name}", type=Path, help="folder of the data")
    parser.add_argument("--only", choices=list(SOURCES), help="one recipe")
    parser.add_argument("--flags", nargs="*", default=["--threads=1", "--accelerator=cpu"])
    options = parser.parse_args()
    rows: dict[str, list[dict[str, Any]]] = {}
    for recipe, source in SOURCES.items():
        data_dir = getattr(options, source)
        if data_dir is None or options.only not in (None, recipe):
            continue
        found = rows.setdefault(TASK_OF.get(recipe, "segment"), [])
        for name, model, flags in plan(recipe):
            train(RUNS / name, ["train", recipe, *flags, *MODELS[model], *options.flags], data_dir)
            found.append(row_of(RUNS / name, recipe, model, flags))
            show(RUNS / name)
        if recipe == "landsat":
            found += [baseline(data_dir, fold=fold) for fold in range(4)]
    for task, found in rows.items():
        write(RESULTS / f"dense_{task}.csv", found)


def train(run: Path, command: list[str], data_dir: Path) -> None:
    """Trains, or goes on, and evaluates; nothing where that is done."""
    if (run / "evaluation.json").exists():
        return
    if (run / "recipe.json").exists():
        crosshead("resume", run)
    else:
        crosshead(*command, "--data-dir", data_dir, "--out", run)
    crosshead("evaluate", run, "--accelerator", "cpu")


def crosshead(*arguments: str | Path) -> None:
    words = [str(argument) for argument in arguments]
    print(f"$ crosshead {' '.join(words)}", flush=True)
    subprocess.run([sys.executable, "-m", "crosshead.cli.main", *words], check=True)


def row_of(run: Path, recipe: str, model: str, flags: list[str]) -> dict[str, Any]:
    """What a run reached, by its last epoch."""
    record = json.loads((run / "recipe.json").read_text())
    figures = json.loads((run / "evaluation.json").read_text())
    with (run / "metrics.csv").open(newline="") as file:
        epochs = list(csv.DictReader(file))
    with (run / "model" / "model.safetensors").open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    header.pop("__metadata__")
    steps, batch = int(epochs[-1]["step"]), record["recipe"]["batch_size"]
    return {
        "recipe": recipe,
        "model": model,
        "fold": record["recipe"].get("fold", ""),
        "tensors_million": round(sum(np.prod(each["shape"]) for each in header.values()) / 1e6, 2),
        "seed": record["recipe"]["seed"],
        "epochs": len(epochs),
        "images_seen": steps * batch,
        "minutes": round(sum(float(epoch["seconds"]) for epoch in epochs) / 60, 1),
        **measures(figures),
        "command": " ".join(["crosshead train", recipe, "--data-dir DIR", *flags, *MODELS[model]]),
        "stamp": json.dumps(record["stamp"]),
    }


def measures(figures: dict[str, Any]) -> dict[str, Any]:
    """The figures of any task, flat."""
    if "box" in figures:
        return {
            f"{kind}_{name}": rounded(figures[kind][name])
            for kind in ("box", "mask")
            if figures[kind] is not None
            for name in ("ap", "ap50", "ap75", "small", "medium", "large")
        } | {"per_class": json.dumps(figures["box"]["per_class"])}
    names = ("mean_iou", "pixel_accuracy", "accuracy", "kappa", "f1", "auc")
    flat = {name: rounded(figures[name]) for name in names if name in figures}
    if "per_class_iou" in figures:
        flat["per_class"] = json.dumps(figures["per_class_iou"])
    return flat


def baseline(data_dir: Path, *, fold: int) -> dict[str, Any]:
    """What the length of the spectral change vector reaches on the same held-out labels."""
    (pair,) = gather(scan_landsat(data_dir))
    held_out = (deal_blocks(*pair.size) == fold) & (pair.label > 0)
    scores = spectral_difference(pair.before, pair.after)[held_out]
    return {
        "recipe": "landsat",
        "model": "spectral difference",
        "fold": fold,
        "auc": rounded(float(roc_auc_score(pair.label[held_out] == 2, scores))),
        "command": "python benchmarks/dense.py --landsat DIR --only landsat",
    }


def rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 5)


def show(run: Path) -> None:
    """Keeps a picture of test images with what iViT makes of them."""
    if run.name.removesuffix("-0").endswith("ivit"):
        picture = Image.open(run / "examples.png").convert("RGB")
        picture.thumbnail((1400, 1700))
        picture.save(RESULTS / f"dense_{run.name.removesuffix('-0')}.jpg", quality=85)


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    columns.sort(key=("command", "stamp").__contains__)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
