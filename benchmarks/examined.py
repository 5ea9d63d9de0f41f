"""A trained run that `faithfulness.py`, `pointing.py` and `knock_out.py` examine, and their rows."""

import csv
import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

import crosshead
from crosshead.explain import attention_layers
from crosshead.measure.stamp import stamp
from crosshead.runs.trained import TrainedModel
from crosshead.study.statistics import mean_and_error
from crosshead.tasks.task import task_of

RESULTS = Path(__file__).parent / "results"
Row = dict[str, Any]


def summary(found: Tensor) -> Row:
    """Mean and standard error over images; those without a number, maps without an order, are not counted."""
    kept = found[found.isfinite()].double().tolist()
    mean, error = mean_and_error(kept) if kept else (math.nan, math.nan)
    return {"mean": round(mean, 4), "standard_error": round(error, 4)}


def told(row: Row) -> Row:
    """The row, shown."""
    Console().print(*row.values(), sep="  ", highlight=False)
    return row


def model_of(run: Path, data_dir: Path | None) -> TrainedModel:
    """The net of a run, and where its data are."""
    trained = crosshead.load(run, accelerator="cpu")
    attention_layers(trained.net)
    if data_dir is not None:
        trained.recipe = dataclasses.replace(trained.recipe, data_dir=data_dir)
    return trained


def title_of(trained: TrainedModel) -> str:
    """The model with its heads, layer by layer."""
    heads = " ".join(str(layer.num_heads) for layer in attention_layers(trained.net).values())
    return f"{trained.recipe.model}, heads {heads}"


def test_images(trained: TrainedModel, count: int | None) -> tuple[Tensor, Tensor]:
    """The first test images as the net takes them, `(B, C, height, width)`, and their classes."""
    task = task_of(trained.recipe.task)
    loaders: Any = task.loaders(trained.recipe, task.data(trained.recipe), trained.meta)
    number = len(loaders.test) if count is None else min(count, len(loaders.test))
    images, labels = zip(*(loaders.test[index] for index in range(number)), strict=True)
    return torch.stack(images), torch.tensor(labels)


def save(name: str, rows: list[Row], *, command: str) -> None:
    """Rows of one model, in the place of those that NAME.csv below benchmarks/results has of it."""
    path, machine = RESULTS / f"{name}.csv", {"command": command, "stamp": json.dumps(stamp())}
    found: list[Row] = []
    if path.exists():
        with path.open(newline="") as file:
            found = [row for row in csv.DictReader(file) if row["model"] != rows[0]["model"]]
    found += [row | machine for row in rows]
    columns = dict.fromkeys(column for row in rows for column in row)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, [*columns, *machine], lineterminator="\n")
        writer.writeheader()
        writer.writerows(found)
