"""What a trained classifier sees in an image."""

from dataclasses import dataclass

import torch
from PIL import Image
from torch import nn

from crosshead.tasks.classify.transforms import eval_transform
from crosshead.tasks.classify.data import ClassifyMeta


@dataclass(frozen=True)
class RankedClass:
    """A class and the probability that the model gives it."""

    name: str
    probability: float


def rank_classes(
    model: nn.Module, meta: ClassifyMeta, picture: Image.Image, *, crop_share: float = 1.0, top: int = 5
) -> tuple[RankedClass, ...]:
    """The most probable classes of a picture, the first one first.

    Args:
        model: A classifier in evaluation mode.
        meta: Of the images that it was trained on.
        picture: Of any size, in the mode that it was trained on.
        crop_share: Share of the resized short side that is looked at.
        top: How many classes.

    Raises:
        ValueError: If `top` is less than one.
    """
    if top < 1:
        raise ValueError(f"top is {top}: give 1 or more")
    transform = eval_transform(
        image_size=meta.image_size, mean=meta.mean, std=meta.std, crop_share=crop_share
    )
    device = next(model.parameters()).device
    with torch.inference_mode():
        probabilities = model(transform(picture).unsqueeze(0).to(device)).float().softmax(1)[0]
    ranked = probabilities.topk(min(top, len(meta.classes)))
    return tuple(
        RankedClass(meta.classes[index], probability)
        for probability, index in zip(ranked.values.tolist(), ranked.indices.tolist(), strict=True)
    )
