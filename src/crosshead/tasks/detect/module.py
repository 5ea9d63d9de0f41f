"""Object detection and instance segmentation: a detector with its losses and its metrics."""

import math
from typing import Any, Unpack

import torch
from torch import Tensor, nn
from torchmetrics.detection import MeanAveragePrecision

from crosshead.tasks.detect.evaluation import AveragePrecision, average_precision, precision_metric
from crosshead.tasks.detect.tiles import detect
from crosshead.tasks.module import TaskModule, Updates

Target = dict[str, Any]
Batch = tuple[list[Tensor], list[Target]]
LEARNED = ("boxes", "labels", "masks")


class Detector(TaskModule):
    """Trains, validates and tests a detector of torchvision.

    A batch is a list of images, float (C, height, width) in 0 to 1, and a list of targets: `boxes`
    (n, 4) as left, top, right, bottom in pixels, `labels` (n) from 1 on, `crowd` (n) bool, `area` (n) in
    pixels, `image_id`, and where wanted `masks`, uint8 (n, height, width). Crowd regions are not learned.

    After each epoch it logs `train_loss` and COCO's average precision of boxes, and of masks, over the
    validation set, nan where that has no object; and `step_loss` in between. Outside training, images go
    through the net one at a time, as the padding of a batch is not masked and would change the metrics:
    batches of 1 lose nothing.

    Args:
        model: the net, as `build_detector` makes it.
        classes: name of each label, from 1 on.
        masks: whether the net finds masks.
        max_detections: detections that are looked at in an image, for each class; more than 10.
        tile: side of the tiles that larger images are seen in, in pixels; by default whole images.
        **updates: how the weights are updated: see `Updates`.

    Attributes:
        precision: after each test, average precision by "box", and by "mask" with masks.

    Example:
        >>> from crosshead.tasks.detect.net import build_detector
        >>> options = {"depths": (1, 1, 1, 1), "dims": (16, 16, 16, 32)}
        >>> net = build_detector("retinanet", "ivit_nano", num_classes=1, in_chans=1, mean=(0.5,), std=(0.2,),
        ...                      min_size=64, max_size=96, anchor_sizes=(8, 16, 32, 64, 128),
        ...                      pyramid_dim=32, backbone_options=options)
        >>> Detector(net, classes=("cell",), masks=False).columns
        ('train_loss', 'val_box_ap50', 'val_box_ap')
    """

    columns = ("train_loss", "val_box_ap50", "val_box_ap")

    def __init__(
        self,
        model: nn.Module,
        *,
        classes: tuple[str, ...],
        masks: bool,
        max_detections: int = 100,
        tile: int | None = None,
        **updates: Unpack[Updates],
    ) -> None:
        super().__init__(model, **updates)
        self.classes, self.tile = classes, tile
        if masks:
            self.columns = (*self.columns, "val_mask_ap50", "val_mask_ap")
        self.val_precision = precision_metric(masks=masks, max_detections=max_detections)
        self.test_precision = precision_metric(masks=masks, max_detections=max_detections)
        self.precision: dict[str, AveragePrecision] = {}

    def forward(self, images: list[Tensor]) -> list[dict[str, Tensor]]:
        """Detections in each of several (C, height, width) images: see `detect`."""
        return [detect(self.model, image, tile=self.tile) for image in images]

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Sum of the detector's losses for one batch."""
        images, targets = batch
        losses = self.model(images, [_objects_to_learn(target) for target in targets])
        loss = torch.stack(list(losses.values())).sum()
        self.log("step_loss", loss, batch_size=len(images))
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=len(images))
        return {"loss": loss}

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Counts the detections of one validation batch."""
        self._count(self.val_precision, batch)

    def on_validation_epoch_end(self) -> None:
        """Logs average precision over the validation set."""
        for kind, precision in self._conclude(self.val_precision).items():
            self.log(f"val_{kind}_ap50", _number(precision.ap50))
            self.log(f"val_{kind}_ap", _number(precision.ap))

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Counts the detections of one test batch."""
        self._count(self.test_precision, batch)

    def on_test_epoch_end(self) -> None:
        """Leaves average precision over the test set in `precision`."""
        self.precision = self._conclude(self.test_precision)

    def _count(self, metric: MeanAveragePrecision, batch: Batch) -> None:
        images, targets = batch
        metric.update(self(images), [{**target, "iscrowd": target["crowd"].long()} for target in targets])

    def _conclude(self, metric: MeanAveragePrecision) -> dict[str, AveragePrecision]:
        precision = average_precision(metric, classes=self.classes)
        metric.reset()
        return precision


def _objects_to_learn(target: Target) -> dict[str, Tensor]:
    return {name: target[name][~target["crowd"]] for name in LEARNED if name in target}


def _number(value: float | None) -> float:
    return math.nan if value is None else value
