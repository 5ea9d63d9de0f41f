"""Do the maps of `crosshead.explain` point at what a net was asked about? Nuclei, and captum's beside.

    python benchmarks/pointing.py RUN [--data-dir DIR]     ten minutes on one core

RUN is a run folder of `nuclei-semantic`, DIR its data, by default where it found them. It needs the extra
`explain`. Published from:

    crosshead train nuclei-semantic --data-dir DIR --epochs 3 --val 0

Two scores of each test image, both the logit of nucleus less that of background: the mean over all pixels
that the net takes for nuclei; and a single pixel, the middle of a nucleus that is drawn. A map hits if the
middle of its highest patch lies in a nucleus, or in that one; `share` is how much of its positive part lies
on such patches. Beside them stands what patches drawn at random would reach: the part of all patches whose
middle lies there. Differences to it are paired by image. The last rows are of the net with all its weights
shuffled: what they reach is owed to the image, and not to what was learned.

Occlusion and Shapley values are left out: they would take a pass for each of a thousand patches.

Writes benchmarks/results/pointing.csv.
"""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from examined import Row, model_of, save, summary, title_of, told
from explainers import OURS, Explainer, Question, cams, controls, gradients, grid_of
from torch import Tensor, nn

from crosshead.explain import shuffled_weights
from crosshead.runs.trained import TrainedModel
from crosshead.study.statistics import mean_and_error
from crosshead.tasks.detect.data import load_objects
from crosshead.tasks.segment.transforms import eval_transform

IMAGES, STEPS, SMALLEST = 60, 8, 64
CHANCE, TINY = "random patch", 1e-30
STAGES = {"third": 2, "last": 3}


def main(run: Path, /, *, data_dir: Path | None = None, images: int = IMAGES) -> None:
    """Measures and writes.

    Args:
        run: a run folder.
        data_dir: where the data are now.
        images: how many test images, the first ones with a nucleus.
    """
    trained = model_of(run, data_dir)
    shuffled = shuffled_weights(trained.net)
    found: dict[tuple[str, str], list[float]] = {}
    for image, masks in islice(nuclei_images(trained), images):
        for title, question, target in questions(trained, image, masks):
            for method, measure, value in points(question, target, shuffled):
                found.setdefault((method, f"{title}: {measure}"), []).append(value)
    rows = [told(row_of(found, method, measure)) for method, measure in found]
    columns = {"model": title_of(trained), "dataset": "nuclei", "images": images}
    save("pointing", [row | columns for row in rows], command="python benchmarks/pointing.py RUN")


def nuclei_images(trained: TrainedModel) -> Iterator[tuple[Tensor, np.ndarray]]:
    """Test images as the net takes them, `(1, C, height, width)`, and the masks of their nuclei."""
    recipe: Any = trained.recipe
    transform = eval_transform(mean=trained.meta.mean, std=trained.meta.std)
    samples: Any = load_objects(recipe, masks=True).test
    for index in range(len(samples)):
        image, objects = samples[index]
        masks = objects.masks[objects.masks.sum((1, 2)) >= SMALLEST]
        if len(masks):
            labels = objects.masks.any(0).astype(np.uint8)
            yield transform(image, labels)[0][None], masks


def questions(
    trained: TrainedModel, image: Tensor, masks: np.ndarray
) -> Iterator[tuple[str, Question, Tensor]]:
    """The scores that are asked about, and where maps should point: `(height, width)`, bool."""
    with torch.no_grad():
        seen = margin(trained.net(image)) > 0
    nuclei = torch.from_numpy(masks).bool()
    if seen.any():
        yield "all nuclei", Question(trained.net, image, mean_margin, (seen,)), nuclei.any(0)
    number = int(np.random.default_rng(int(masks.sum())).integers(len(masks)))
    rows, columns = np.nonzero(masks[number])
    middle = np.argmin((rows - rows.mean()) ** 2 + (columns - columns.mean()) ** 2)
    here = torch.zeros_like(seen)
    here[0, rows[middle], columns[middle]] = True
    yield "one pixel", Question(trained.net, image, mean_margin, (here,)), nuclei[number]


def margin(logits: Tensor) -> Tensor:
    """Of nucleus over background, `(B, height, width)`."""
    return logits[:, 1] - logits[:, 0]


def mean_margin(logits: Tensor, pixels: Tensor) -> Tensor:
    """The mean over chosen pixels, `(B,)`."""
    return (margin(logits) * pixels).sum((1, 2)) / pixels.sum((1, 2))


def points(question: Question, target: Tensor, shuffled: nn.Module) -> Iterator[tuple[str, str, float]]:
    """Method, measure and value; the first is chance, the last are maps of a net that knows nothing."""
    grid = grid_of(question)
    inside = at_middles(target, grid)
    stages = {f"{what} stage": f"net.encoder.model.stages_{number}" for what, number in STAGES.items()}
    explainers: dict[str, Explainer] = {
        **controls(grid),
        **OURS,
        **gradients(grid, steps=STEPS),
        **cams(grid, stages),
    }
    maps = {method: explain(question) for method, explain in explainers.items()}
    unlearned = question._replace(net=shuffled)
    maps |= {f"{method}, weights shuffled": explain(unlearned) for method, explain in OURS.items()}
    for measure in ("hit", "share"):
        yield CHANCE, measure, float(inside.double().mean())
    for method, importance in maps.items():
        importance = importance[0].double()
        positive = (importance - importance.min() if method == "centre" else importance).clamp(min=0)
        yield method, "hit", float(inside.flatten()[importance.argmax()])
        yield method, "share", float((positive * inside).sum() / positive.sum().clamp(min=TINY))


def at_middles(target: Tensor, grid: tuple[int, ...]) -> Tensor:
    """Whether the middle of each patch lies inside."""
    sides = zip(grid, target.shape, strict=True)
    places = [((torch.arange(count) + 0.5) * side / count).long() for count, side in sides]
    return target[places[0]][:, places[1]]


def row_of(found: dict[tuple[str, str], list[float]], method: str, measure: str) -> Row:
    """The mean over images, and the difference to chance."""
    values, chance = found[method, measure], found[CHANCE, measure]
    row = {"method": method, "measure": measure, **summary(torch.tensor(values))}
    if method != CHANCE:
        pairs = zip(values, chance, strict=True)
        difference, error = mean_and_error([value - other for value, other in pairs])
        row |= {"over_random": round(difference, 4), "over_random_standard_error": round(error, 4)}
    return row


if __name__ == "__main__":
    torch.set_num_threads(1)
    tyro.cli(main)
