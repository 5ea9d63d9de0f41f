"""Detection in images too large to be seen at once: in tiles, whose detections are merged."""

from itertools import product

import torch
from torch import Tensor, nn
from torchvision.ops import batched_nms

from crosshead.tasks.windows import window_starts

# Boxes that end this close to the border of a tile, in pixels, are taken to go on behind it.
MARGIN = 1.0
MERGE_IOU = 0.5


@torch.no_grad()
def detect(
    net: nn.Module, image: Tensor, *, tile: int | None = None, overlap: float = 0.25
) -> dict[str, Tensor]:
    """Finds the objects in one image.

    An image larger than a tile is seen in tiles that overlap. An object that a tile cuts is left to the tile
    that sees it whole; what several tiles found is merged by non-maximum suppression for each class. Objects
    larger than the overlap may be cut by every tile, and found in pieces: choose tiles that are large enough.

    Args:
        net: a detector in evaluation mode, as `crosshead.tasks.detect.net.build_detector` makes it.
        image: (C, height, width), values in 0 to 1.
        tile: side of a tile in pixels; by default the image is seen whole.
        overlap: smallest fraction of a tile that its neighbour sees as well, from 0 to below 1.

    Returns:
        `boxes` (n, 4) as left, top, right, bottom in pixels of the image, `labels` (n), `scores` (n), best
        first, and `masks`, bool (n, height, width), where the net makes them.

    Raises:
        ValueError: if the net is in training mode, `tile` is below 1, or `overlap` is outside its range.

    Example:
        >>> class Bright(nn.Module):
        ...     def forward(self, images):
        ...         top, left = images[0][0].nonzero()[0]
        ...         box = torch.stack([left, top, left + 2, top + 2]).float()
        ...         return [{"boxes": box[None], "labels": torch.ones(1, dtype=int), "scores": torch.ones(1)}]
        >>> image = torch.zeros(1, 20, 20)
        >>> image[:, 9:11, 9:11] = 1
        >>> detect(Bright().eval(), image)["boxes"]
        tensor([[ 9.,  9., 11., 11.]])
    """
    if net.training:
        raise ValueError("net must be in evaluation mode; got one in training mode: call net.eval() first")
    if tile is not None and tile < 1:
        raise ValueError(f"tile must be 1 pixel or more; got {tile}")
    if not 0 <= overlap < 1:
        raise ValueError(f"overlap must lie in 0 to below 1; got {overlap}")
    height, width = image.shape[-2:]
    if tile is None or max(height, width) <= tile:
        (found,) = net([image])
        return {name: values[:, 0] > 0.5 if name == "masks" else values for name, values in found.items()}
    tiles = torch.tensor(
        [
            (left, top, min(left + tile, width), min(top + tile, height))
            for top, left in product(
                window_starts(height, tile, overlap), window_starts(width, tile, overlap)
            )
        ],
        device=image.device,
    )
    found = [_in_tile(net, image, place, tiles) for place in tiles]
    boxes, labels, scores = (
        torch.cat([one[name] for one in found]) for name in ("boxes", "labels", "scores")
    )
    best = batched_nms(boxes, scores, labels, MERGE_IOU)
    merged = {"boxes": boxes[best], "labels": labels[best], "scores": scores[best]}
    if "masks" in found[0]:
        merged["masks"] = _paste(found, tiles, best, (height, width))
    return merged


def _in_tile(net: nn.Module, image: Tensor, tile: Tensor, tiles: Tensor) -> dict[str, Tensor]:
    """What one tile shows, boxes in pixels of the image, without what other tiles see whole."""
    left, top, right, bottom = tile.tolist()
    (found,) = net([image[:, top:bottom, left:right]])
    boxes = found["boxes"] + tile[[0, 1, 0, 1]]
    size = tile.new_tensor((image.shape[-1], image.shape[-2]))
    elsewhere = _sees_whole(tiles, boxes, size).any(0) & ~_sees_whole(tile[None], boxes, size)[0]
    kept = {name: values[~elsewhere] for name, values in found.items()}
    kept["boxes"] = boxes[~elsewhere]
    if "masks" in kept:
        kept["masks"] = kept["masks"][:, 0] > 0.5
    return kept


def _sees_whole(tiles: Tensor, boxes: Tensor, size: Tensor) -> Tensor:
    """Bool (tiles, boxes): whether a box ends inside a tile on each side, or with the image."""
    starts = (tiles[:, None, :2] == 0) | (boxes[:, :2] > tiles[:, None, :2] + MARGIN)
    ends = (tiles[:, None, 2:] == size) | (boxes[:, 2:] < tiles[:, None, 2:] - MARGIN)
    return (starts & ends).all(-1)


def _paste(found: list[dict[str, Tensor]], tiles: Tensor, best: Tensor, size: tuple[int, int]) -> Tensor:
    """Masks of the best detections in the image; those of the others stay as small as their tiles."""
    masks = [mask for one in found for mask in one["masks"]]
    places = [place for one, place in zip(found, tiles.tolist(), strict=True) for _ in one["masks"]]
    whole = torch.zeros((len(best), *size), dtype=torch.bool, device=best.device)
    for number, chosen in enumerate(best.tolist()):
        left, top, right, bottom = places[chosen]
        whole[number, top:bottom, left:right] = masks[chosen]
    return whole
