"""From images with label maps to tensors: what training does to both, and what evaluation does."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

Transform = Callable[[Image.Image, np.ndarray], tuple[Tensor, Tensor]]


def train_transform(
    *,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    crop: int,
    scale: tuple[float, float] = (0.5, 2.0),
    flip: float = 0.5,
    vertical_flip: float = 0.0,
    color_jitter: float = 0.0,
    ignore_index: int,
) -> Transform:
    """The training transform: a scaled, cropped and mirrored view of an image with its labels.

    Labels keep their values: they are scaled by taking the nearest. Where the crop reaches beyond the image,
    it sees the mean colour, and labels are ignored.

    Args:
        mean: mean of each channel, values in 0 to 1.
        std: standard deviation of each channel.
        crop: side of the square result, in pixels.
        scale: smallest and largest factor by which the image is scaled before the crop.
        flip: probability of mirroring left and right.
        vertical_flip: probability of mirroring top and bottom.
        color_jitter: strength of brightness, contrast and, in colour, saturation changes.
        ignore_index: the label of pixels without one.

    Returns:
        From a PIL image and its labels (height, width) to a normalised (C, crop, crop) float32 tensor and
        int64 labels (crop, crop).

    Example:
        >>> transform = train_transform(mean=(0.5,), std=(0.5,), crop=16, ignore_index=255)
        >>> image, labels = transform(Image.new("L", (28, 20)), np.zeros((20, 28), np.uint8))
        >>> image.shape, labels.shape
        (torch.Size([1, 16, 16]), torch.Size([16, 16]))
    """
    fill = {tv_tensors.Image: [round(255 * value) for value in mean], tv_tensors.Mask: ignore_index}
    steps: list = [
        RandomScale(scale),
        v2.RandomCrop(crop, pad_if_needed=True, fill=fill),
        v2.RandomHorizontalFlip(flip),
        v2.RandomVerticalFlip(vertical_flip),
    ]
    if color_jitter:
        steps.append(v2.ColorJitter(color_jitter, color_jitter, color_jitter))
    return ImageAndLabels([*steps, *_normalisation(mean, std)])


def eval_transform(*, mean: tuple[float, ...], std: tuple[float, ...]) -> Transform:
    """The transform of evaluation, which keeps the size and normalises.

    Args:
        mean: mean of each channel, values in 0 to 1.
        std: standard deviation of each channel.

    Returns:
        From a PIL image and its labels (height, width) to a float32 tensor (C, height, width) and int64
        labels.
    """
    return ImageAndLabels(_normalisation(mean, std))


class ImageAndLabels:
    """Runs transforms of torchvision over a PIL image together with its labels.

    Args:
        steps: they take and return an image and a mask.
    """

    def __init__(self, steps: Sequence[Callable]) -> None:
        self.steps = v2.Compose(steps)

    def __call__(self, image: Image.Image, labels: np.ndarray) -> tuple[Tensor, Tensor]:
        """Labels may be of any integer type."""
        mask = tv_tensors.Mask(torch.from_numpy(labels.astype(np.int64)))
        return self.steps(F.to_image(image), mask)


class RandomScale(v2.Transform):
    """Scales an image and its labels by one random factor; no side becomes shorter than a pixel.

    Args:
        scale: smallest and largest factor.
    """

    def __init__(self, scale: tuple[float, float]) -> None:
        super().__init__()
        self.scale = scale

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draws the new size."""
        factor = torch.empty(()).uniform_(*self.scale).item()
        return {"size": [max(round(side * factor), 1) for side in v2.query_size(flat_inputs)]}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Scales one of them."""
        if isinstance(inpt, tv_tensors.Mask):
            # torchvision's own nearest for masks lies up to half a pixel beside the image.
            nearest = v2.InterpolationMode.NEAREST_EXACT
            return tv_tensors.Mask(F.resize_image(inpt[None], params["size"], interpolation=nearest)[0])
        return F.resize(inpt, params["size"], antialias=True)


def _normalisation(mean: tuple[float, ...], std: tuple[float, ...]) -> list[v2.Transform]:
    kinds = {tv_tensors.Image: torch.float32, "others": None}
    return [v2.ToDtype(kinds, scale=True), v2.Normalize(list(mean), list(std)), v2.ToPureTensor()]
