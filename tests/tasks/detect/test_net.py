import math
from typing import Any

import pytest
import timm
import torch
from torch import nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.ops.misc import FrozenBatchNorm2d

from crosshead.tasks.detect.net import build_detector

KINDS = ("faster-rcnn", "mask-rcnn", "retinanet")
TINY = {"depths": (1, 1, 1, 1), "dims": (8, 16, 16, 32), "landmarks": (4, 4, 3, 2)}


def build(kind: str = "faster-rcnn", backbone: str = "ivit_nano", *, channels: int = 1, **options) -> Any:
    torch.manual_seed(0)
    return build_detector(
        kind,  # pyright: ignore[reportArgumentType]
        backbone,
        in_chans=channels,
        mean=(0.5,) * channels,
        std=(0.25,) * channels,
        **{
            "num_classes": 2,
            "min_size": 64,
            "max_size": 96,
            "anchor_sizes": (8, 16, 32, 64, 128),
            "pyramid_dim": 16,
            "backbone_options": TINY if backbone.startswith("ivit") else None,
            **options,
        },
    )


def image(height: int, width: int, channels: int = 1) -> torch.Tensor:
    return torch.rand(channels, height, width, generator=torch.Generator().manual_seed(height))


def target(*boxes: tuple[float, float, float, float], size: tuple[int, int]) -> dict[str, torch.Tensor]:
    masks = torch.zeros(len(boxes), *size, dtype=torch.uint8)
    for mask, (left, top, right, bottom) in zip(masks, boxes, strict=True):
        mask[int(top) : int(bottom), int(left) : int(right)] = 1
    return {
        "boxes": torch.tensor(boxes).reshape(-1, 4),
        "labels": torch.ones(len(boxes), dtype=torch.int64),
        "masks": masks,
    }


@pytest.mark.parametrize("channels", [1, 3, 6, 13])
@pytest.mark.parametrize("kind", KINDS)
def test_images_of_any_size_and_channels_are_learned_from_and_detected_in(kind, channels):
    net = build(kind, channels=channels, max_detections=5)
    images = [image(50, 41, channels), image(33, 97, channels)]
    losses = net(images, [target((3, 4, 20, 30), size=(50, 41)), target(size=(33, 97))])
    torch.stack(list(losses.values())).sum().backward()
    gradients = {name: parameter.grad for name, parameter in net.named_parameters()}
    assert not [name for name, gradient in gradients.items() if gradient is None]
    assert all(gradient.isfinite().all() for gradient in gradients.values())
    for size, found in zip([(50, 41), (33, 97)], net.eval()(images), strict=True):
        assert len(found["boxes"]) <= 5
        assert ("masks" in found) == (kind == "mask-rcnn")
        if kind == "mask-rcnn":
            assert found["masks"].dtype == torch.bool
            assert found["masks"].shape[1:] == (1, *size)


def test_batch_norms_that_were_learned_with_the_weights_are_frozen(monkeypatch):
    create = timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda name, pretrained, **options: create(name, **options))
    kinds = {type(module) for module in build(backbone="resnet18", pretrained=True).modules()}
    assert FrozenBatchNorm2d in kinds
    assert nn.BatchNorm2d not in kinds


def test_the_pyramid_stands_on_the_last_maps():
    assert build(backbone="resnet18").backbone.reductions == [4, 8, 16, 32]
    assert build("retinanet").backbone.reductions == [8, 16, 32]
    fine = build(backbone_options={**TINY, "stem_stride": 2})
    assert fine.backbone.reductions == [2, 4, 8, 16]
    maps = fine.backbone(image(64, 96)[None])
    assert [tuple(features.shape[2:]) for features in maps.values()] == [
        (32, 48),
        (16, 24),
        (8, 12),
        (4, 6),
        (2, 3),
    ]


def test_regions_are_read_where_they_are_even_in_small_padded_images():
    net = build(min_size=40, max_size=40)
    net.eval()([image(40, 40)])
    assert net.roi_heads.box_roi_pool.scales == [1 / 4, 1 / 8, 1 / 16, 1 / 32]
    assert (net.roi_heads.box_roi_pool.map_levels.k_min, net.roi_heads.box_roi_pool.map_levels.k_max) == (
        2,
        5,
    )


def test_anchors_have_the_sizes_asked_for():
    def sides(anchors: AnchorGenerator) -> list[list[float]]:
        sizes = [cell[:, 2:] - cell[:, :2] for cell in anchors.cell_anchors]
        return [size[size[:, 0] == size[:, 1], 0].tolist() for size in sizes]

    plain = sides(build(anchor_sizes=(10, 20, 40, 80, 160)).rpn.anchor_generator)
    assert plain == [[10], [20], [40], [80], [160]]
    octaves = sides(build("retinanet", anchor_sizes=(32, 64, 128, 256, 512)).anchor_generator)
    assert octaves[0] == pytest.approx([32, 32 * 2 ** (1 / 3), 32 * 2 ** (2 / 3)], abs=1.5)


def test_proposals_do_not_cap_the_detections():
    net = build(max_detections=500)
    assert (net.rpn.pre_nms_top_n(), net.rpn.post_nms_top_n()) == (2000, 2000)
    assert net.eval().rpn.post_nms_top_n() == 2000
    assert build("retinanet", max_detections=500).topk_candidates == 2000
    assert build(max_detections=100).eval().rpn.post_nms_top_n() == 1000


@pytest.mark.parametrize("kind", KINDS)
def test_half_precision_rounds_no_anchor_and_no_box(kind):
    net = build(kind)
    if kind == "retinanet":
        nn.init.zeros_(net.head.classification_head.cls_logits.bias)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        maps = net.backbone(image(64, 96)[None])
        (found,) = net.eval()([image(64, 96)])
    assert {features.dtype for features in maps.values()} == {torch.float32}
    assert found["boxes"].dtype == found["scores"].dtype == torch.float32
    assert not torch.equal(found["boxes"], found["boxes"].bfloat16().float())


def test_masks_of_few_classes_start_undecided():
    losses = build("mask-rcnn")([image(64, 64)], [target((10, 10, 40, 40), size=(64, 64))])
    assert losses["loss_mask"].item() == pytest.approx(math.log(2), abs=0.05)


@pytest.mark.parametrize("backbone", ["ivit_nano", "resnet18"])
def test_checkpointing_changes_neither_loss_nor_gradient(backbone):
    def losses_and_gradient(checkpointing: bool):
        net = build("retinanet", backbone, grad_checkpointing=checkpointing)
        loss = net([image(64, 64)], [target((10, 10, 40, 40), size=(64, 64))])["classification"]
        loss.backward()
        return loss.detach(), next(net.backbone.body.parameters()).grad

    plain, again = losses_and_gradient(False), losses_and_gradient(True)
    torch.testing.assert_close(plain, again)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "yolo"}, "kind must be one of faster-rcnn, mask-rcnn, retinanet; got 'yolo'"),
        ({"anchor_sizes": (8, 16)}, "anchor_sizes must be 5, one for each level of the pyramid; got 2"),
        ({"pyramid_dim": 20}, "pyramid_dim must be a multiple of 8; got 20"),
        ({"num_classes": 0}, "num_classes must be 1 or more, background not counted; got 0"),
    ],
)
def test_what_cannot_work_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        build(**options)


@pytest.mark.parametrize(
    ("backbone", "remedy"),
    [
        ("vit_tiny_patch16_224", {"dynamic_img_size": True}),
        ("vit_small_patch14_dinov2", {"dynamic_img_size": True, "depth": 4}),
        ("swin_tiny_patch4_window7_224", {"strict_img_size": False}),
    ],
)
def test_a_backbone_of_one_image_size_is_refused_with_a_remedy_that_works(backbone, remedy):
    with pytest.raises(
        ValueError, match=r"it takes images of .* pixels alone, .* add --model-args dynamic_img"
    ):
        build("retinanet", backbone)
    net = build("retinanet", backbone, backbone_options=remedy)
    (found,) = net.eval()([image(50, 70)])
    assert found["boxes"].shape[1] == 4


def test_statistics_are_needed_for_each_channel():
    with pytest.raises(
        ValueError, match="mean and std must have 3 values, one for each channel; got 1 and 1"
    ):
        build_detector(
            "retinanet",
            "ivit_nano",
            num_classes=1,
            in_chans=3,
            mean=(0.5,),
            std=(0.5,),
            min_size=64,
            max_size=64,
            anchor_sizes=(8, 16, 32, 64, 128),
        )
