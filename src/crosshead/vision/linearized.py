"""A ViT of timm with interactive attention, as a model that timm knows: made and loaded by one line."""

from collections.abc import Sequence
from typing import Any

import timm
from timm.data import IMAGENET_INCEPTION_MEAN, IMAGENET_INCEPTION_STD
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models.vision_transformer import VisionTransformer, checkpoint_filter_fn

from crosshead.attention.functional import Implementation
from crosshead.attention.mixing import Mixing
from crosshead.vision.on_grid import GridViT
from crosshead.vision.swap import swap_silently

__all__ = ["default_cfgs"]

default_cfgs = generate_default_cfgs(
    {
        "linearized_vit.untrained": {
            "url": "",
            "num_classes": 1000,
            "input_size": (3, 224, 224),
            "crop_pct": 0.9,
            "interpolation": "bicubic",
            "mean": IMAGENET_INCEPTION_MEAN,
            "std": IMAGENET_INCEPTION_STD,
            "first_conv": "patch_embed.proj",
            "classifier": "head",
        }
    }
)


@register_model
def linearized_vit(pretrained: bool = False, **options: Any) -> VisionTransformer:
    """A ViT of timm whose softmax attention is replaced: what `crosshead train linearize` makes.

    Its folder is loaded by `timm.create_model("local-dir:RUN/model", pretrained=True)`, at another image size
    too: position tables are resized as timm does.

    Args:
        pretrained: whether to load weights; there are none but those of a folder or a hub.
        **options: `architecture`, timm's name of the ViT; `landmarks`, `mixing`, `mixing_group_size`,
            `local_kernel`, `keep` and `impl`, as `swap_attention` takes them, with `local_kernel=3` by
            default; all others are the ViT's own.

    Example:
        >>> import timm, torch
        >>> import crosshead.vision
        >>> vit = timm.create_model(
        ...     "linearized_vit", architecture="vit_tiny_patch16_224", depth=2, img_size=96, keep=(-1,)
        ... )
        >>> vit.forward_features(torch.zeros(1, 3, 96, 96)).shape
        torch.Size([1, 37, 192])
    """
    out_indices = options.pop("out_indices", 3)
    return build_model_with_cfg(
        _build,
        "linearized_vit",
        pretrained,
        pretrained_filter_fn=checkpoint_filter_fn,
        feature_cfg={"out_indices": out_indices, "feature_cls": "getter"},
        **options,
    )


def _build(
    *,
    architecture: str = "vit_small_patch16_224",
    landmarks: int | Sequence[int] = (7, 7),
    mixing: Mixing = "both",
    mixing_group_size: int | None = None,
    local_kernel: int = 3,
    keep: Sequence[int] = (),
    impl: Implementation = "auto",
    **options: Any,
) -> GridViT:
    return swap_silently(
        timm.create_model(architecture, **options),
        landmarks=landmarks,
        mixing=mixing,
        mixing_group_size=mixing_group_size,
        local_kernel=local_kernel,
        keep=keep,
        impl=impl,
    )
