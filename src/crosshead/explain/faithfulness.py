"""Whether a map tells the truth: what a score does when the patches that it names are taken away, or given.

Legend: `B` batch, `C` channels, `P` patches of the grid, `S` steps.
"""

from collections.abc import Callable
from math import prod
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

Score = Callable[[Tensor], Tensor]


class PatchCurve(NamedTuple):
    """A score while patches are replaced one after the other, or shown.

    Attributes:
        fractions: `(S + 1,)`, of the patches, from 0 to 1.
        scores: `(B, S + 1)`.
    """

    fractions: Tensor
    scores: Tensor

    @property
    def area(self) -> Tensor:
        """`(B,)`, the area under each curve, by trapezoids: the mean score on the way."""
        return torch.trapezoid(self.scores, self.fractions)


def deletion(
    score: Score, images: Tensor, importance: Tensor, *, fill: Tensor | float = 0.0, steps: int | None = None
) -> PatchCurve:
    """How a score falls when the patches that a map finds important are replaced, the first ones first.

    The smaller the area, the more the score depends on what the map points at. Compare with the areas of
    maps of random numbers: a net may lose its score whatever is replaced.

    Args:
        score: from images to a number for each, `(B,)`: the probability of a class, say. Called once a step.
        images: `(B, C, *size)`, as the net takes them: of one to three axes.
        importance: `(B, *grid)`, on any grid of as many axes, laid over the whole image: a map on the tokens
            of a layer, `on_grid(relevance(...), call.grid)`. Of equal patches the first one is taken first.
        fill: what stands in place of a patch: a number, which of normalised images is 0 for the mean, or
            images of the same shape, blurred ones say.
        steps: how many, of equally many patches; a patch at a time by default.

    Returns:
        A `PatchCurve`, from the image to nothing but `fill`.

    Raises:
        ValueError: if shapes do not fit, importance is not finite, `steps` are not 1 to P, or a score is not
            one number for each image.

    Source: the deletion metric of V. Petsiuk, A. Das, K. Saenko, arXiv 1806.07421, on patches.

    Example:
        >>> image = torch.zeros(1, 3, 8, 8)
        >>> image[..., :4, 4:] = 1
        >>> importance = torch.tensor([[[0.1, 0.9], [0.2, 0.3]]])
        >>> curve = deletion(lambda x: x.amax((1, 2, 3)), image, importance)
        >>> curve.scores.tolist(), curve.area.item()
        ([[1.0, 0.0, 0.0, 0.0, 0.0]], 0.125)
    """
    return _curve(score, images, importance, fill, steps, inserting=False)


def insertion(
    score: Score, images: Tensor, importance: Tensor, *, fill: Tensor | float = 0.0, steps: int | None = None
) -> PatchCurve:
    """How a score rises when the patches that a map finds important are shown, the first ones first.

    The larger the area, the less beside them the net needs.

    Args:
        score: as for `deletion`, like what follows.
        images: `(B, C, *size)`.
        importance: `(B, *grid)`.
        fill: what stands in place of patches that are not shown yet.
        steps: how many.

    Returns:
        A `PatchCurve`, from nothing but `fill` to the image.

    Raises:
        ValueError: as `deletion`.

    Source: the insertion metric of V. Petsiuk, A. Das, K. Saenko, arXiv 1806.07421, on patches.

    Example:
        >>> image = torch.zeros(1, 3, 8, 8)
        >>> image[..., :4, 4:] = 1
        >>> importance = torch.tensor([[[0.1, 0.9], [0.2, 0.3]]])
        >>> insertion(lambda x: x.amax((1, 2, 3)), image, importance).scores.tolist()
        [[0.0, 1.0, 1.0, 1.0, 1.0]]
    """
    return _curve(score, images, importance, fill, steps, inserting=True)


@torch.no_grad()
def _curve(
    score: Score,
    images: Tensor,
    importance: Tensor,
    fill: Tensor | float,
    steps: int | None,
    *,
    inserting: bool,
) -> PatchCurve:
    size, grid = images.shape[2:], importance.shape[1:]
    if len(images) != len(importance) or len(size) != len(grid) or not size:
        raise ValueError(
            f"importance must be (B, *grid) for images (B, C, *size); got {tuple(importance.shape)} for "
            f"{tuple(images.shape)}"
        )
    if not importance.isfinite().all():
        raise ValueError("importance must be finite; got NaN or infinity")
    patches = prod(grid)
    steps = patches if steps is None else steps
    if not 1 <= steps <= patches:
        raise ValueError(f"steps must be 1 to {patches}, the patches of the grid; got {steps}")
    filled = torch.as_tensor(fill, dtype=images.dtype, device=images.device).expand_as(images)
    ranks = importance.flatten(1).argsort(descending=True, stable=True).argsort().view(importance.shape)
    # Each pixel has the rank of the patch that it lies in.
    of_pixels = F.interpolate(ranks[:, None].to(images.device, images.dtype), size=size, mode="nearest")
    counts = torch.linspace(0, patches, steps + 1, dtype=torch.float64).round()
    first, second = (filled, images) if inserting else (images, filled)
    scores = [score(torch.where(of_pixels < count, second, first)) for count in counts.tolist()]
    if scores[0].shape != (len(images),):
        raise ValueError(f"score must give one number for each image; got {tuple(scores[0].shape)}")
    stacked = torch.stack(scores, 1)
    return PatchCurve((counts / patches).to(stacked), stacked)
