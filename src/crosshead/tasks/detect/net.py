"""Detectors of torchvision on a feature pyramid over any backbone of timm."""

import math
from collections import OrderedDict
from typing import Any, Literal, get_args

import timm
import torch
from lightning_utilities.core.apply_func import apply_to_collection
from timm.layers import Format, PatchEmbed, freeze_batch_norm_2d, to_2tuple
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN, MaskRCNN, RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.retinanet import RetinaNetHead
from torchvision.models.detection.roi_heads import paste_masks_in_image
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import FeaturePyramidNetwork, MultiScaleRoIAlign, roi_align
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool, LastLevelP6P7
from torchvision.ops.poolers import initLevelMapper

from crosshead import vision as vision  # registers iViT with timm

DetectorKind = Literal["faster-rcnn", "mask-rcnn", "retinanet"]

LEVELS = 5
ASPECT_RATIOS = (0.5, 1.0, 2.0)
# Channels that are normalised together: 32 groups of the usual 256.
GROUP = 8


class Pyramid(nn.Module):
    """A backbone and the feature pyramid on its last maps.

    Args:
        body: a net of timm made with `features_only`.
        dim: channels of each map of the pyramid, a multiple of 8.
        extra: adds coarser maps to those of the backbone.

    Attributes:
        reductions: pixels between neighbouring places of each map of the backbone.
        out_channels: channels of each map of the pyramid.

    Example:
        >>> body = timm.create_model("resnet18", features_only=True, out_indices=(-2, -1))
        >>> maps = Pyramid(body, dim=32, extra=LastLevelMaxPool())(torch.zeros(1, 3, 64, 96))
        >>> {name: tuple(features.shape) for name, features in maps.items()}
        {'0': (1, 32, 4, 6), '1': (1, 32, 2, 3), 'pool': (1, 32, 1, 2)}
    """

    def __init__(self, body: nn.Module, *, dim: int, extra: LastLevelMaxPool | LastLevelP6P7) -> None:
        super().__init__()
        # timm's feature extractors describe themselves, which the type of a module does not say.
        info: Any = body.feature_info
        self.body = body
        self.fpn = FeaturePyramidNetwork(info.channels(), dim, extra, norm_layer=_norm)
        self.reductions: list[int] = info.reduction()
        self.out_channels = dim
        # Swin is one of those.
        self.channels_come_last = body.output_fmt == Format.NHWC

    def forward(self, images: Tensor) -> OrderedDict[str, Tensor]:
        """(B, C, H, W) images to maps (B, dim, X_i, Y_i), finest first."""
        maps: Any = self.body(images)
        if self.channels_come_last:
            maps = [features.permute(0, 3, 1, 2) for features in maps]
        maps = OrderedDict((str(level), features) for level, features in enumerate(maps))
        # Anchors take the type of the maps: bfloat16 would round places beyond 256 pixels.
        return OrderedDict((name, _wide(features)) for name, features in self.fpn(maps).items())


class Rescale(GeneralizedRCNNTransform):
    """torchvision's normalisation and scaling of images, which gives masks back as bool.

    Masks are pasted into the image one at a time: as float, those of a few hundred objects in a large image
    would need gigabytes.
    """

    def postprocess(
        self,
        result: list[dict[str, Tensor]],
        image_shapes: list[tuple[int, int]],
        original_image_sizes: list[tuple[int, int]],
    ) -> list[dict[str, Tensor]]:
        """Brings detections to the size of the original images, masks to bool (n, 1, height, width)."""
        if self.training:
            return result
        masks = [detections.pop("masks", None) for detections in result]
        result = super().postprocess(result, image_shapes, original_image_sizes)
        for detections, small, size in zip(result, masks, original_image_sizes, strict=True):
            if small is not None:
                whole = small.new_zeros((len(small), 1, *size), dtype=torch.bool)
                for number in range(len(small)):
                    one = slice(number, number + 1)
                    whole[one] = paste_masks_in_image(small[one], detections["boxes"][one], size) > 0.5
                detections["masks"] = whole
        return result


class RoiAlign(MultiScaleRoIAlign):
    """torchvision's pooling of boxes, in an export without asking how many there are."""

    def forward(
        self, x: dict[str, Tensor], boxes: list[Tensor], image_shapes: list[tuple[int, int]]
    ) -> Tensor:
        """Maps (B, C, X_i, Y_i) and boxes (n, 4) of each image to (all n, C, size, size)."""
        if not torch.compiler.is_exporting():
            return super().forward(x, boxes, image_shapes)
        assert self.map_levels is not None
        assert self.scales is not None
        (of_image,), levels = boxes, self.map_levels(boxes)
        channels = x[self.featmap_names[0]].shape[1]
        pooled = of_image.new_zeros(of_image.shape[0], channels, *self.output_size)
        for level, (name, scale) in enumerate(zip(self.featmap_names, self.scales, strict=True)):
            here = torch.where(levels == level)[0]
            pooled[here] = roi_align(x[name], [of_image[here]], self.output_size, scale, self.sampling_ratio)
        return pooled


def build_detector(
    kind: DetectorKind,
    backbone: str,
    *,
    num_classes: int,
    in_chans: int,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    min_size: int,
    max_size: int,
    anchor_sizes: tuple[int, ...],
    max_detections: int = 100,
    rois: int = 512,
    pyramid_dim: int = 256,
    pretrained: bool = False,
    grad_checkpointing: bool = False,
    backbone_options: dict[str, Any] | None = None,
) -> nn.Module:
    """Makes a detector of torchvision over a backbone of timm; the backbone is its `backbone.body`.

    In training it takes images and targets and gives a dictionary of losses; in evaluation it takes images
    and gives, for each, `boxes` (n, 4), `labels` (n) from 1 to `num_classes`, `scores` (n), best first, and
    for Mask R-CNN `masks`, bool (n, 1, height, width). Images are a list of (in_chans, height, width),
    values in 0 to 1, of any sizes. Each is scaled, up or down, before the net sees it.

    Sources: Faster R-CNN (arXiv 1506.01497), Mask R-CNN (arXiv 1703.06870) and RetinaNet (arXiv 1708.02002)
    on a feature pyramid (arXiv 1612.03144), normalised by groups as arXiv 1811.08883 advises.

    Args:
        kind: faster-rcnn, mask-rcnn or retinanet.
        backbone: name of a backbone of timm; the pyramid stands on its last four maps, RetinaNet's on three.
        num_classes: classes of objects, background not counted.
        in_chans: channels of an image.
        mean: for each channel, the mean of values in 0 to 1.
        std: for each channel, the standard deviation.
        min_size: what the short side of an image is scaled to, in pixels.
        max_size: what its long side must not exceed then, in pixels.
        anchor_sizes: sides of the anchors on the five levels of the pyramid, finest first, in pixels of the
            scaled image. RetinaNet's anchors come in three sizes a level, up to 1.6 times these.
        max_detections: most detections in an image.
        rois: proposals of an image that the heads of a two-stage detector learn from.
        pyramid_dim: channels of the pyramid, a multiple of 8.
        pretrained: whether the backbone starts from timm's weights; its batch norms are frozen then.
        grad_checkpointing: whether the backbone computes its activations again in the backward pass.
        backbone_options: further options of the backbone.

    Raises:
        ValueError: if the kind is unknown, there is no class, the number of anchor sizes, means or deviations
            does not fit, `pyramid_dim` is not a multiple of 8, or the backbone takes one image size only.

    Example:
        >>> options = {"depths": (1, 1, 1, 1), "dims": (16, 16, 16, 32)}
        >>> net = build_detector("retinanet", "ivit_nano", num_classes=2, in_chans=1, mean=(0.5,), std=(0.2,),
        ...                      min_size=64, max_size=96, anchor_sizes=(8, 16, 32, 64, 128),
        ...                      pyramid_dim=32, backbone_options=options)
        >>> sorted(net.eval()([torch.zeros(1, 50, 40)])[0])
        ['boxes', 'labels', 'scores']
    """
    if kind not in get_args(DetectorKind):
        raise ValueError(f"kind must be one of {', '.join(get_args(DetectorKind))}; got {kind!r}")
    if num_classes < 1:
        raise ValueError(f"num_classes must be 1 or more, background not counted; got {num_classes}")
    if not len(mean) == len(std) == in_chans:
        raise ValueError(
            f"mean and std must have {in_chans} values, one for each channel; got {len(mean)} and {len(std)}"
        )
    if len(anchor_sizes) != LEVELS:
        raise ValueError(
            f"anchor_sizes must be {LEVELS}, one for each level of the pyramid; got {len(anchor_sizes)}"
        )
    if pyramid_dim % GROUP:
        raise ValueError(f"pyramid_dim must be a multiple of {GROUP}; got {pyramid_dim}")
    retina = kind == "retinanet"
    body = timm.create_model(
        backbone,
        pretrained=pretrained,
        features_only=True,
        in_chans=in_chans,
        out_indices=(-3, -2, -1) if retina else (-4, -3, -2, -1),
        **backbone_options or {},
    )
    for part in body.modules():
        if isinstance(part, PatchEmbed) and part.strict_img_size and part.img_size is not None:
            height, width = to_2tuple(part.img_size)
            raise ValueError(
                f"it takes images of {height} x {width} pixels alone, and a detector sees images of any "
                "size: add --model-args dynamic_img_size=True, or strict_img_size=False for a Swin"
            )
    if pretrained:
        # Statistics of the few images of a batch would replace those that the weights were learned with.
        body = freeze_batch_norm_2d(body)
    if grad_checkpointing:
        # Where timm wraps the whole net, the wrapper itself has no such switch.
        whole: Any = getattr(body, "model", body)
        whole.set_grad_checkpointing(True)
    extra = LastLevelP6P7(pyramid_dim, pyramid_dim) if retina else LastLevelMaxPool()
    pyramid = Pyramid(body, dim=pyramid_dim, extra=extra)
    # Background is torchvision's class 0.
    outputs = num_classes + 1
    net: Any
    if retina:
        net = _retinanet(pyramid, outputs, anchor_sizes, max_detections)
    else:
        proposals = _candidates(max_detections)
        options: dict[str, Any] = {
            "rpn_anchor_generator": _anchors(tuple((size,) for size in anchor_sizes)),
            "rpn_pre_nms_top_n_test": proposals,
            "rpn_post_nms_top_n_test": proposals,
            "box_roi_pool": _roi_align(pyramid, 7),
            "box_detections_per_img": max_detections,
            "box_batch_size_per_image": rois,
        }
        build = _mask_rcnn if kind == "mask-rcnn" else FasterRCNN
        net = build(pyramid, outputs, **options)
    # Backbones of patches that are not a power of two need sizes that are multiples of both.
    divisor = math.lcm(32, *pyramid.reductions)
    net.transform = Rescale(min_size, max_size, list(mean), list(std), size_divisible=divisor)
    for head in (net.head,) if retina else (net.rpn.head, net.roi_heads.box_predictor):
        head.register_forward_hook(_widen)
    return net


def _mask_rcnn(pyramid: Pyramid, outputs: int, **options: Any) -> MaskRCNN:
    dim = pyramid.out_channels
    head = MaskRCNNHeads(dim, (dim,) * 4, 1, norm_layer=_norm)
    net = MaskRCNN(pyramid, outputs, mask_roi_pool=_roi_align(pyramid, 14), mask_head=head, **options)
    predictor: Any = MaskRCNNPredictor(dim, dim, outputs)
    # torchvision draws these the larger the fewer classes there are: with few, every pixel starts out sure.
    nn.init.normal_(predictor.mask_fcn_logits.weight, std=0.001)
    net.roi_heads.mask_predictor = predictor
    return net


def _retinanet(pyramid: Pyramid, outputs: int, sizes: tuple[int, ...], most: int) -> RetinaNet:
    octaves = tuple(tuple(round(size * 2 ** (third / 3)) for third in range(3)) for size in sizes)
    anchors = _anchors(octaves)
    head = RetinaNetHead(
        pyramid.out_channels, anchors.num_anchors_per_location()[0], outputs, norm_layer=_norm
    )
    return RetinaNet(
        pyramid,
        outputs,
        anchor_generator=anchors,
        head=head,
        detections_per_img=most,
        topk_candidates=_candidates(most),
    )


def _norm(channels: int) -> nn.GroupNorm:
    # Batches of detection are too small for batch norm; without any norm, training from scratch stalls.
    return nn.GroupNorm(channels // GROUP, channels)


def _widen(module: nn.Module, inputs: Any, outputs: Any) -> Any:
    # Boxes take the type of what a head says: bfloat16 would round them, beyond 256 pixels to even numbers.
    return apply_to_collection(outputs, Tensor, _wide)


def _wide(x: Tensor) -> Tensor:
    """At least float32."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _anchors(sizes: tuple[tuple[int, ...], ...]) -> AnchorGenerator:
    return AnchorGenerator(sizes, (ASPECT_RATIOS,) * len(sizes))


def _candidates(most: int) -> int:
    """Boxes that are looked at to find the best: torchvision's number, and more where more are wanted."""
    return max(1000, 4 * most)


def _roi_align(pyramid: Pyramid, size: int) -> MultiScaleRoIAlign:
    align = RoiAlign([str(level) for level in range(len(pyramid.reductions))], size, 2)
    # Left to itself it guesses the scales from the first batch, wrongly where a small image was padded.
    align.scales = [1 / reduction for reduction in pyramid.reductions]
    align.map_levels = initLevelMapper(*(int(math.log2(pyramid.reductions[end])) for end in (0, -1)))
    return align
