"""The only tiling: where the windows of an image lie, and probabilities joined from overlapping ones."""

import math
from collections.abc import Callable
from itertools import product

import torch
from torch import Tensor


def window_starts(length: int, size: int, overlap: float) -> list[int]:
    """Where windows begin along one axis: as few as overlap enough, evenly spread.

    Args:
        length: of the axis, in pixels.
        size: of a window.
        overlap: smallest fraction of a window that its neighbour sees as well, from 0 to below 1.

    Returns:
        The first pixel of each window. All windows lie inside the axis, unless it is shorter than one window.

    Raises:
        ValueError: if `size` is below 1 or `overlap` is outside its range.

    Example:
        >>> window_starts(100, 40, 0.25)
        [0, 30, 60]
    """
    if size < 1:
        raise ValueError(f"size must be 1 pixel or more; got {size}")
    if not 0 <= overlap < 1:
        raise ValueError(f"overlap must lie in 0 to below 1; got {overlap}")
    room = max(length - size, 0)
    steps = math.ceil(room / max(int(size * (1 - overlap)), 1))
    return [room * step // max(steps, 1) for step in range(steps + 1)]


def sliding_windows(
    predict: Callable[[Tensor], Tensor], images: Tensor, *, size: int, overlap: float = 0.25
) -> Tensor:
    """Probabilities of each pixel, from windows that cover the images.

    Where windows overlap, their probabilities are averaged; a window has the less weight the nearer the pixel
    lies to its border, where it has seen least of the surroundings. Images no larger than a window go through
    in one pass.

    Args:
        predict: from images (B, C, h, w) to scores (B, K, h, w), before the softmax. It is called once for
            each window.
        images: (B, C, H, W).
        size: longest side of a window, in pixels.
        overlap: smallest fraction of a window that its neighbour sees as well, from 0 to below 1.

    Returns:
        Probabilities (B, K, H, W), float32.

    Raises:
        ValueError: if `size` is below 1 or `overlap` is outside its range.

    Example:
        >>> sliding_windows(torch.zeros_like, torch.zeros(1, 4, 50, 70), size=32)[0, :, 49, 69]
        tensor([0.2500, 0.2500, 0.2500, 0.2500])
    """
    height, width = images.shape[-2:]
    places = list(product(window_starts(height, size, overlap), window_starts(width, size, overlap)))
    if len(places) == 1:
        return predict(images).float().softmax(1)
    weight = _weight(min(size, height), min(size, width)).to(images.device)
    total: Tensor | None = None
    weights = weight.new_zeros(height, width)
    for top, left in places:
        window = (..., slice(top, top + size), slice(left, left + size))
        probabilities = predict(images[window]).float().softmax(1)
        if total is None:
            total = probabilities.new_zeros(*probabilities.shape[:2], height, width)
        total[window] += weight * probabilities
        weights[window] += weight
    assert total is not None
    return total.div_(weights)


def _weight(height: int, width: int) -> Tensor:
    """Falls linearly from the centre to the border of a window, and is nowhere 0."""

    def triangle(length: int) -> Tensor:
        rising = torch.arange(1, length + 1, dtype=torch.float32)
        return torch.minimum(rising, rising.flip(0)) / length

    return triangle(height)[:, None] * triangle(width)
