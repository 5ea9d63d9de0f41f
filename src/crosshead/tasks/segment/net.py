"""A net that gives each pixel a class: a timm backbone under a decoder of segmentation-models-pytorch."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, Literal

import segmentation_models_pytorch as smp
import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import crosshead.vision  # noqa: F401 (timm has to know the names)

Decoder = Literal["upernet", "fpn"]

# Maps that both decoders read, the deepest ones.
LEVELS = 4
MOST_DEPTH = 5
# FPN norms its channels in 32 groups, and a group of one channel cannot be normed on a map of one pixel.
FPN_STEP = 64


class SegmentationNet(nn.Module):
    """From images of any size to scores of the same size.

    Images are padded by their border at the right and bottom to a multiple of the largest stride, and the
    scores are cut back. They are made at the stride of the backbone's finest map (4, or less with iViT's
    `stem_stride`) and interpolated.

    The net of the library is `net`, and timm's model `net.encoder.model`: its parameters have the names that
    they have in iViT as a classifier, but `stages.0` is `stages_0` and so on. In evaluation nothing mixes
    images; in training UPerNet has batch norms, FPN has group norms.

    Args:
        decoder: `upernet` or `fpn`.
        backbone: timm's name of a model whose maps have the strides 4, 8, 16 and 32; in iViT `stem_stride`
            makes them smaller.
        num_classes: scores of each pixel, K.
        in_chans: channels of an image, C.
        decoder_dim: channels of the decoder; for `fpn` a multiple of 64.
        pretrained: load timm's weights into the backbone.
        backbone_options: further options of `timm.create_model`, such as `stem_stride` or `drop_path_rate`.

    Raises:
        ValueError: if there is no such decoder, a count is below 1, or, for `fpn`, `decoder_dim` is not
            a multiple of 64 or the strides of the backbone do not double from map to map.

    Source: UPerNet (arXiv 1807.10221), and FPN's semantic branch (arXiv 1901.02446).

    Example:
        >>> import torch
        >>> options = {"stem_stride": 2, "depths": (1, 1, 1, 1)}
        >>> net = SegmentationNet(
        ...     "fpn", "ivit_nano", num_classes=5, in_chans=1, decoder_dim=64, backbone_options=options
        ... )
        >>> net(torch.zeros(2, 1, 17, 23)).shape
        torch.Size([2, 5, 17, 23])
    """

    def __init__(
        self,
        decoder: Decoder,
        backbone: str,
        *,
        num_classes: int,
        in_chans: int,
        decoder_dim: int = 256,
        pretrained: bool = False,
        backbone_options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        counts = {"num_classes": num_classes, "in_chans": in_chans, "decoder_dim": decoder_dim}
        for name, count in counts.items():
            if count < 1:
                raise ValueError(f"{name} must be 1 or more; got {count}")
        self.decoder, self.in_chans = decoder, in_chans
        # smp types `encoder_weights` as a name; for timm's models it means true or None. The scores are
        # interpolated here, since smp would always do so by 4.
        shared: dict[str, Any] = {
            "encoder_name": f"tu-{backbone}",
            "encoder_weights": True if pretrained else None,
            "encoder_depth": _depth(backbone),
            "in_channels": in_chans,
            "classes": num_classes,
            "upsampling": 1,
            **(backbone_options or {}),
        }
        if decoder == "upernet":
            self.net: Any = smp.UPerNet(decoder_channels=decoder_dim, **shared)
        elif decoder == "fpn":
            if decoder_dim % FPN_STEP:
                raise ValueError(f"decoder_dim must be a multiple of {FPN_STEP} for fpn; got {decoder_dim}")
            self.net = smp.FPN(
                decoder_pyramid_channels=decoder_dim,
                decoder_segmentation_channels=max(decoder_dim // 2, FPN_STEP),
                **shared,
            )
        else:
            raise ValueError(f"decoder must be 'upernet' or 'fpn'; got {decoder!r}")
        # smp asks for multiples of 32 whatever the strides are; `forward` pads to what they need.
        self.net.requires_divisible_input_shape = False
        strides = self.net.encoder.model.feature_info.reduction()[-LEVELS:]
        if decoder == "fpn" and any(deep != 2 * fine for fine, deep in pairwise(strides)):
            raise ValueError(
                f"fpn needs strides that double from map to map; {backbone} has {tuple(strides)}: leave out "
                "output_stride, or use the decoder upernet"
            )
        self.stride = max(strides)

    def forward(self, images: Tensor) -> Tensor:
        """Scores (B, K, H, W) of images (B, C, H, W), before the softmax.

        Raises:
            ValueError: if the number of channels is another, or UPerNet is trained on one image.
        """
        if images.ndim != 4 or images.shape[1] != self.in_chans:
            raise ValueError(f"images must be (B, {self.in_chans}, H, W); got {tuple(images.shape)}")
        if self.training and self.decoder == "upernet" and len(images) == 1:
            raise ValueError(
                "a training batch has 1 image, and upernet's batch norm over pooled maps needs 2 or more: "
                "raise the batch size, or use the decoder fpn"
            )
        height, width = images.shape[-2:]
        padding = (0, -width % self.stride, 0, -height % self.stride)
        padded = F.pad(images, padding, mode="replicate")
        scores = F.interpolate(self.net(padded), padded.shape[-2:], mode="bilinear")
        return scores[..., :height, :width]

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Decides whether the backbone recomputes its activations in the backward pass."""
        self.net.encoder.model.set_grad_checkpointing(enable)


def _depth(backbone: str) -> int:
    """How many halvings of an image smp may ask of a backbone: 5, or fewer of one whose maps end before."""
    try:
        with torch.device("meta"):
            maps: Any = timm.create_model(backbone, features_only=True)
    except Exception:
        # Some of a thousand models cannot be made without memory; what is wrong with others smp says.
        return MOST_DEPTH
    finest, *others = maps.feature_info.reduction()
    return min(MOST_DEPTH, finest.bit_length() - 1 + len(others))
