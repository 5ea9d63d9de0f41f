"""The libraries that use a backbone through timm, each tried for real: part of `BackboneContract`."""

from collections import OrderedDict
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

STANDARD_REDUCTIONS = [4, 8, 16, 32]


class ConsumerContract:
    """A backbone serves as an encoder of other libraries as it is; a library that is missing is skipped."""

    model_name: str
    options: dict[str, Any]

    def create(self, **options) -> Any:
        """Supplied by `BackboneContract`."""
        raise NotImplementedError

    def images(self, height: int, width: int, *, batch: int = 2, channels: int = 3) -> Tensor:
        """Supplied by `BackboneContract`."""
        raise NotImplementedError

    @pytest.mark.parametrize("decoder", ["UPerNet", "FPN"])
    def test_encodes_for_segmentation_models_pytorch(self, decoder):
        """Through its `tu-` encoders; the decoder demands sizes divisible by 32."""
        smp = pytest.importorskip("segmentation_models_pytorch")
        self._skip_other_reductions()
        build = getattr(smp, decoder)
        model = build(f"tu-{self.model_name}", encoder_weights=None, classes=3, **self.options).train()
        maps = model(self.images(64, 96))
        assert maps.shape == (2, 3, 64, 96)
        maps.square().mean().backward()
        assert_trained(model.encoder)

    def test_carries_mask_r_cnn(self):
        """torchvision's detector on a feature pyramid of all stages learns and predicts."""
        detection = pytest.importorskip("torchvision.models.detection")
        ops = pytest.importorskip("torchvision.ops")
        self._skip_other_reductions()
        backbone = Pyramid(self.create(features_only=True), ops)
        detector = detection.MaskRCNN(backbone, num_classes=2, min_size=64, max_size=96)
        images = list(self.images(64, 96).sigmoid())
        mask = torch.zeros(1, 64, 96, dtype=torch.uint8)
        mask[:, 8:40, 16:60] = 1
        target = {
            "boxes": torch.tensor([[16.0, 8.0, 60.0, 40.0]]),
            "labels": torch.ones(1, dtype=torch.int64),
            "masks": mask,
        }
        losses = detector.train()(images, [target, target])
        torch.stack(list(losses.values())).sum().backward()
        assert_trained(backbone.body)
        with torch.no_grad():
            found = detector.eval()(images)
        assert found[0]["masks"].shape[1:] == (1, 64, 96)

    @pytest.mark.parametrize("decoder", ["upernet", "fpn"])
    def test_labels_pixels_of_images_of_odd_sizes(self, decoder):
        """Under both decoders, through the padding of `SegmentationNet`."""
        pytest.importorskip("segmentation_models_pytorch")
        from crosshead.tasks.segment.net import SegmentationNet

        if decoder == "fpn":
            self._skip_other_reductions()
        options = {"num_classes": 3, "in_chans": 3, "decoder_dim": 64, "backbone_options": self.options}
        net = SegmentationNet(decoder, self.model_name, **options).train()
        for height, width in ((33, 65), (17, 23)):
            scores = net(self.images(height, width))
            assert scores.shape == (2, 3, height, width)
            scores.square().mean().backward()
            assert_trained(net.net.encoder)
            net.zero_grad()

    @pytest.mark.parametrize("kind", ["mask-rcnn", "retinanet"])
    def test_detects_in_images_of_mixed_odd_sizes(self, kind):
        """torchvision's detectors learn from a batch of several sizes, and give boxes in each image's own."""
        pytest.importorskip("torchvision.models.detection")
        from crosshead.tasks.detect.net import build_detector

        self._skip_other_reductions()
        net = build_detector(
            kind,
            self.model_name,
            num_classes=1,
            in_chans=3,
            mean=(0.5,) * 3,
            std=(0.25,) * 3,
            min_size=64,
            max_size=96,
            anchor_sizes=(8, 16, 32, 64, 128),
            pyramid_dim=32,
            backbone_options=self.options,
        )
        images, targets = [], []
        for height, width in ((33, 65), (50, 41)):
            images.append(self.images(height, width, batch=1)[0].sigmoid())
            mask = torch.zeros(1, height, width, dtype=torch.uint8)
            mask[:, 5:21, 7:30] = 1
            box = torch.tensor([[7.0, 5.0, 30.0, 21.0]])
            targets.append({"boxes": box, "labels": torch.ones(1, dtype=torch.int64), "masks": mask})
        losses: Any = net.train()(images, targets)
        torch.stack(list(losses.values())).sum().backward()
        for name, parameter in net.named_parameters():
            assert parameter.grad is None or parameter.grad.isfinite().all(), name
        with torch.no_grad():
            found: Any = net.eval()(images)
        for image, detections in zip(images, found, strict=True):
            right_bottom = detections["boxes"].reshape(-1, 2, 2).amax(1)
            assert (right_bottom <= torch.tensor([image.shape[2], image.shape[1]]) + 1e-3).all()

    def test_is_a_backbone_of_transformers(self):
        """Hugging Face's `TimmBackbone` returns the same maps."""
        transformers = pytest.importorskip("transformers")
        options = {"output_stride": 32, **self.options}
        config = transformers.TimmBackboneConfig(
            backbone=self.model_name, out_indices=[0, 1, 2, 3], output_stride=options.pop("output_stride")
        )
        model = transformers.TimmBackbone(config, **options).eval()
        body = self.create(features_only=True)
        body.load_state_dict(model._backbone.state_dict())
        images = self.images(64, 96)
        with torch.no_grad():
            assert_close(list(model(images).feature_maps), body(images))
        assert model.channels == body.feature_info.channels()

    def _skip_other_reductions(self) -> None:
        reductions = self.create(features_only=True).feature_info.reduction()
        if reductions != STANDARD_REDUCTIONS:
            pytest.skip(f"reductions {reductions} are not those that decoders expect, {STANDARD_REDUCTIONS}")


class Pyramid(nn.Module):
    """A feature pyramid as torchvision's detectors take it.

    Args:
        body: a `features_only` model.
        ops: the module `torchvision.ops`.
        out_channels: channels of every level.
    """

    def __init__(self, body: Any, ops: Any, *, out_channels: int = 32) -> None:
        super().__init__()
        self.body = body
        self.out_channels = out_channels
        extra = ops.feature_pyramid_network.LastLevelMaxPool()
        self.fpn = ops.FeaturePyramidNetwork(body.feature_info.channels(), out_channels, extra_blocks=extra)

    def forward(self, x: Tensor) -> OrderedDict[str, Tensor]:
        """Levels by name, finest first."""
        return self.fpn(OrderedDict((str(i), features) for i, features in enumerate(self.body(x))))


def assert_trained(body: nn.Module) -> None:
    """Every parameter that a consumer kept has a finite gradient."""
    for name, parameter in body.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
