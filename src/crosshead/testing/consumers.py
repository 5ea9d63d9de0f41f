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
