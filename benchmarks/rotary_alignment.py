"""Whether layers with rotary positions learn from their teacher as those with learned positions do.

    python benchmarks/rotary_alignment.py --data-dir DIR        about twenty minutes on one busy core

For each seed two small ViTs of three layers learn Fashion-MNIST, patches of 4 x 4, one with learned, one with
rotary positions. Their attention is replaced, and each layer learns by itself to give what the teacher's
gives, for as many steps, as the first epochs of `crosshead train linearize` do. With rotary positions the
landmarks are either turned as a token at the centre of their cell, as `swap_attention` does, or pooled from
queries and keys that were turned before. Writes benchmarks/results/rotary_alignment.csv: each layer's
relative squared error on 200 test images before and after, the cosine of the last patch tokens, and the
teacher's accuracy on 1,000.
"""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import tyro
from rich.console import Console
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import OneCycleLR

from crosshead.attention.pooling import Pooling
from crosshead.bench.report import head_lines, write_table
from crosshead.tasks.classify.data import load_fashion_mnist
from crosshead.tasks.linearize.agreement import agreement
from crosshead.tasks.linearize.module import Linearizer
from crosshead.vision.rotary import RotaryAttention
from crosshead.vision.swap import swap_silently

RESULT = Path(__file__).parent / "results" / "rotary_alignment.csv"
SEEDS, LANDMARKS = (0, 1), (3, 2)
TRAIN_STEPS, TRAIN_BATCH, ALIGN_STEPS, ALIGN_BATCH, RATE = 800, 64, 200, 32, 2e-3
SIZE: Any = {"img_size": 28, "patch_size": 4, "in_chans": 1, "num_classes": 10, "global_pool": "avg"}
SIZE |= {"embed_dim": 64, "depth": 3, "num_heads": 4, "mlp_ratio": 2.0}


class PooledAfter(RotaryAttention):
    """Landmarks as means of queries and keys that are turned already."""

    def _with_landmarks(self, pooling: Pooling, q: Tensor, k: Tensor, rope: Any) -> Any:
        q, k = self._turned(q, rope), self._turned(k, rope)
        return q, k, pooling.of_queries(q), pooling.of_keys(k)


def train(model: Any, images: Tensor, labels: Tensor, *, seed: int) -> None:
    draws = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.05)
    rates = OneCycleLR(optimizer, RATE, TRAIN_STEPS)
    for _ in range(TRAIN_STEPS):
        chosen = torch.randint(len(images), (TRAIN_BATCH,), generator=draws)
        optimizer.zero_grad()
        cross_entropy(model(images[chosen]), labels[chosen]).backward()
        optimizer.step()
        rates.step()
    model.eval()


def align(module: Linearizer, images: Tensor, *, seed: int) -> None:
    draws = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW([p for p in module.parameters() if p.requires_grad], lr=RATE)
    rates = OneCycleLR(optimizer, RATE, ALIGN_STEPS)
    for _ in range(ALIGN_STEPS):
        chosen = torch.randint(len(images), (ALIGN_BATCH,), generator=draws)
        optimizer.zero_grad()
        module.layer_errors(images[chosen]).mean().backward()
        optimizer.step()
        rates.step()


@torch.no_grad()
def found(module: Linearizer, images: Tensor, when: str) -> dict[str, float]:
    row = {
        f"layer_{place}_{when}": round(float(error), 4)
        for place, error in enumerate(module.layer_errors(images))
    }
    agreed = agreement(module.patch_tokens(module.model, images), module.patch_tokens(module.teacher, images))
    return row | {f"cosine_{when}": round(float(agreed.cosine.mean()), 4)}


def measured(splits: dict[str, tuple[Tensor, Tensor]], seed: int) -> Iterator[dict[str, Any]]:
    """A row for each kind of positions, rule and number of landmarks."""
    images, labels = splits["train"]
    unseen, truth = (part[:1000] for part in splits["test"])
    kinds: dict[str, Any] = {
        "learned": lambda: VisionTransformer(**SIZE),
        "rotary": lambda: Eva(**SIZE, use_rot_pos_emb=True, use_abs_pos_emb=False, head_init_scale=1.0),
    }
    for positions, build in kinds.items():
        torch.manual_seed(seed)
        teacher = build()
        train(teacher, images, labels, seed=seed)
        with torch.no_grad():
            accuracy = float((teacher(unseen).argmax(1) == truth).float().mean())
        for landmarks in LANDMARKS:
            for rule in ("centre", "pooled after") if positions == "rotary" else ("",):
                student = swap_silently(copy.deepcopy(teacher), landmarks=landmarks, local_kernel=3)
                for block in student.blocks if rule == "pooled after" else ():
                    attention: Any = block.attn
                    forward = PooledAfter._with_landmarks.__get__(attention)
                    attention._with_landmarks = forward
                module = Linearizer(student, teacher=teacher, trained="attention")
                row = {"seed": seed, "positions": positions, "landmarks": landmarks, "rule": rule}
                row |= {"accuracy": round(accuracy, 3), **found(module, unseen[:200], "before")}
                align(module, images, seed=seed)
                yield row | found(module, unseen[:200], "after")


def main(data_dir: Path, *, threads: int = 1) -> None:
    """Measures every seed, shows each row as it is there, and writes the table.

    Args:
        data_dir: the four files of Fashion-MNIST.
        threads: of torch.
    """
    torch.set_num_threads(threads)
    console, rows, data = Console(highlight=False, width=200), [], load_fashion_mnist(data_dir)
    splits: dict[str, tuple[Tensor, Tensor]] = {}
    for split, part in (("train", data.train), ("test", data.test)):
        known: Any = part
        pixels = torch.from_numpy(known.images.copy()).float().reshape(-1, 1, 28, 28) / 255
        normalised = (pixels - data.meta.mean[0]) / data.meta.std[0]
        splits[split] = normalised, torch.from_numpy(known.labels.copy()).long()
    setting = (
        f"{TRAIN_STEPS} steps of {TRAIN_BATCH} images to train, {ALIGN_STEPS} of {ALIGN_BATCH} to align, cpu"
    )
    head = head_lines([], setting)
    head[0] = "command: python benchmarks/rotary_alignment.py --data-dir DIR"
    head[-1] = f"seeds: {', '.join(map(str, SEEDS))}, as in the column"
    for seed in SEEDS:
        for row in measured(splits, seed):
            rows.append(row)
            console.print(*row.values())
            write_table(RESULT, rows, head)


if __name__ == "__main__":
    tyro.cli(main)
