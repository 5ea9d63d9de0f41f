"""What a trained classifier sees in images."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from crosshead.tasks.classify.data import ClassifyMeta
from crosshead.tasks.classify.ranking import draw_ranking
from crosshead.tasks.classify.recipe import ClassifyRecipe
from crosshead.tasks.classify.transforms import eval_transform
from crosshead.tasks.net import device_of
from crosshead.tasks.result import Result
from crosshead.tasks.sources import Input


@dataclass(frozen=True, kw_only=True)
class ClassifyResult(Result):
    """The classes of an image by their probability.

    Attributes:
        image: as the net was given it, before it was resized and cropped.
        classes: all classes, in the order of the net's outputs.
        probabilities: of each class, (classes,), float32.
        top: how many classes are told of.
    """

    image: Image.Image
    classes: tuple[str, ...]
    probabilities: np.ndarray
    top: int

    @property
    def ranked(self) -> list[tuple[str, float]]:
        """The `top` most probable classes and their probabilities, the first one first."""
        order = np.argsort(-self.probabilities, kind="stable")[: self.top]
        return [(self.classes[index], float(self.probabilities[index])) for index in order]

    @property
    def summary(self) -> str:
        """The ranked classes."""
        return ", ".join(f"{name} {probability:.2%}" for name, probability in self.ranked)

    def to_dict(self) -> dict[str, Any]:
        """`image`, and `classes`: `name` and `probability` of each ranked class."""
        classes = [{"name": name, "probability": probability} for name, probability in self.ranked]
        return {"image": self.source, "classes": classes}

    def rows(self) -> list[dict[str, Any]]:
        """A row for each ranked class: `image`, `rank`, `class`, `probability`."""
        return [
            {"image": self.source, "rank": rank, "class": name, "probability": probability}
            for rank, (name, probability) in enumerate(self.ranked, 1)
        ]

    def plot(self) -> Image.Image:
        """The image, and the ranked classes as bars beside it."""
        return draw_ranking(self.image, self.ranked, title=self.name)


def rank_classes(
    recipe: ClassifyRecipe, meta: ClassifyMeta, net: nn.Module, inputs: Sequence[Input], *, top: int
) -> list[ClassifyResult]:
    """The most probable classes of some images, which go through the net together.

    Args:
        recipe: of the run, for how images are cropped.
        meta: of the images that the net was trained on.
        net: in evaluation mode.
        inputs: images of any sizes.
        top: how many classes to tell of.

    Raises:
        ValueError: if `top` is less than one.
    """
    if top < 1:
        raise ValueError(f"top is {top}: give 1 or more")
    transform = eval_transform(
        image_size=meta.image_size, mean=meta.mean, std=meta.std, crop_fraction=recipe.crop_fraction
    )
    images = torch.stack([transform(each.content) for each in inputs])
    with torch.inference_mode():
        found = net(images.to(device_of(net))).float().softmax(1).cpu().numpy()
    return [
        ClassifyResult(
            name=each.name,
            source=each.source,
            image=each.content,
            classes=meta.classes,
            probabilities=probabilities,
            top=min(top, len(meta.classes)),
        )
        for each, probabilities in zip(inputs, found, strict=True)
    ]
