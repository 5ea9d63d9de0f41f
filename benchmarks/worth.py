"""What a backbone is worth: accuracy on four real tasks after equal time of training, beside its peers.

    python benchmarks/worth.py times DIRS          nothing else running; minutes
    python benchmarks/worth.py train DIRS          hours, one core; goes on where it was interrupted
    python benchmarks/worth.py choices DIRS        forms of ivit_nano at equal images, likewise

DIRS name where the data are: --cifar10 DIR --nuclei DIR --cells DIR --clothes DIR; what is not named is left
out. Protocol: docs/study.md. Writes worth_times.csv, worth.csv, worth_choices.csv below benchmarks/results,
a row at a time, and leaves out what is there. A model may carry options, as ivit_nano:head_dim=8:mixing=none.
worth_report.py shows what came out.
"""

import ast
import csv
import dataclasses
import io
import logging
import shutil
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
import tyro
from lightning.pytorch.callbacks import Callback
from rich.console import Console

from crosshead.measure.stamp import stamp_words
from crosshead.measure.timing import compare
from crosshead.recipes import RECIPES
from crosshead.runs.engine import make_module, make_trainer, resume, train
from crosshead.runs.evaluate import evaluate
from crosshead.runs.folder import RunFolder, write_atomically
from crosshead.runs.model import count_parameters
from crosshead.runs.record import read_record
from crosshead.runs.rows import read_metrics, score_of
from crosshead.tasks.recipe import Recipe
from crosshead.tasks.seeding import seed_everything
from crosshead.tasks.task import task_of

RESULTS = Path(__file__).parent / "results"
CONSOLE = Console(highlight=False)
OURS = "ivit_nano"
MODELS = (
    OURS,
    "efficientvit_b1",
    "pvt_v2_b0",
    "edgenext_x_small",
    "mobilevitv2_075",
    "fastvit_t8",
    "repvit_m0_9",
)
CHOICES = (
    OURS,
    *(
        f"{OURS}:{options}"
        for options in (
            "mixing=none",
            "head_dim=8",
            "head_dim=8:mixing=none",
            "head_dim=4:mixing_group_size=8",
            "head_dim=4:mixing=none",
            "attention_stages=(3,)",
            "attention_stages=()",
            "depths=(2,2,7,2)",
        )
    ),
)
SEEDS, RATE_SEED, RATES = (0, 1, 2), 1000, (1.0, 2.5)
# Of the epochs of a training, what one that chooses a learning rate takes.
RATE_SHARE = 1 / 3
STEPS, ROUNDS, UNTIMED = 8, 3, 2


@dataclass(frozen=True)
class Problem:
    """A task on real data.

    Attributes:
        recipe: name of the recipe that it is trained by.
        source: which of the folders holds its data.
        epochs: of iViT; the others get as many as take the same time.
        score: what counts, in an evaluation.
        title: of that figure.
        changes: fields of the recipe.
    """

    recipe: str
    source: str
    epochs: int
    score: tuple[str, ...]
    title: str
    changes: dict[str, Any]


PROBLEMS = {
    "cifar10": Problem(
        "classify",
        "cifar10",
        3,
        ("top1",),
        "CIFAR-10, 20,000 images, 64 px: top-1, %",
        {
            "image_size": 64,
            "crop_fraction": 1.0,
            "crop_scale": (0.5, 1.0),
            "rand_augment": "",
            "smoothing": 0.0,
        },
    ),
    "nuclei": Problem("nuclei-semantic", "nuclei", 6, ("mean_iou",), "nuclei, 256 px: mean IoU, %", {}),
    "cells": Problem("bccd", "cells", 10, ("box", "ap"), "blood cells, 320 px: box AP, %", {}),
    "scenes": Problem("fashion-scenes", "clothes", 3, ("mean_iou",), "scenes, 128 px: mean IoU, %", {}),
}


@dataclass(frozen=True, kw_only=True)
class Folders:
    """Where the data are; a task whose folder is not named is left out.

    Attributes:
        cifar10: train/ and test/, a folder for each class.
        nuclei: images and COCO's masks.
        cells: images and COCO's boxes.
        clothes: Fashion-MNIST.
    """

    cifar10: Path | None = None
    nuclei: Path | None = None
    cells: Path | None = None
    clothes: Path | None = None

    def problems(self) -> dict[str, tuple[Problem, Path]]:
        """What there is data for."""
        found = {name: (each, getattr(self, each.source)) for name, each in PROBLEMS.items()}
        return {name: pair for name, pair in found.items() if pair[1] is not None}


def recipe_of(problem: Problem, folder: Path, model: str, **changes: Any) -> Recipe:
    """The recipe of a task for a model with its options."""
    name, *options = model.split(":")
    arguments = dict(option.split("=", 1) for option in options)
    return dataclasses.replace(
        RECIPES[problem.recipe](),
        data_dir=folder,
        model=name,
        model_args={key: literal(value) for key, value in arguments.items()},
        drop_path=0.0,
        accelerator="cpu",
        threads=1,
        workers=0,
        val_every=1000,
        **{**problem.changes, **changes},
    )


def literal(value: str) -> Any:
    """8, (8, 8, 8, 16) or a word."""
    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return value


class StepTimes(Callback):
    """Seconds of each training step, loading included."""

    def __init__(self) -> None:
        self.ends = [time.perf_counter()]

    def on_train_batch_end(self, *_: Any) -> None:
        """A step is over."""
        self.ends.append(time.perf_counter())

    def seconds(self) -> list[float]:
        """Of the steps that are counted."""
        return [after - before for before, after in zip(self.ends, self.ends[1:], strict=False)][UNTIMED:]


def steps_of(recipe: Recipe) -> tuple[list[float], int, Any]:
    """Seconds of some training steps, the steps of an epoch, and the net in evaluation mode."""
    task: Any = task_of(recipe.task)
    data = task.data(recipe)
    loaders = task.loaders(recipe, data, data.meta)
    seed_everything(0)
    module = make_module(task, recipe, data.meta, task.build(recipe, data.meta))
    times = StepTimes()
    trainer: pl.Trainer = make_trainer(
        recipe,
        max_epochs=1,
        limit_train_batches=STEPS + UNTIMED,
        limit_val_batches=0,
        logger=False,
        enable_checkpointing=False,
        gradient_clip_val=recipe.clip_grad,
        callbacks=[times],
    )
    trainer.fit(module, datamodule=loaders)
    return times.seconds(), loaders.steps_per_epoch(1), module.model.eval()


def measure_times(folders: tyro.conf.OmitArgPrefixes[Folders], *, models: Sequence[str] = MODELS) -> None:
    """Times a training step and an inference of each model in each task, models taking turns.

    Args:
        folders: the data.
        models: what to time, with options.
    """
    for name, (problem, folder) in folders.problems().items():
        seconds: dict[str, list[float]] = {model: [] for model in models}
        steps, nets = 0, {}
        for _ in range(ROUNDS):
            for model in models:
                found, steps, nets[model] = steps_of(recipe_of(problem, folder, model, warmup_epochs=0))
                seconds[model] += found
        inference = times_of_inference(problem, folder, nets)
        rows = [
            {
                "task": name,
                "model": model,
                "parameters": count_parameters(nets[model]),
                "step_s": round(statistics.median(seconds[model]), 5),
                "step_min_s": round(min(seconds[model]), 5),
                "steps_an_epoch": steps,
                "infer_ms": round(1e3 * inference[model]["median_s"], 3),
                "infer_min_ms": round(1e3 * inference[model]["min_s"], 3),
                **stamp_words("; "),
            }
            for model in models
        ]
        write("worth_times", rows)
        for row in rows:
            CONSOLE.print(name, row["model"], f"step {row['step_s']:.3f} s, inference {row['infer_ms']} ms")


def times_of_inference(problem: Problem, folder: Path, nets: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Milliseconds from an image to what a net makes of it, one image at a time, nets taking turns."""
    recipe = recipe_of(problem, folder, OURS)
    task: Any = task_of(recipe.task)
    data = task.data(recipe)
    image = task.read(data.meta, data.test[0][0], position=0)
    calls = {
        name: (lambda net=net: task.predict(recipe, data.meta, net, [image])) for name, net in nets.items()
    }
    with torch.inference_mode():
        return compare(calls, budget=6.0, repeats=15, device="cpu")


def write(table: str, rows: Sequence[dict[str, Any]]) -> None:
    """Adds rows to a table, in place of those of the same training."""
    path = RESULTS / f"{table}.csv"
    key = [name for name in ("task", "model", "seed", "learning_rate", "split") if name in rows[0]]
    new = {tuple(str(row[name]) for name in key) for row in rows}
    kept = [row for row in read(table) if tuple(row[name] for name in key) not in new]
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows([*kept, *rows])
    write_atomically(path, text.getvalue().encode())


def read(table: str) -> list[dict[str, str]]:
    """The rows of a table that is there."""
    path = RESULTS / f"{table}.csv"
    return list(csv.DictReader(path.open(newline=""))) if path.exists() else []


@dataclass(frozen=True, kw_only=True)
class Budget:
    """How trainings of one table are made.

    Attributes:
        table: where the rows go.
        runs: folder of the trainings.
        same_images: as many epochs for everyone, and not as much time.
    """

    table: str = "worth"
    runs: Path = Path("runs/worth")
    same_images: bool = False

    def epochs(self, name: str, model: str, share: float) -> int:
        """Of a model: those of iViT, or as many as take their time."""
        factor = 1.0 if self.same_images else step_of(name, OURS) / step_of(name, model)
        return max(1, round(share * PROBLEMS[name].epochs * factor))


def step_of(name: str, model: str) -> float:
    """Seconds of a training step, as measured."""
    for row in read("worth_times"):
        if (row["task"], row["model"]) == (name, model):
            return float(row["step_min_s"])
    raise SystemExit(
        f"worth_times.csv has no {model} in {name}: run `python benchmarks/worth.py times` first"
    )


def train_all(
    folders: tyro.conf.OmitArgPrefixes[Folders],
    budget: tyro.conf.OmitArgPrefixes[Budget],
    *,
    models: Sequence[str] = MODELS,
    seeds: Sequence[int] = SEEDS,
    rates: Sequence[float] = RATES,
) -> None:
    """Trains what is not in the table: first what chooses learning rates on validation, then all seeds.

    Args:
        folders: the data.
        budget: how long, and where to.
        models: what to train, with options.
        seeds: of each model.
        rates: times the recipe's learning rate, to choose from.
    """
    for name, (problem, folder) in folders.problems().items():
        tried = [rate * RECIPES[problem.recipe]().lr for rate in rates]
        chosen = {}
        for model in models:
            scores = {lr: score_of_training(budget, name, folder, model, RATE_SEED, lr) for lr in tried}
            chosen[model] = max(scores, key=lambda lr: scores[lr])
        for seed in seeds:
            for model in models:
                score_of_training(budget, name, folder, model, seed, chosen[model])


def train_choices(
    folders: tyro.conf.OmitArgPrefixes[Folders],
    *,
    runs: Path = Path("runs/worth"),
    seeds: Sequence[int] = SEEDS,
) -> None:
    """Trains forms of ivit_nano on equally many images.

    Args:
        folders: the data.
        runs: folder of the trainings.
        seeds: of each form.
    """
    budget = Budget(table="worth_choices", runs=runs, same_images=True)
    train_all(folders, budget, models=CHOICES, seeds=seeds)


def score_of_training(budget: Budget, name: str, folder: Path, model: str, seed: int, lr: float) -> float:
    """The score of a training, from the table where it is there; RATE_SEED is short, and sees no test set."""
    split, share = ("validation", RATE_SHARE) if seed == RATE_SEED else ("test", 1.0)
    key = {"task": name, "model": model, "split": split, "seed": str(seed), "learning_rate": f"{lr:g}"}
    for row in read(budget.table):
        if all(row[column] == value for column, value in key.items()):
            return float(row["score"])
    problem = PROBLEMS[name]
    recipe = recipe_of(problem, folder, model, seed=seed, lr=lr, epochs=budget.epochs(name, model, share))
    run = RunFolder(budget.runs / budget.table / "-".join(key.values()).replace(":", "-"))
    row = {**key, **trained(problem, recipe, run, split), **stamp_words("; ")}
    write(budget.table, [row])
    CONSOLE.print(*key.values(), row["score"], f"{row['minutes']} min")
    shutil.rmtree(run.path)
    return row["score"]


def trained(problem: Problem, recipe: Recipe, run: RunFolder, split: str) -> dict[str, Any]:
    """Trains, or goes on, and measures."""
    if run.recipe.exists():
        resume(run, read_record(run))
    else:
        train(problem.recipe, recipe, run)
    rows = read_metrics(run)
    found: Any = float(rows[-1][score_of(rows) or ""])
    if split == "test":
        found = dataclasses.asdict(evaluate(run, accelerator="cpu")[0])
        for part in problem.score:
            found = found[part]
    return {
        "epochs": recipe.epochs,
        "images_seen": int(rows[-1]["step"]) * recipe.batch_size,
        "minutes": round(sum(float(row["seconds"]) for row in rows) / 60, 2),
        "score": round(float(found or 0.0), 5),
    }


if __name__ == "__main__":
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    tyro.extras.subcommand_cli_from_dict(
        {"times": measure_times, "train": train_all, "choices": train_choices}
    )
