"""Tokens as colours: the three directions in which a teacher's tokens differ most, and the student's."""

import functools
import io
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms.v2 import functional as transforms

from crosshead.tasks.images import channel_mode
from crosshead.tasks.linearize.agreement import agreement
from crosshead.tasks.linearize.data import LinearizeMeta
from crosshead.tasks.linearize.recipe import LinearizeRecipe
from crosshead.tasks.linearize.teacher import Teacher, find_teacher
from crosshead.tasks.net import device_of
from crosshead.tasks.pictures import chosen, draw_grid
from crosshead.tasks.result import Result
from crosshead.tasks.sources import Input
from crosshead.vision.on_grid import GridViT

logger = logging.getLogger(__name__)

# The shorter side of a picture of tokens, in pixels.
SHOWN = 256
# Colours span the teacher's tokens but for the outermost hundredth on either side.
OUTERMOST = 0.01


@dataclass(frozen=True, kw_only=True)
class LinearizeResult(Result):
    """The normalised patch tokens of an image.

    Attributes:
        image: as the net was given it.
        tokens: (rows, columns, C) of `linearized`, after those of its `teacher` where that can be had.
    """

    image: Image.Image
    tokens: dict[str, Tensor]

    @property
    def agreement(self) -> dict[str, float]:
        """`cosine` with the teacher's tokens, `centered_cosine` without their mean; {} without a teacher."""
        if "teacher" not in self.tokens:
            return {}
        found = agreement(*(self.tokens[name].flatten(0, 1)[None] for name in ("linearized", "teacher")))
        return {"cosine": float(found.cosine), "centered_cosine": float(found.centered)}

    @property
    def summary(self) -> str:
        """How well the tokens agree with the teacher's."""
        if not (agreed := self.agreement):
            return "tokens of the linearized net alone"
        return f"cosine {agreed['cosine']:.4f}, without the mean {agreed['centered_cosine']:.4f}"

    def to_dict(self) -> dict[str, Any]:
        """`image`, `grid` as rows and columns, and the agreement."""
        return {"image": self.source, "grid": list(self.tokens["linearized"].shape[:2]), **self.agreement}

    def rows(self) -> list[dict[str, Any]]:
        """One row: `image`, `rows`, `columns`, and the agreement."""
        height, width = self.tokens["linearized"].shape[:2]
        return [{"image": self.source, "rows": height, "columns": width, **self.agreement}]

    def plot(self) -> Image.Image:
        """The image and the tokens as colours."""
        row = token_row(Path(self.source).name, self.image, self.tokens)
        return Image.open(io.BytesIO(draw_grid([row], title=self.summary))).convert("RGB")


def predict_tokens(
    recipe: LinearizeRecipe,
    meta: LinearizeMeta,
    net: GridViT,
    each: Input,
    *,
    size: int | None = None,
    teacher: VisionTransformer | None = None,
) -> LinearizeResult:
    """The tokens of an image, and its teacher's.

    Args:
        recipe: of the run; names the teacher. Where that cannot be had, the student is seen alone.
        meta: of the run.
        net: in evaluation mode.
        each: an image of any size.
        size: what its shorter side is brought to, in pixels, rounded to whole patches; None for twice the
            side of the crops of the training.
        teacher: by default the one that the recipe names.

    Raises:
        ValueError: if `size` is less than one.
    """
    if size is not None and size < 1:
        raise ValueError(f"size is {size}: give 1 or more")
    nets: dict[str, VisionTransformer] = {}
    if teacher is None:
        teacher = find_teacher_of(recipe)
    if teacher is not None:
        nets["teacher"] = teacher.to(device_of(net))
    nets["linearized"] = net
    tokens = tokens_of(nets, meta, each.content, size=size or 2 * meta.image_size)
    return LinearizeResult(name=each.name, source=each.source, image=each.content, tokens=tokens)


def draw_tokens(
    title: str, meta: LinearizeMeta, nets: dict[str, VisionTransformer], images: Dataset
) -> bytes:
    """A few images with the tokens of several nets.

    Args:
        title: what stands above.
        meta: of the run.
        nets: by name, the teacher first.
        images: with a label each, which is not looked at.

    Returns:
        A PNG file.
    """
    items: Any = images
    rows = []
    for place in chosen(len(items)):
        image = items[place][0].convert(channel_mode(meta.in_chans))
        found = tokens_of(nets, meta, image, size=2 * meta.image_size)
        rows.append(token_row(f"image {place + 1}", image, found))
    return draw_grid(rows, title=title)


def tokens_of(
    nets: dict[str, VisionTransformer], meta: LinearizeMeta, image: Image.Image, *, size: int
) -> dict[str, Tensor]:
    """Normalised patch tokens of an image, (rows, columns, C) by net.

    Example:
        >>> import timm
        >>> net = timm.create_model("vit_tiny_patch16_224", depth=1, dynamic_img_size=True).eval()
        >>> meta = LinearizeMeta(
        ...     classes=(), in_chans=3, mean=(0.5,) * 3, std=(0.5,) * 3, image_size=32, patch=(16, 16),
        ...     crop_fraction=1.0, architecture="", arguments={}, labels=()
        ... )
        >>> tokens_of({"net": net}, meta, Image.new("RGB", (60, 30)), size=32)["net"].shape
        torch.Size([2, 4, 192])
    """
    scale = size / min(image.size)
    height, width = (
        max(1, round(scale * side / patch)) * patch
        for side, patch in zip((image.height, image.width), meta.patch, strict=True)
    )
    resized = image.resize((width, height), Image.Resampling.BICUBIC)
    pixels = transforms.to_dtype(transforms.to_image(resized), torch.float32, scale=True)
    pixels = transforms.normalize(pixels, list(meta.mean), list(meta.std))
    grid = height // meta.patch[0], width // meta.patch[1]
    with torch.inference_mode():
        return {
            name: net.forward_features(pixels[None].to(device_of(net)))[0, net.num_prefix_tokens :]
            .float()
            .cpu()
            .unflatten(0, grid)
            for name, net in nets.items()
        }


def token_row(name: str, image: Image.Image, found: dict[str, Tensor]) -> Sequence[tuple[str, Image.Image]]:
    """An image, and the tokens of each net in one set of colours, which is made for the first."""
    first = next(iter(found.values())).flatten(0, 1).double()
    mean = first.mean(0)
    axes = torch.linalg.svd(first - mean, full_matrices=False).Vh[:3]
    # The sign of an axis is arbitrary: the larger half of its weights is made positive.
    axes = axes * torch.where(axes.sum(1, keepdim=True) < 0, -1, 1)
    low, high = (
        torch.quantile((first - mean) @ axes.T, fraction, dim=0) for fraction in (OUTERMOST, 1 - OUTERMOST)
    )
    cells = [(name, _of_height(image))]
    for net, tokens in found.items():
        colors = (((tokens.double() - mean) @ axes.T - low) / (high - low).clamp(min=1e-12)).clamp(0, 1)
        values = np.rint(255 * colors.numpy()).astype(np.uint8)
        if values.shape[2] < 3:  # a net of fewer channels, or an image of fewer tokens, than colours
            values = np.pad(values, ((0, 0), (0, 0), (0, 3 - values.shape[2])))
        cells.append((net, _of_height(Image.fromarray(values), smooth=False)))
    return cells


def find_teacher_of(recipe: LinearizeRecipe) -> VisionTransformer | None:
    """The teacher of a run, or None, with a warning, where it cannot be had any more."""
    try:
        teacher = find_teacher(recipe)
        return _built(teacher.name, tuple(sorted(teacher.arguments.items())))
    except (ValueError, TypeError) as error:
        logger.warning("the teacher cannot be shown: %s", error)
        return None


@functools.lru_cache(maxsize=1)
def _built(name: str, arguments: tuple[tuple[str, Any], ...]) -> VisionTransformer:
    """Of many images the teacher is read once."""
    return Teacher(name=name, architecture="", arguments=dict(arguments)).build(pretrained=True)


def _of_height(image: Image.Image, *, smooth: bool = True) -> Image.Image:
    scale = SHOWN / min(image.size)
    size = round(scale * image.width), round(scale * image.height)
    return image.convert("RGB").resize(size, Image.Resampling.BICUBIC if smooth else Image.Resampling.NEAREST)
