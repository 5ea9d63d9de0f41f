"""From images with objects to tensors: at random for training, unchanged for validation and test."""

from collections.abc import Callable
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torchvision import tv_tensors
from torchvision.ops import masks_to_boxes
from torchvision.transforms import v2

from crosshead.tasks.detect.objects import Objects

Item = tuple[Tensor, dict[str, Any]]
DetectionTransform = Callable[[Image.Image, Objects], Item]


def train_transform(
    *,
    flip: float = 0.5,
    vertical_flip: float = 0.0,
    scale: tuple[float, float] = (1.0, 1.0),
    color_jitter: float = 0.0,
    crop: int | None = None,
) -> DetectionTransform:
    """The training transform: an image with its objects to a tensor with a target.

    Objects that are cut off entirely are left out. What is left of an object keeps its area, which matters to
    evaluations alone. The detector scales what it is given to its `min_size`: after a crop, that of the crop.

    Args:
        flip: probability of mirroring left and right.
        vertical_flip: probability of mirroring top and bottom.
        scale: smallest and largest factor by which an image is scaled. The result is cut from it, or padded
            with black, to the size of the original, at a random place.
        color_jitter: strength of changes to brightness, contrast and saturation, of 1 or 3 channels.
        crop: side of the result in pixels, in place of the size of the original.

    Returns:
        From an image and its objects to a tensor, float (C, height, width) in 0 to 1, and a dictionary:
        `boxes` float32 (n, 4), `labels` int64 (n), `crowd` bool (n), `area` float32 (n), `image_id`, and
        `masks` uint8 (n, height, width) where there are masks.

    Example:
        >>> from crosshead.tasks.detect.objects import no_objects
        >>> transform = train_transform(crop=32)
        >>> image, target = transform(
        ...     Image.new("L", (40, 28)), no_objects(image_id=7, size=(40, 28), masks=True)
        ... )
        >>> image.shape, target["masks"].shape
        (torch.Size([1, 32, 32]), torch.Size([0, 32, 32]))
    """
    steps: list[Callable[..., Any]] = [v2.RandomHorizontalFlip(flip), v2.RandomVerticalFlip(vertical_flip)]
    if crop is not None or scale != (1.0, 1.0):
        steps.append(_ScaledCrop(scale, crop))
    if color_jitter:
        steps.append(v2.ColorJitter(color_jitter, color_jitter, color_jitter))
    return _Transform(steps)


def eval_transform() -> DetectionTransform:
    """The transform of validation and test: nothing but the change to tensors, as `train_transform` gives."""
    return _Transform([])


def collate(items: list[Item]) -> tuple[list[Tensor], list[dict[str, Any]]]:
    """A batch of images of different sizes: a list of them, and a list of their targets.

    Example:
        >>> images, targets = collate([(torch.zeros(1, 4, 6), {}), (torch.zeros(1, 5, 5), {})])
        >>> len(images), len(targets)
        (2, 2)
    """
    images, targets = zip(*items, strict=True)
    return list(images), list(targets)


class _Transform:
    def __init__(self, steps: list[Callable[..., Any]]) -> None:
        self.steps = steps

    def __call__(self, image: Image.Image, objects: Objects) -> Item:
        pixels = v2.functional.to_image(image)
        canvas = tuple(pixels.shape[-2:])
        # Tensors that know what they are; their types do not tell how they are made.
        as_boxes: Any = tv_tensors.BoundingBoxes
        target: dict[str, Any] = {
            "boxes": as_boxes(torch.tensor(objects.boxes), format="XYXY", canvas_size=canvas),
            "labels": torch.from_numpy(objects.labels),
            "crowd": torch.from_numpy(objects.crowd),
            "area": torch.from_numpy(objects.area),
            "image_id": objects.image_id,
        }
        if objects.masks is not None:
            target["masks"] = tv_tensors.Mask(torch.from_numpy(objects.masks))
        for step in self.steps:
            pixels, target = step(pixels, target)
        pixels = v2.functional.to_dtype(pixels, torch.float32, scale=True)
        plain = {
            name: value.as_subclass(Tensor) if isinstance(value, Tensor) else value
            for name, value in target.items()
        }
        return pixels.as_subclass(Tensor), plain


class _ScaledCrop:
    """Scales an image, and cuts a part out of it, at random."""

    def __init__(self, scale: tuple[float, float], crop: int | None) -> None:
        self.scale, self.crop = scale, crop
        self.sanitize = v2.SanitizeBoundingBoxes(labels_getter=_of_each_object)

    def __call__(self, image: Tensor, target: dict[str, Any]) -> tuple[Tensor, dict[str, Any]]:
        height, width = image.shape[-2:]
        factor = torch.empty(()).uniform_(*self.scale).item()
        if factor != 1.0:
            resize = v2.Resize([max(1, round(height * factor)), max(1, round(width * factor))])
            image, target = resize(image, target)
        size = (height, width) if self.crop is None else (self.crop, self.crop)
        image, target = v2.RandomCrop(size, pad_if_needed=True)(image, target)
        if "masks" in target:
            # A box that was only clipped would reach beyond what is left of its object.
            target["boxes"][:] = _around(target["masks"].as_subclass(Tensor).bool())
        return self.sanitize(image, target)


def _of_each_object(inputs: tuple[Tensor, dict[str, Any]]) -> tuple[Tensor, ...]:
    return tuple(inputs[1][name] for name in ("labels", "crowd", "area"))


def _around(masks: Tensor) -> Tensor:
    """Boxes (n, 4) around bool (n, height, width) masks, right and bottom exclusive; 0 around nothing."""
    boxes = masks_to_boxes(masks) + torch.tensor([0.0, 0.0, 1.0, 1.0])
    return boxes * masks.flatten(1).any(1)[:, None]
