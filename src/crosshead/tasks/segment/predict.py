"""What a segmentation sees: maps of labels, as files and as pictures."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from crosshead.runs.folder import RunFolder, write_atomically
from crosshead.tasks.dense_splits import SegmentationSplits
from crosshead.tasks.examples import chosen, png
from crosshead.tasks.image_measures import band_mode
from crosshead.tasks.images import read_image
from crosshead.tasks.segment.data import SegmentMeta
from crosshead.tasks.pictures.colors import class_colors
from crosshead.tasks.pictures.grid import draw_grid
from crosshead.tasks.pictures.labels import draw_labels
from crosshead.tasks.segment.module import Segmenter
from crosshead.tasks.segment.transforms import eval_transform
from crosshead.tasks.task import Prediction
from crosshead.tasks.windows import sliding_windows


def predict_labels(meta: SegmentMeta, model: nn.Module, path: Path, *, tile: int) -> Prediction:
    """The class of each pixel of an image.

    Args:
        meta: Of the images that the net was trained on.
        model: A segmentation in evaluation mode.
        path: An image of any size.
        tile: Larger images are seen in windows of this side in pixels; 0 for never.

    Returns:
        A picture, a map of labels (`.labels.png`: the values index the classes) and the share of each class.

    Raises:
        DataError: If the image cannot be read.
        ValueError: If `tile` is negative.
    """
    if tile < 0:
        raise ValueError(f"tile is {tile}: give 1 pixel or more, or 0 to see images whole")
    image = read_image(path, mode=band_mode(meta.in_chans))
    labels = label_map(meta, model, image, window=tile or max(image.size))
    counts = np.bincount(labels.ravel(), minlength=len(meta.classes)).tolist()
    shares = {name: count / labels.size for name, count in zip(meta.classes, counts, strict=True)}
    largest = sorted(shares.items(), key=lambda item: -item[1])[:5]
    return Prediction(
        name=path.stem,
        summary=", ".join(f"{name} {share:.1%}" for name, share in largest if share),
        content={
            "image": str(path),
            "size": list(image.size),
            "classes": list(meta.classes),
            "shares": shares,
        },
        files={
            ".png": png(draw_labels(image, labels, classes=meta.classes)),
            ".labels.png": png(Image.fromarray(labels)),
        },
    )


def label_map(meta: SegmentMeta, model: nn.Module, image: Image.Image, *, window: int) -> np.ndarray:
    """The label of each pixel, (height, width), uint8 or uint16.

    Args:
        meta: Of the images that the net was trained on.
        model: A segmentation in evaluation mode.
        image: In the mode that the net was trained on.
        window: Larger images are seen in windows of this side in pixels.
    """
    nothing = np.zeros(image.size[::-1], np.uint8)
    tensor, _ = eval_transform(mean=meta.mean, std=meta.std)(image, nothing)
    device = next(model.parameters()).device
    with torch.inference_mode():
        probabilities = sliding_windows(model, tensor[None].to(device), size=window)
    labels = probabilities[0].argmax(0).cpu().numpy()
    return labels.astype(np.uint8 if len(meta.classes) <= 256 else np.uint16)


def show_labels(
    run: RunFolder, meta: SegmentMeta, splits: SegmentationSplits, task: Segmenter
) -> None:
    """Draws a few test images with truth and prediction into examples.png.

    Args:
        run: The run.
        meta: Of the images that the net was trained on.
        splits: Whose test images are shown.
        task: The net, and the size of its windows.
    """
    model = task.model.eval()
    rows = []
    items: Any = splits.test
    for position in chosen(len(items)):
        image, truth = items[position]
        found = label_map(meta, model, image, window=task.window or max(image.size))
        drawn = {"truth": truth, "prediction": found}
        rows.append(
            [
                (f"test image {position}", image.convert("RGB")),
                *(
                    (
                        name,
                        draw_labels(image, labels, classes=meta.classes, ignore_index=meta.ignore_index),
                    )
                    for name, labels in drawn.items()
                ),
            ]
        )
    grid = draw_grid(rows, title=run.path.name, legend=class_colors(meta.classes))
    write_atomically(run.examples, grid)
