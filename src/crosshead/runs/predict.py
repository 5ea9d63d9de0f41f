"""What a trained classifier sees in images."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from torch import nn

from crosshead.runs.record import ImageFacts
from crosshead.tasks.augment import eval_transform


@dataclass(frozen=True)
class RankedClass:
    """A class and the probability that the model gives it."""

    name: str
    probability: float


def predict(
    model: nn.Module,
    images: ImageFacts,
    pictures: Sequence[Image.Image],
    *,
    crop_share: float = 1.0,
    top: int = 5,
) -> Iterator[tuple[RankedClass, ...]]:
    """The most probable classes of each picture, the first one first.

    Args:
        model: A classifier in evaluation mode.
        images: The images that it was trained on.
        pictures: Images of any size, in the mode that it was trained on.
        crop_share: Share of the resized short side that is looked at.
        top: How many classes.

    Raises:
        ValueError: If `top` is less than one.
    """
    if top < 1:
        raise ValueError(f"top is {top}: give 1 or more")
    transform = eval_transform(
        image_size=images.image_size, mean=images.mean, std=images.std, crop_share=crop_share
    )
    for picture in pictures:
        with torch.inference_mode():
            probabilities = model(transform(picture).unsqueeze(0)).float().softmax(1)[0]
        ranked = probabilities.topk(min(top, len(images.classes)))
        yield tuple(
            RankedClass(images.classes[index], probability)
            for probability, index in zip(ranked.values.tolist(), ranked.indices.tolist(), strict=True)
        )
