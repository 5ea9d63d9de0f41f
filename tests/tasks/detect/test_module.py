import math
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from crosshead.tasks.detect.module import Detector
from crosshead.tasks.detect.net import DetectorKind, build_detector
from crosshead.tasks.detect.transforms import collate
from crosshead.tasks.seeding import seed_everything

SQUARES = [(8, 10, 24, 26), (38, 34, 56, 52)]


def squares(*boxes: tuple[int, int, int, int], crowd: tuple[bool, ...] = ()) -> tuple[torch.Tensor, dict]:
    """Bright squares on a dark ground, in 64 x 64 pixels."""
    image, masks = torch.full((1, 64, 64), 0.2), torch.zeros(len(boxes), 64, 64, dtype=torch.uint8)
    for mask, (left, top, right, bottom) in zip(masks, boxes, strict=True):
        mask[top:bottom, left:right] = 1
        image[:, top:bottom, left:right] = 0.9
    corners = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    return image, {
        "boxes": corners,
        "labels": torch.ones(len(boxes), dtype=torch.int64),
        "masks": masks,
        "crowd": torch.tensor(crowd or (False,) * len(boxes), dtype=torch.bool),
        "area": (corners[:, 2:] - corners[:, :2]).prod(1),
        "image_id": 3,
    }


def detector(kind: DetectorKind = "retinanet", **options: Any) -> Detector:
    seed_everything(0)
    net = build_detector(
        kind,
        "ivit_nano",
        num_classes=1,
        in_chans=1,
        mean=(0.3,),
        std=(0.3,),
        min_size=64,
        max_size=64,
        anchor_sizes=(8, 16, 24, 32, 64),
        pyramid_dim=32,
        backbone_options={
            "depths": (1, 1, 1, 1),
            "dims": (16, 16, 32, 32),
            "landmarks": (4, 4, 3, 2),
            "stem_stride": 2,
        },
    )
    return Detector(net, classes=("square",), masks=kind == "mask-rcnn", **options)


def trainer(epochs: int = 1) -> pl.Trainer:
    return pl.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        check_val_every_n_epoch=epochs,
    )


def loader(*items: tuple[torch.Tensor, dict], batch_size: int = 1) -> DataLoader:
    return DataLoader(list(items), batch_size=batch_size, collate_fn=collate)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(("kind", "score"), [("mask-rcnn", "val_mask_ap"), ("retinanet", "val_box_ap")])
def test_bright_squares_are_learned(kind, score):
    module = detector(kind, learning_rate=3e-3, weight_decay=0.0)
    steps = loader(*[squares(*SQUARES)] * 12)
    run = trainer(epochs=2)
    run.fit(module, steps, loader(squares(*SQUARES)))
    metrics = run.callback_metrics
    assert module.score == score
    assert {*module.columns, "step_loss"} <= set(metrics)
    assert metrics["val_box_ap50"] > 0.5
    assert metrics[f"{score}50"] > 0.5
    assert metrics["train_loss"] < 1.0


def test_an_image_counts_the_same_alone_and_in_a_batch():
    torch.manual_seed(0)
    module = detector("faster-rcnn")
    items = [squares(*SQUARES), (torch.rand(1, 40, 90), squares(*SQUARES)[1])]
    module.eval()
    together = module([image for image, _ in items])
    alone = [module([image])[0] for image, _ in items]
    for one, other in zip(together, alone, strict=True):
        assert torch.equal(one["boxes"], other["boxes"])


@pytest.mark.parametrize("kind", ["faster-rcnn", "mask-rcnn", "retinanet"])
def test_crowd_regions_and_empty_images_change_no_loss(kind):
    module = detector(kind).train()
    module.log = lambda *_, **__: None  # pyright: ignore[reportAttributeAccessIssue]

    def loss(target: dict) -> torch.Tensor:
        seed_everything(1)
        return module.training_step(([squares(*SQUARES)[0]], [target]), 0)["loss"]

    expected = loss(squares(SQUARES[0])[1])
    assert torch.equal(loss(squares(*SQUARES, crowd=(False, True))[1]), expected)
    assert not torch.equal(loss(squares(*SQUARES)[1]), expected)
    assert loss(squares()[1]).isfinite()


class Knows(nn.Module):
    """Gives the same detections for every image."""

    def __init__(self, *boxes: tuple[int, int, int, int]) -> None:
        super().__init__()
        _, target = squares(*boxes)
        scores = torch.linspace(0.9, 0.8, len(boxes))
        self.found = {"boxes": target["boxes"], "labels": target["labels"], "scores": scores}
        self.found["masks"] = target["masks"][:, None].float()

    def forward(self, images: list[torch.Tensor]) -> list[dict[str, torch.Tensor]]:
        return [dict(self.found) for _ in images]


def test_testing_leaves_every_metric():
    module = Detector(Knows(SQUARES[0]), classes=("square", "circle"), masks=True, max_detections=50)
    trainer().test(module, loader(squares(*SQUARES), squares(SQUARES[0]), batch_size=2), verbose=False)
    box, mask = module.precision["box"], module.precision["mask"]
    # Two squares of three are found: precision is 1 up to a recall of 66 %, which is 67 of 101 places.
    assert box.ap == pytest.approx(67 / 101)
    assert box.recall == {1: pytest.approx(2 / 3), 10: pytest.approx(2 / 3), 50: pytest.approx(2 / 3)}
    assert box.per_class == {"square": pytest.approx(67 / 101), "circle": None}
    assert (box.medium, box.large) == (None, None)
    assert mask == box


def test_a_crowd_region_is_no_object_to_find():
    module = Detector(Knows(SQUARES[1]), classes=("square",), masks=False)
    trainer().test(module, loader(squares(*SQUARES, crowd=(True, False))), verbose=False)
    assert module.precision["box"].ap == pytest.approx(1)


def test_validation_leaves_the_metrics_of_the_test_alone():
    module = Detector(Knows(*SQUARES), classes=("square",), masks=False)
    run = trainer()
    run.validate(module, loader(squares(*SQUARES)), verbose=False)
    assert run.callback_metrics["val_box_ap"] == pytest.approx(1)
    assert module.precision == {}
    run.test(module, loader(squares((0, 50, 9, 60))), verbose=False)
    assert module.precision["box"].ap == pytest.approx(0)
    assert not any(name.startswith("val_") for name in run.callback_metrics)
    run.validate(module, loader(squares(*SQUARES)), verbose=False)
    assert module.precision["box"].ap == pytest.approx(0)


def test_each_test_starts_anew():
    module = Detector(Knows(*SQUARES), classes=("square",), masks=False)
    for item, expected in [(squares((0, 50, 9, 60)), 0), (squares(*SQUARES), 1)]:
        trainer().test(module, loader(item), verbose=False)
        assert module.precision["box"].ap == pytest.approx(expected)


def test_without_objects_the_score_is_nan():
    module = Detector(Knows(SQUARES[0]), classes=("square",), masks=True)
    run = trainer()
    run.validate(module, loader(squares()), verbose=False)
    assert math.isnan(run.callback_metrics["val_mask_ap"])
    run.test(module, loader(squares()), verbose=False)
    assert module.precision["mask"].ap is None


def test_large_images_are_tested_in_tiles():
    sizes = []

    class Watched(Knows):
        def forward(self, images):
            sizes.extend(tuple(image.shape) for image in images)
            return super().forward(images)

    module = Detector(Watched(SQUARES[0]), classes=("square",), masks=False, tile=48)
    module.model.found.pop("masks")
    module.eval()([squares(*SQUARES)[0]])
    assert sizes == [(1, 48, 48)] * 4
