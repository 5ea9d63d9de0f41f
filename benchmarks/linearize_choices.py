"""What matters when layers learn by themselves: choices of a linearization, side by side on the same crops.

    python benchmarks/linearize_choices.py --data-dir IMAGES --model NAME

Each choice changes one thing about a linearized ViT or its training. All see the same crops of the same
images, and the teacher runs once for all of them, in bfloat16. Writes linearize_choices.csv below results:
for each choice and seed the mean relative error of the layers, and how well the last patch tokens of the test
images agree with the teacher's.
"""

import copy
import csv
import io
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
import tyro
from rich.console import Console
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from crosshead import InteractiveAttention
from crosshead.measure.stamp import stamp_words
from crosshead.runs.folder import write_atomically
from crosshead.tasks.linearize.agreement import agreement, relative_error
from crosshead.tasks.linearize.module import Linearizer, tapped
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
        by_cosine: whether layers learn directions in place of values.
    """

    name: str
    recipe: dict[str, Any] = field(default_factory=dict)
    split: int = 1
    by_cosine: bool = False


CHOICES = (
    Choice("as it is"),
    Choice("no interaction", {"mixing": "none"}),
    Choice("interaction of logits alone", {"mixing": "logits"}),
    Choice("interaction of weights alone", {"mixing": "weights"}),
    Choice("no local term", {"local_kernel": 0}),
    Choice("local term of 5 x 5", {"local_kernel": 5}),
    Choice("5 x 5 landmarks", {"landmarks": (5, 5)}),
    Choice("10 x 10 landmarks", {"landmarks": (10, 10)}),
    Choice("each head cut in two", split=2),
    Choice("learning rate halved", {"lr": 5e-4}),
    Choice("learning rate doubled", {"lr": 2e-3}),
    Choice("cosine in place of relative error", by_cosine=True),
)


class Learner:
    """A student with its optimiser."""

    def __init__(self, choice: Choice, recipe: LinearizeRecipe, teacher: Any, steps: int) -> None:
        self.choice = choice
        recipe = replace(recipe, **choice.recipe)
        student = build_student(recipe, copy.deepcopy(teacher))
        if choice.split > 1:
            cut_heads(student, choice.split)
        self.module = Linearizer(student, teacher=teacher, trained="attention")
        trained = [each for each in student.parameters() if each.requires_grad]
        self.optimizer = torch.optim.AdamW(trained, lr=recipe.lr, weight_decay=0.0)
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer, recipe.lr, total_steps=steps, pct_start=0.1
        )

    def learn(self, taps: dict[str, tuple[Tensor, Tensor]], size: torch.Size) -> float:
        """One step on what passed through the teacher; the mean relative error of the layers."""
        carried = self.module.model.carried(*size)
        losses, errors = [], []
        for name, (given, wanted) in taps.items():
            layer: Any = self.module.model.get_submodule(name)
            made = layer(given, attn_mask=carried).float()
            error = relative_error(made, wanted)
            angle = 1 - F.cosine_similarity(made, wanted.float(), dim=-1).mean()
            losses.append(angle if self.choice.by_cosine else error)
            errors.append(error.detach())
        self.optimizer.zero_grad()
        torch.stack(losses).mean().backward()
        nn.utils.clip_grad_norm_(
            [each for group in self.optimizer.param_groups for each in group["params"]], 1.0
        )
        self.optimizer.step()
        self.schedule.step()
        return float(torch.stack(errors).mean())


def cut_heads(student: Any, parts: int) -> None:
    """Gives each attention more heads of fewer channels, and the same projections."""
    for block in student.blocks:
        old = block.attn
        new = InteractiveAttention(
            old.dim,
            parts * old.num_heads,
            landmarks=old.landmarks,
            mixing=old.mixing,
            local_kernel=3 if old.local is not None else 0,
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
    steps: int = 400,
    batch_size: int = 8,
    seeds: int = 2,
) -> None:
    """Compares choices of a linearization on the stage in which layers learn by themselves.

    Args:
        data_dir: images, as for `crosshead train linearize`.
        model: the teacher, likewise.
        steps: updates of each student.
        batch_size: crops an update.
        seeds: trainings of each choice.
    """
    base = LinearizeRecipe(data_dir=data_dir, model=model, epochs=1, lr=1e-3, batch_size=batch_size)
    data = TASK.data(base)
    teacher = find_teacher(base).build(pretrained=True)
    rows: list[dict[str, Any]] = []
    for seed in range(seeds):
        recipe = replace(base, seed=seed, crops=steps * batch_size)
        loaders: Any = TASK.loaders(recipe, TASK.data(recipe), data.meta)
        crops = DataLoader(
            loaders.training_items()(0),
            batch_size,
            shuffle=True,
            generator=torch.Generator().manual_seed(seed),
        )
        seed_everything(seed)
        learners = [Learner(choice, recipe, teacher, steps) for choice in CHOICES]
        for step, (images, _) in zip(range(1, steps + 1), crops, strict=False):
            with torch.autocast("cpu", torch.bfloat16):
                with torch.no_grad(), tapped(teacher, learners[0].module.layers) as taps:
                    teacher.forward_features(images)
                errors = {each.choice.name: each.learn(taps, images.shape[-2:]) for each in learners}
            if step % 20 == 0:
                said = ", ".join(f"{error:.3f}" for error in errors.values())
                CONSOLE.print(f"seed {seed}, step {step} of {steps}: {said}")
        rows += [measured(each, data, loaders, seed=seed, steps=steps, batch=batch_size) for each in learners]
        write(rows)


@torch.inference_mode()
def measured(
    learner: Learner, data: Any, loaders: Any, *, seed: int, steps: int, batch: int
) -> dict[str, Any]:
    """The row of a student that has learned."""
    module, nets = learner.module.eval(), []
    for images, _ in DataLoader(loaders.test, 1):
        nets.append(
            (
                agreement(
                    module.patch_tokens(module.model, images), module.patch_tokens(module.teacher, images)
                ),
                module.layer_errors(images).mean(),
            )
        )
    row = {
        "choice": learner.choice.name,
        "seed": seed,
        "crops_seen": steps * batch,
        "layer_error": round(float(torch.stack([error for _, error in nets]).mean()), 4),
        "cosine": round(float(torch.cat([found.cosine for found, _ in nets]).mean()), 4),
        "centered_cosine": round(float(torch.cat([found.centered for found, _ in nets]).mean()), 4),
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
