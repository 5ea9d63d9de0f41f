"""What a trained classifier sees in an image."""

from pathlib import Path

import torch
from torch import nn

from crosshead.tasks.classify.data import ClassifyMeta
from crosshead.tasks.classify.recipe import ClassifyRecipe
from crosshead.tasks.classify.transforms import eval_transform
from crosshead.tasks.images import channel_mode, read_image
from crosshead.tasks.task import Prediction


def rank_classes(
    recipe: ClassifyRecipe, meta: ClassifyMeta, model: nn.Module, path: Path, *, top: int
) -> Prediction:
    """The most probable classes of an image, the first one first.

    Args:
        recipe: of the run, for how images are cropped.
        meta: of the images that the model was trained on.
        model: in evaluation mode.
        path: an image of any size.
        top: how many classes.

    Raises:
        DataError: if the image cannot be read.
        ValueError: if `top` is less than one.
    """
    if top < 1:
        raise ValueError(f"top is {top}: give 1 or more")
    transform = eval_transform(
        image_size=meta.image_size, mean=meta.mean, std=meta.std, crop_fraction=recipe.crop_fraction
    )
    image = transform(read_image(path, mode=channel_mode(meta.in_chans)))
    with torch.inference_mode():
        logits = model(image.unsqueeze(0).to(next(model.parameters()).device))[0]
    ranked = logits.float().softmax(0).topk(min(top, len(meta.classes)))
    classes = [
        {"name": meta.classes[index], "probability": probability}
        for probability, index in zip(ranked.values.tolist(), ranked.indices.tolist(), strict=True)
    ]
    return Prediction(
        name=path.stem,
        summary=", ".join(f"{each['name']} {each['probability']:.2%}" for each in classes),
        content={"image": str(path), "classes": classes},
    )
