"""From PIL images to tensors: what training does to an image, and what evaluation does."""

from collections.abc import Callable
from typing import Any, Literal

import torch
from PIL import Image
from timm.data import create_transform
from timm.data.auto_augment import rand_augment_transform
from timm.data.random_erasing import RandomErasing
from timm.data.transforms import RandomResizedCropAndInterpolation
from torch import Tensor
from torchvision import transforms
from torchvision.transforms import InterpolationMode

Transform = Callable[[Image.Image], Tensor]
Crop = Literal["resized", "padded", "center"]


def train_transform(
    *,
    image_size: int,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    crop: Crop = "resized",
    crop_scale: tuple[float, float] = (0.08, 1.0),
    crop_padding: int = 4,
    flip: float = 0.5,
    rotation: float = 0.0,
    color_jitter: float = 0.0,
    rand_augment: str = "",
    erasing: float = 0.0,
) -> Transform:
    """The training transform: an image of any size to a normalised (C, image_size, image_size) tensor.

    Args:
        image_size: side of the square result, in pixels.
        mean: mean of each channel, values in 0 to 1.
        std: standard deviation of each channel.
        crop: `resized` takes a random part of the area and resizes it (ImageNet's habit), `padded` shifts
            the whole image by up to `crop_padding` pixels (the habit for small images), `center` crops as
            evaluation does.
        crop_scale: smallest and largest fraction of the area, for `resized`.
        crop_padding: border in pixels, for `padded`.
        flip: probability of mirroring left and right.
        rotation: largest rotation either way, in degrees.
        color_jitter: strength of brightness, contrast and saturation changes.
        rand_augment: timm's RandAugment policy, such as `rand-m9-mstd0.5-inc1`; empty for none.
        erasing: probability of erasing a rectangle.

    Example:
        >>> transform = train_transform(image_size=16, mean=(0.5,), std=(0.5,), crop="padded")
        >>> transform(Image.new("L", (28, 28))).shape
        torch.Size([1, 16, 16])
    """
    steps: list = []
    if crop == "resized":
        steps.append(RandomResizedCropAndInterpolation(image_size, scale=crop_scale, interpolation="random"))
    else:
        steps += [transforms.Resize(image_size), transforms.CenterCrop(image_size)]
    if crop == "padded":
        steps.append(transforms.RandomCrop(image_size, padding=crop_padding))
    if flip:
        steps.append(transforms.RandomHorizontalFlip(flip))
    if rotation:
        steps.append(transforms.RandomRotation(rotation, InterpolationMode.BILINEAR))
    if rand_augment:
        fill = [round(255 * value) for value in mean]
        if "mmax" not in rand_augment:
            # Beyond magnitude 9 timm's posterize asks for an image of 0 bits, which Pillow refuses.
            rand_augment += "-mmax9"
        options = {
            "translate_const": int(0.45 * image_size),
            "img_mean": tuple(fill) if len(fill) > 1 else fill[0],
        }
        steps.append(rand_augment_transform(rand_augment, options))
    if color_jitter:
        steps.append(transforms.ColorJitter(color_jitter, color_jitter, color_jitter))
    steps += [transforms.ToTensor(), transforms.Normalize(torch.tensor(mean), torch.tensor(std))]
    if erasing:
        steps.append(RandomErasing(erasing, mode="pixel", device="cpu"))
    return transforms.Compose(steps)


def eval_transform(
    *, image_size: int, mean: tuple[float, ...], std: tuple[float, ...], crop_fraction: float = 1.0
) -> Transform:
    """The transform of evaluation and prediction: resize the short side, crop the centre, normalise.

    Args:
        image_size: side of the square result, in pixels.
        mean: mean of each channel, values in 0 to 1.
        std: standard deviation of each channel.
        crop_fraction: fraction of the resized short side that the crop keeps.
    """
    transform: Any = create_transform(
        (len(mean), image_size, image_size),
        is_training=False,
        interpolation="bilinear",
        mean=mean,
        std=std,
        crop_pct=crop_fraction,
    )
    return transform
