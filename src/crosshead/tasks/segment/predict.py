"""What a segmentation sees: maps of labels, as files and as pictures."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.utils.data import Dataset

from crosshead.tasks.net import device_of
from crosshead.tasks.pictures import (
    chosen,
    class_colors,
    draw_grid,
    draw_labels,
    palette_image,
    with_legend,
)
from crosshead.tasks.result import PixelResult
from crosshead.tasks.segment.data import SegmentMeta
from crosshead.tasks.segment.transforms import eval_transform
from crosshead.tasks.sources import Input
from crosshead.tasks.windows import sliding_windows


@dataclass(frozen=True, kw_only=True)
class SegmentResult(PixelResult):
    """The class of each pixel of an image.

    Attributes:
        image: as the net was given it.
        classes: what each label stands for.
        labels: (height, width), uint8, or uint16 for more than 256 classes.
    """

    image: Image.Image
    classes: tuple[str, ...]
    labels: np.ndarray

    @property
    def fractions(self) -> dict[str, float]:
        """The fraction of the pixels that each class has."""
        counts = np.bincount(self.labels.ravel(), minlength=len(self.classes)).tolist()
        return {name: count / self.labels.size for name, count in zip(self.classes, counts, strict=True)}

    @property
    def summary(self) -> str:
        """The five largest classes."""
        largest = sorted(self.fractions.items(), key=lambda item: -item[1])[:5]
        return ", ".join(f"{name} {fraction:.1%}" for name, fraction in largest if fraction)

    def to_dict(self) -> dict[str, Any]:
        """`image`, `size` as width and height, `classes` and `fractions`."""
        return {
            "image": self.source,
            "size": list(self.image.size),
            "classes": list(self.classes),
            "fractions": self.fractions,
        }

    def plot(self) -> Image.Image:
        """The classes laid over the image, and the names of those that occur below it."""
        return draw_with_legend(self.image, self.labels, classes=self.classes)

    def maps(self) -> dict[str, Image.Image]:
        """`.labels.png`: the labels, in the colours of their classes where there are up to 256."""
        return {".labels.png": palette_image(self.labels, class_colors(self.classes), self.classes)}


def predict_labels(meta: SegmentMeta, net: nn.Module, each: Input, *, tile: int) -> SegmentResult:
    """The class of each pixel of an image.

    Args:
        meta: of the images that the net was trained on.
        net: a segmentation in evaluation mode.
        each: an image of any size.
        tile: larger images are seen in windows of this side in pixels; 0 for never.

    Raises:
        ValueError: if `tile` is negative.
    """
    if tile < 0:
        raise ValueError(f"tile is {tile}: give 1 pixel or more, or 0 to see images whole")
    return SegmentResult(
        name=each.name,
        source=each.source,
        image=each.content,
        classes=meta.classes,
        labels=label_map(meta, net, each.content, window=tile or None),
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
    with torch.inference_mode():
        probabilities = sliding_windows(
            model, tensor[None].to(device_of(model)), size=window or max(image.size)
        )
    labels = probabilities[0].argmax(0).cpu().numpy()
    return labels.astype(np.uint8 if len(meta.classes) <= 256 else np.uint16)


def draw_with_legend(
    image: Image.Image, labels: np.ndarray, *, classes: Sequence[str], ignore_index: int | None = None
) -> Image.Image:
    """Lays the classes over an image, and tells those that occur below it: see `draw_labels`."""
    picture = draw_labels(image, labels, classes=classes, ignore_index=ignore_index)
    occurring = {classes[label] for label in np.unique(labels[labels != ignore_index]).tolist()}
    colors = class_colors(classes)
    return with_legend(picture, {name: color for name, color in colors.items() if name in occurring})


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
