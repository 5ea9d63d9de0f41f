"""Are the maps of `crosshead.explain` true? Deletion and insertion, and weights shuffled, beside captum's.

    python benchmarks/faithfulness.py RUN [--data-dir DIR]     a quarter of an hour on one core

RUN is a run folder of a classifier with interactive attention, DIR its data, by default where it found them.
It needs the extra `explain`. Published from the two runs that `knock_out.py` names.

Deletion and insertion: the patches of the first layer of attention are replaced, or shown, in the order of a
map, a sixteenth of them at a time; the area under the curve of the probability of the class that the net
found. What stands in the place of a patch is the mean, or the image blurred by a patch. Small areas of
deletion and large ones of insertion are good. Differences to random order are paired by image.

Weights shuffled: Spearman's correlation of each map before and after the weights of the net lost their
meaning, from the classifier on, one more part at a time. A map that stays the same explains nothing.

Writes benchmarks/results/faithfulness.csv.
"""

import math
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch
import tyro
from examined import Row, model_of, save, summary, test_images, title_of, told
from explainers import (
    OURS,
    Explainer,
    Question,
    at_random,
    by_contrast,
    cams,
    controls,
    gradients,
    grid_of,
    perturbations,
)
from torch import Tensor, nn
from torchvision.transforms.v2.functional import gaussian_blur

from crosshead.explain import attention_layers, deletion, insertion, rank_correlation, shuffled_weights
from crosshead.study.statistics import mean_and_error

IMAGES, STEPS, SEEDS = 200, 16, (0, 1, 2)
RANDOM = "random order"


def main(run: Path, /, *, data_dir: Path | None = None, images: int = IMAGES) -> None:
    """Measures and writes.

    Args:
        run: a run folder.
        data_dir: where the data are now.
        images: how many test images, the first ones.
    """
    trained = model_of(run, data_dir)
    pixels, _ = test_images(trained, images)
    with torch.no_grad():
        classes = trained.net(pixels).argmax(1)
    question = Question(trained.net, pixels, class_score, (classes,))
    grid = grid_of(question)
    last_layer = list(attention_layers(trained.net))[-1].rpartition(".")[0]
    # Grad-CAM weighs maps, which a ViT has none of.
    parts = {"last stage": "stages.3", "last layer": last_layer} if hasattr(trained.net, "stages") else {}
    cheap = {**OURS, **gradients(grid), **cams(grid, parts)}
    compared = {**controls(grid), **cheap, **perturbations(grid, pixels.shape[2:])}
    rows = [*curves(question, compared, grid), *survival(question, cheap, grid)]
    columns = {"model": title_of(trained), "dataset": trained.recipe.data, "images": images}
    command = "python benchmarks/faithfulness.py RUN"
    save("faithfulness", [row | columns for row in rows], command=command)


def class_score(logits: Tensor, classes: Tensor) -> Tensor:
    """The logit of a class of each image."""
    return logits.gather(1, classes[:, None])[:, 0]


def curves(question: Question, explainers: dict[str, Explainer], grid: tuple[int, ...]) -> Iterator[Row]:
    """The areas of each method, and how far they are from those of random order."""
    images, (classes,) = question.images, question.told
    patch = images.shape[-1] / grid[-1]
    # An odd kernel that reaches three standard deviations.
    blurred = gaussian_blur(images, kernel_size=[2 * math.ceil(3 * patch) + 1] * 2, sigma=[patch] * 2)
    measures = {
        f"{measure.__name__}, {name}": partial(measure, fill=fill, steps=STEPS)
        for measure in (deletion, insertion)
        for name, fill in (("mean", 0.0), ("blurred", blurred))
    }

    def probability(images: Tensor) -> Tensor:
        return class_score(question.net(images).softmax(1), classes)

    def areas(importance: Tensor) -> dict[str, Tensor]:
        return {name: measure(probability, images, importance).area for name, measure in measures.items()}

    drawn = [areas(at_random(question, seed=seed, grid=grid)) for seed in SEEDS]
    random = {name: torch.stack([each[name] for each in drawn]).mean(0) for name in measures}
    yield from (area_row(RANDOM, name, random[name], random[name]) for name in measures)
    for method, explain in explainers.items():
        found = areas(explain(question))
        yield from (area_row(method, name, found[name], random[name]) for name in measures)


def area_row(method: str, measure: str, found: Tensor, random: Tensor) -> Row:
    """The mean area, and its difference to that of random order."""
    row = {"method": method, "measure": measure, **summary(found)}
    difference, error = mean_and_error((found - random).double().tolist())
    if method != RANDOM:
        row |= {"over_random": round(difference, 4), "over_random_standard_error": round(error, 4)}
    return told(row)


def survival(question: Question, explainers: dict[str, Explainer], grid: tuple[int, ...]) -> Iterator[Row]:
    """What is left of each map when weights mean nothing, and how much of it is the image's contrast."""
    contrast = by_contrast(question, grid=grid)
    before = {method: explain(question) for method, explain in explainers.items()}
    for method, importance in before.items():
        found = rank_correlation(importance, contrast)
        yield told({"method": method, "measure": "correlation with contrast", **summary(found)})
    yield told(
        {
            "method": "contrast",
            "measure": "weights shuffled: all",
            **summary(rank_correlation(contrast, contrast)),
        }
    )
    for title, shuffled in cascade(question.net):
        for method, explain in explainers.items():
            found = rank_correlation(before[method], explain(question._replace(net=shuffled)))
            yield told({"method": method, "measure": f"weights shuffled: {title}", **summary(found)})


def cascade(net: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Nets with ever more parts shuffled, from the last one on, and in the end all weights."""
    parts = [
        name if not isinstance(child, nn.ModuleList | nn.Sequential) else f"{name}.{number}"
        for name, child in net.named_children()
        for number in (range(len(child)) if isinstance(child, nn.ModuleList | nn.Sequential) else (0,))
        if any(True for _ in child.parameters())
    ]
    for count in range(1, len(parts)):
        chosen = parts[-count:]
        yield chosen[0] + (" to the end" if count > 1 else ""), shuffled_weights(net, chosen)
    yield "all", shuffled_weights(net)


if __name__ == "__main__":
    torch.set_num_threads(1)
    tyro.cli(main)
