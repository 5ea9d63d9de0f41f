"""The sizes of iViT, registered with timm under their names; of one there are weights.

Widths, depths and landmarks are ours: docs/backbone.md says why.
"""

from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model

from crosshead.vision.ivit import IViT
from crosshead.vision.shipped import shipped_cfgs

__all__ = ["VARIANTS", "default_cfgs"]

# For images of 224 pixels and more.
VARIANTS = ("ivit_nano", "ivit_tiny", "ivit_small", "ivit_base")

_SHARED = {
    "url": "",
    "num_classes": 1000,
    "interpolation": "bicubic",
    "mean": IMAGENET_DEFAULT_MEAN,
    "std": IMAGENET_DEFAULT_STD,
    "first_conv": "stem.conv1",
    "classifier": "head.fc",
    "license": "apache-2.0",
}
_LARGE = {"input_size": (3, 224, 224), "pool_size": (7, 7), "crop_pct": 0.9}
_SMALL = {"input_size": (3, 64, 64), "pool_size": (4, 4), "crop_pct": 1.0}

default_cfgs = generate_default_cfgs(
    {
        **{f"{name}.untrained": {**_SHARED, **_LARGE} for name in VARIANTS},
        **shipped_cfgs(),
        # Last and starred, so that weights of small grey images come only where they are asked for by name.
        "ivit_pico.untrained*": {**_SHARED, **_SMALL},
    }
)


@register_model
def ivit_pico(pretrained: bool = False, **options) -> IViT:
    """For images of 28 to 64 pixels: about 1.2 M parameters with ten classes; `IViT` lists the options.

    It attends in its two middle stages, with many heads of few channels. `ivit_pico.fashion_mnist` has
    weights, which come with the package: `timm.create_model(name, pretrained=True)`.
    """
    return _build(
        "ivit_pico",
        pretrained,
        options,
        stem_stride=2,
        depths=(1, 2, 3, 1),
        dims=(32, 64, 128, 192),
        attention_stages=(1, 2),
        landmarks=(7, 4, 3, 2),
        head_dim=(16, 2, 4, 16),
        kernel_size=3,
        mlp_ratio=3,
    )


@register_model
def ivit_nano(pretrained: bool = False, **options) -> IViT:
    """The smallest: about 4 M parameters and 0.5 G multiply-adds at 224 pixels; `IViT` lists the options."""
    return _build("ivit_nano", pretrained, options, depths=(2, 2, 5, 3), dims=(32, 64, 128, 256))


@register_model
def ivit_tiny(pretrained: bool = False, **options) -> IViT:
    """About 12 M parameters and 1.5 G multiply-adds at 224 pixels; `IViT` lists the options."""
    return _build("ivit_tiny", pretrained, options, depths=(2, 2, 6, 4), dims=(48, 96, 224, 384))


@register_model
def ivit_small(pretrained: bool = False, **options) -> IViT:
    """About 26 M parameters and 3 G multiply-adds at 224 pixels; `IViT` lists the options."""
    return _build("ivit_small", pretrained, options, depths=(2, 2, 8, 5), dims=(48, 96, 288, 512))


@register_model
def ivit_base(pretrained: bool = False, **options) -> IViT:
    """The largest: about 51 M parameters and 6 G multiply-adds at 224 pixels; `IViT` lists the options."""
    return _build("ivit_base", pretrained, options, depths=(2, 3, 12, 6), dims=(64, 128, 352, 640))


def _build(variant: str, pretrained: bool, options: dict, **size) -> IViT:
    features = {"out_indices": (0, 1, 2, 3), "flatten_sequential": True, **options.pop("feature_cfg", {})}
    return build_model_with_cfg(IViT, variant, pretrained, feature_cfg=features, **{**size, **options})
