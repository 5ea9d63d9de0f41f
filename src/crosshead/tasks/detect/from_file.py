"""A detector whose graph is in an exported file: what stays around it is done by torchvision as ever."""

from typing import Any

import torch
from torch import Tensor, nn

from crosshead.tasks.detect.data import DetectMeta
from crosshead.tasks.detect.net import Rescale


class FileDetector(nn.Module):
    """A file in the place of the detector that it was made of.

    Args:
        file: its `outputs` takes and gives what a `ScaledDetector` does.
        meta: of the run.
        min_score: what the run leaves objects out below.
    """

    def __init__(self, file: nn.Module, meta: DetectMeta, *, min_score: float) -> None:
        super().__init__()
        self.file, self.min_score = file, min_score
        self.scale = Rescale(
            meta.min_size, meta.max_size, list(meta.mean), list(meta.std), size_divisible=1
        ).eval()

    def forward(self, images: list[Tensor]) -> list[dict[str, Tensor]]:
        """What the detector gives: for each image (C, height, width), values in 0 to 1, its objects."""
        return [self._objects(image) for image in images]

    def _objects(self, image: Tensor) -> dict[str, Tensor]:
        scaled, _ = self.scale([image])
        file: Any = self.file
        boxes, labels, scores, *masks = file.outputs(scaled.tensors, torch.tensor(self.min_score))
        found = {"boxes": boxes, "labels": labels, "scores": scores}
        if masks:
            found["masks"] = masks[0][:, None]
        (found,) = self.scale.postprocess([found], scaled.image_sizes, [(image.shape[-2], image.shape[-1])])
        return found
