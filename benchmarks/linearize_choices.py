"""What matters when blocks learn one after the other: choices of a linearization, side by side.

    python benchmarks/linearize_choices.py --data-dir IMAGES --model NAME

Each choice changes one thing about a linearized ViT or its training; all see the same crops. Adds to
linearize_choices.csv below results, and leaves out what is there already: for each choice and seed how well
the last patch tokens of the test images agree with the teacher's.
"""

import copy
import csv
import io
import logging
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
import tyro
from rich.console import Console
from torch.utils.data import DataLoader

from crosshead import InteractiveAttention
from crosshead.measure.stamp import stamp_words
from crosshead.runs.engine import make_trainer
from crosshead.runs.folder import write_atomically
from crosshead.tasks.linearize.agreement import agreement
from crosshead.tasks.linearize.module import Linearizer
from crosshead.tasks.linearize.recipe import LinearizeRecipe
from crosshead.tasks.linearize.task import TASK
from crosshead.tasks.linearize.teacher import build_student, find_teacher
from crosshead.tasks.seeding import seed_everything
from crosshead.vision.on_grid import GridAttention, mix_in

RESULT = Path(__file__).parent / "results" / "linearize_choices.csv"
CONSOLE = Console(highlight=False)


@dataclass(frozen=True)
class Choice:
    """One thing changed.

    Attributes:
        name: what it is called in the table.
        recipe: fields of the recipe.
        split: heads into which each head is cut.
    """

    name: str
    recipe: dict[str, Any] = field(default_factory=dict)
    split: int = 1


CHOICES = (
    Choice("as it is"),
    Choice("no interaction", {"mixing": "none"}),
    Choice("interaction of logits alone", {"mixing": "logits"}),
    Choice("interaction of weights alone", {"mixing": "weights"}),
    Choice("no local term", {"local_kernel": 0}),
    Choice("local term of 3 x 3", {"local_kernel": 3}),
    Choice("local term of 7 x 7", {"local_kernel": 7}),
    Choice("5 x 5 landmarks", {"landmarks": (5, 5)}),
    Choice("10 x 10 landmarks", {"landmarks": (10, 10)}),
    Choice("each head cut in two", split=2),
    Choice("learning rate halved", {"lr": 5e-4}),
    Choice("learning rate doubled", {"lr": 2e-3}),
    Choice("attention alone", {"trained": "attention"}),
    Choice("half as many crops", {"kept_crops": 512}),
)


def cut_heads(student: Any, parts: int) -> None:
    """Gives each attention more heads of fewer channels, and the same projections."""
    for block in student.blocks:
        old = block.attn
        new = InteractiveAttention(
            old.dim,
            parts * old.num_heads,
            landmarks=old.landmarks,
            mixing=old.mixing,
            local_kernel=old.local.conv.kernel_size[0] if old.local is not None else 0,
            num_prefix_tokens=old.num_prefix_tokens,
        )
        mix_in(GridAttention, new)
        new.qkv, new.proj = old.qkv, old.proj
        block.attn = new
    student.share_grid()


def main(
    *,
    data_dir: Path,
    model: str,
    crops: int = 2048,
    seeds: int = 1,
    threads: int | None = None,
) -> None:
    """Compares choices of a linearization, blocks alone.

    Args:
        data_dir: images, as for `crosshead train linearize`.
        model: the teacher, likewise.
        crops: an epoch; half of them are different ones.
        seeds: trainings of each choice.
        threads: of PyTorch, by default its own choice.
    """
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    rows: list[dict[str, Any]] = list(csv.DictReader(RESULT.open())) if RESULT.exists() else []
    there = {(row["choice"], int(row["seed"])) for row in rows}
    for seed in range(seeds):
        for choice in CHOICES:
            if (choice.name, seed) in there:
                continue
            recipe = LinearizeRecipe(
                model=model,
                data_dir=data_dir,
                epochs=0,
                batch_size=16,
                lr=1e-3,
                weight_decay=0.0,
                clip_grad=1.0,
                crops=crops,
                kept_crops=crops // 2,
                precision="bf16-mixed",
                accelerator="cpu",
                threads=threads,
                seed=seed,
            )
            rows.append(measured(choice, replace(recipe, **choice.recipe)))
            write(rows)


def measured(choice: Choice, recipe: LinearizeRecipe) -> dict[str, Any]:
    """The row of a choice, after its training."""
    seed_everything(recipe.seed)
    data, teacher = TASK.data(recipe), find_teacher(recipe).build(pretrained=True)
    student = build_student(recipe, copy.deepcopy(teacher)).requires_grad_(True)
    if choice.split > 1:
        cut_heads(student, choice.split)
    module = Linearizer(
        student,
        teacher=teacher,
        blockwise=True,
        trained=recipe.trained,
        learning_rate=recipe.lr,
        weight_decay=recipe.weight_decay,
    )
    loaders: Any = TASK.loaders(recipe, data, data.meta)
    make_trainer(
        recipe,
        max_epochs=module.epochs_before,
        limit_val_batches=0,
        gradient_clip_val=recipe.clip_grad,
        reload_dataloaders_every_n_epochs=1,
        logger=False,
        enable_checkpointing=False,
    ).fit(module, datamodule=loaders)
    module.eval()
    with torch.inference_mode():
        found = [
            agreement(*(module.patch_tokens(net, images) for net in (module.model, module.teacher)))
            for images, _ in DataLoader(loaders.test, 1)
        ]
    row = {
        "choice": choice.name,
        "seed": recipe.seed,
        "kept_crops": recipe.kept_crops,
        "crops_an_epoch": recipe.crops,
        "test_images": len(found),
        "cosine": round(float(torch.cat([each.cosine for each in found]).mean()), 4),
        "centered_cosine": round(float(torch.cat([each.centered for each in found]).mean()), 4),
    }
    CONSOLE.print("  ".join(map(str, row.values())))
    return {**row, **stamp_words("; ")}


def write(rows: list[dict[str, Any]]) -> None:
    """Replaces the table."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(RESULT, text.getvalue().encode())


if __name__ == "__main__":
    tyro.cli(main)
