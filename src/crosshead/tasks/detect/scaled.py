"""What of a detector becomes the graph of an exported file: everything but the scaling of images."""

import copy
from contextlib import AbstractContextManager, nullcontext
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import boxes as box_ops


class ScaledDetector(nn.Module):
    """A detector that is given one image as it is scaled and standardised, and names its outputs by order.

    Args:
        net: a detector of `crosshead.tasks.detect.net.build_detector`; it is not changed.

    Attributes:
        min_score: objects that the detector is less sure of are left out, unless another number is given.
        mask_side: height and width of a mask; None where there are none.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net: Any = copy.deepcopy(net)
        self.net.transform = Padded(self.net.transform.size_divisible)
        heads = getattr(self.net, "roi_heads", None)
        self.min_score: float = (self.net if heads is None else heads).score_thresh
        self.mask_side: int | None = None
        if heads is not None:
            heads.register_forward_pre_hook(_tell_of_proposals)
        if heads is not None and heads.has_mask():
            # The predictor of masks enlarges what is pooled once.
            self.mask_side = 2 * heads.mask_roi_pool.output_size[0]
            heads.mask_head = NeverEmpty(heads.mask_head)

    def forward(self, image: Tensor, min_score: Tensor) -> tuple[Tensor, ...]:
        """The objects in an image, best first.

        Args:
            image: (1, C, height, width), standardised.
            min_score: one number, 0 to 1.

        Returns:
            Boxes (n, 4) in pixels of the image, labels (n), scores (n) and perhaps masks (n, side, side),
            probabilities of each pixel of a box.
        """
        sure = getattr(self.net, "roi_heads", self.net)
        with patch.object(sure, "score_thresh", min_score), _traceable():
            (found,) = self.net(list(image))
        masks = [found["masks"][:, 0]] if "masks" in found else []
        return found["boxes"], found["labels"], found["scores"], *masks


class Padded(nn.Module):
    """Takes the place of torchvision's transform: pads an image by zeros, and leaves objects as they are.

    Args:
        size_divisible: what sides become multiples of.
    """

    def __init__(self, size_divisible: int) -> None:
        super().__init__()
        self.size_divisible = size_divisible

    def forward(self, images: list[Tensor], targets: None = None) -> tuple[ImageList, None]:
        """(C, height, width) to a batch of one, padded at the right and at the bottom."""
        (image,) = images
        step, (height, width) = self.size_divisible, image.shape[-2:]
        # In this form a tracer sees that the sum is a multiple.
        below, beside = ((side + step - 1) // step * step - side for side in (height, width))
        return ImageList(F.pad(image, (0, beside, 0, below))[None], [(height, width)]), None

    def postprocess(self, found: list[dict[str, Tensor]], *sizes: Any) -> list[dict[str, Tensor]]:
        """The same."""
        return found


class NeverEmpty(nn.Module):
    """Gives a module one item more than there are, of zeros, and leaves it out of the result.

    ONNX Runtime fails in the norm of no item at all.

    Args:
        module: does the same to each item.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        """What the module gives."""
        return self.module(torch.cat([x, x.new_zeros(1, *x.shape[1:])]))[:-1]


def _tell_of_proposals(heads: nn.Module, given: tuple[Any, ...]) -> None:
    """Every image has anchors, and so proposals; a tracer of torch 2.11 has to be told."""
    if torch.compiler.is_exporting():
        (proposals,) = given[1]
        torch._check(proposals.shape[0] > 0)


def _traceable() -> AbstractContextManager[Any]:
    """While a graph is made, without the branch that torchvision takes by the number of boxes."""
    exporting = torch.compiler.is_exporting()
    return patch.object(box_ops, "batched_nms", _batched_nms) if exporting else nullcontext()


def _batched_nms(boxes: Tensor, scores: Tensor, idxs: Tensor, iou_threshold: float) -> Tensor:
    """Classes side by side, so far from each other that boxes of two never overlap. There may be no box."""
    largest = F.pad(boxes, (0, 0, 0, 1)).max()
    return box_ops.nms(boxes + (idxs.to(boxes) * (largest + 1))[:, None], scores, iou_threshold)
