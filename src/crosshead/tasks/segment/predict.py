"""What a segmentation sees: maps of labels, as files and as pictures."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.utils.data import Dataset

from crosshead.tasks.images import channel_mode, read_image
from crosshead.tasks.pictures import chosen, class_colors, draw_grid, draw_labels
from crosshead.tasks.segment.data import SegmentMeta
from crosshead.tasks.segment.transforms import eval_transform
from crosshead.tasks.task import Prediction, png
from crosshead.tasks.windows import sliding_windows


def predict_labels(meta: SegmentMeta, model: nn.Module, path: Path, *, tile: int) -> Prediction:
    """The class of each pixel of an image.

    Args:
        meta: of the images that the net was trained on.
        model: a segmentation in evaluation mode.
        path: an image of any size.
        tile: larger images are seen in windows of this side in pixels; 0 for never.

    Returns:
        A picture, a map of labels (`.labels.png`: the values index the classes) and the fraction of the
        pixels that each class has.

    Raises:
        DataError: if the image cannot be read.
        ValueError: if `tile` is negative.
    """
    if tile < 0:
        raise ValueError(f"tile is {tile}: give 1 pixel or more, or 0 to see images whole")
    image = read_image(path, mode=channel_mode(meta.in_chans))
    labels = label_map(meta, model, image, window=tile or None)
    counts = np.bincount(labels.ravel(), minlength=len(meta.classes)).tolist()
    fractions = {name: count / labels.size for name, count in zip(meta.classes, counts, strict=True)}
    largest = sorted(fractions.items(), key=lambda item: -item[1])[:5]
    return Prediction(
        name=path.stem,
        summary=", ".join(f"{name} {fraction:.1%}" for name, fraction in largest if fraction),
        content={
            "image": str(path),
            "size": list(image.size),
            "classes": list(meta.classes),
            "fractions": fractions,
        },
        files={
            ".png": png(draw_labels(image, labels, classes=meta.classes)),
            ".labels.png": png(Image.fromarray(labels)),
        },
    )


def label_map(meta: SegmentMeta, model: nn.Module, image: Image.Image, *, window: int | None) -> np.ndarray:
    """The label of each pixel, (height, width), uint8 or uint16.

    Args:
        meta: of the images that the net was trained on.
        model: a segmentation in evaluation mode.
        image: in the mode that the net was trained on.
        window: larger images are seen in windows of this side in pixels; None for never.
    """
    nothing = np.zeros(image.size[::-1], np.uint8)
    tensor, _ = eval_transform(mean=meta.mean, std=meta.std)(image, nothing)
    device = next(model.parameters()).device
    with torch.inference_mode():
        probabilities = sliding_windows(model, tensor[None].to(device), size=window or max(image.size))
    labels = probabilities[0].argmax(0).cpu().numpy()
    return labels.astype(np.uint8 if len(meta.classes) <= 256 else np.uint16)


def draw_examples(
    title: str, meta: SegmentMeta, model: nn.Module, images: Dataset, *, window: int | None
) -> bytes:
    """Draws a few test images with truth and prediction, as a PNG file.

    Args:
        title: what stands above them.
        meta: of the images that the net was trained on.
        model: a segmentation.
        images: the test images with their labels.
        window: larger images are seen in windows of this side in pixels; None for never.
    """
    items: Any = images
    rows = []
    for position in chosen(len(items)):
        image, truth = items[position]
        found = label_map(meta, model.eval(), image, window=window)
        row = [(f"test image {position}", image.convert("RGB"))]
        for name, labels in {"truth": truth, "prediction": found}.items():
            drawn = draw_labels(image, labels, classes=meta.classes, ignore_index=meta.ignore_index)
            row.append((name, drawn))
        rows.append(row)
    return draw_grid(rows, title=title, legend=class_colors(meta.classes))
