"""Interactive attention in place of softmax attention inside a timm ViT that exists already."""

import inspect
import logging
from collections.abc import Sequence
from typing import Any

from timm.layers import Attention
from timm.models.naflexvit import NaFlexVit
from torch import nn

from crosshead.attention.functional import Implementation
from crosshead.attention.mixing import Mixing
from crosshead.attention.module import InteractiveAttention
from crosshead.vision.on_grid import GridAttention, GridNaFlexViT, GridViT, ViT, mix_in

_logger = logging.getLogger(__name__)

_ROTARY = "rotates queries and keys by their positions, and landmarks have none: take learned positions"
_DIFFERENCE = "takes the difference of two attention maps, which cannot be kept: take attn_layer='attn'"

# Known by the names of classes, so that none of these models need be imported; the first that fits is told.
_OTHER_ATTENTION = {
    "TalkingHeadAttn": "mixes heads on the N x N map, which interactive attention never forms: take DeiT",
    "MaskUnitAttention": "attends inside windows and pools its queries: take DeiT",
    "ParallelScalingBlock": "projects to attention and MLP by one matrix, so that no attention can be taken "
    "out: take block_fn=Block or ParallelThingsBlock",
    "DiffParallelScalingBlock": _DIFFERENCE,
    "DiffAttention": _DIFFERENCE,
    "AttentionRope": _ROTARY,
}


def swap_attention(
    model: nn.Module,
    *,
    landmarks: int | Sequence[int] = (7, 7),
    mixing: Mixing = "both",
    mixing_group_size: int | None = None,
    local_kernel: int = 0,
    keep: Sequence[int] = (),
    impl: Implementation = "auto",
) -> ViT:
    """Replaces the softmax attention of a timm ViT by interactive attention, in place.

    Projections, query and key norms and the dropout after the projection stay the very same modules:
    their parameters keep names, values, dtype, device and `requires_grad`. Class and register tokens
    become landmarks of their own. New parameters are the head mixing and, with `local_kernel`, the
    local term; both start at zero.

    The swapped model computes something else than before and needs fine-tuning before it is of use:
    factored attention does not approximate softmax attention. A logged warning says so, and
    `crosshead train linearize` is a training that needs no labels: see docs/linearize.md.

    Args:
        model: a timm `VisionTransformer` (ViT, DeiT, image towers of CLIP, DINOv2 and the like), or a
            `NaFlexVit`, which then takes tensors of images alone.
        landmarks: cells per axis of the token grid, one number or a pair.
        mixing: where heads interact: "none", "logits", "weights" or "both".
        mixing_group_size: how many consecutive heads talk to each other; None for all.
        local_kernel: size of a depth-wise convolution on the values, odd; 0 for none.
        keep: layers that keep their softmax attention, counted from 0, or from -1 backwards.
        impl: implementation of the attention.

    Returns:
        The same `model`. If anything is refused it is unchanged.

    Raises:
        TypeError: if `model` is not a timm `VisionTransformer` or `NaFlexVit`.
        ValueError: if there is no softmax attention to replace, or it was replaced before; if `keep` names
            a layer that is not there, or all of them; if `InteractiveAttention` refuses landmarks or mixing.
        NotImplementedError: if something could not be kept: rotary or relative positions, talking heads
            (CaiT), windows (Hiera), attention and MLP in one projection (`ParallelScalingBlock`),
            `nn.MultiheadAttention` (torchvision), patch dropout, attention dropout, gated or differential
            attention, a norm on the attention's output, heads of another total width.

    Example:
        >>> import timm, torch
        >>> vit = timm.create_model("vit_tiny_patch16_224", depth=2, num_classes=10)
        >>> swap_attention(vit, landmarks=(7, 7))(torch.zeros(1, 3, 224, 224)).shape
        torch.Size([1, 10])
    """
    kind = type(model).__name__
    vit = swap_silently(
        model,
        landmarks=landmarks,
        mixing=mixing,
        mixing_group_size=mixing_group_size,
        local_kernel=local_kernel,
        keep=keep,
        impl=impl,
    )
    _logger.warning(
        "swap_attention replaced %d layers of %s: its outputs have changed, fine-tune it before use",
        sum(isinstance(module, GridAttention) for module in vit.modules()),
        kind,
    )
    return vit


def swap_silently(model: nn.Module, *, keep: Sequence[int] = (), **options: Any) -> GridViT:
    """As `swap_attention`, without a warning: for those who train the model next, or load its weights.

    Raises:
        TypeError, ValueError, NotImplementedError: as `swap_attention`.
    """
    vit = require_swappable(model)
    layers = {name: module for name, module in vit.named_modules() if isinstance(module, Attention)}
    kept = _positions(keep, len(layers))
    swapped = {
        name: _swapped(module, num_prefix_tokens=vit.num_prefix_tokens, **options)
        for place, (name, module) in enumerate(layers.items())
        if place not in kept
    }
    for name, attention in swapped.items():
        vit.set_submodule(name, attention)
    mix_in(GridNaFlexViT if isinstance(vit, NaFlexVit) else GridViT, vit)
    assert isinstance(vit, GridViT)
    vit.share_grid()
    return vit


def _positions(keep: Sequence[int], layers: int) -> set[int]:
    for place in keep:
        if not -layers <= place < layers:
            raise ValueError(f"keep must name layers from {-layers} to {layers - 1}; got {place}")
    kept = {place % layers for place in keep}
    if len(kept) == layers:
        raise ValueError(f"keep must leave a layer to replace; got all {layers}: the model can stay as it is")
    return kept


def _swapped(old: Attention, **options) -> InteractiveAttention:
    like = old.qkv.weight
    new = InteractiveAttention(
        old.qkv.in_features, old.num_heads, device=like.device, dtype=like.dtype, **options
    )
    mix_in(GridAttention, new)
    new.qkv, new.q_norm, new.k_norm = old.qkv, old.q_norm, old.k_norm
    new.proj, new.proj_drop = old.proj, old.proj_drop
    return new.train(old.training)


def require_swappable(model: nn.Module) -> ViT:
    """Makes sure that a model is a ViT whose attention can be replaced.

    Raises:
        TypeError, ValueError, NotImplementedError: as `swap_attention`.
    """
    modules = dict(model.named_modules())
    _refuse_other_models(model, modules)
    assert isinstance(model, ViT)
    if not isinstance(model.patch_drop, nn.Identity | None):
        raise NotImplementedError(
            "model drops patches and so tears holes into its token grid: build it with patch_drop_rate=0"
        )
    if _any(modules, GridAttention):
        raise ValueError(f"model must have softmax attention, but that of {_kind(model)} was replaced before")
    if not _any(modules, Attention):
        raise ValueError(f"model must have layers of timm's Attention; {_kind(model)} has none")
    free_size = isinstance(model, NaFlexVit) or model.dynamic_img_size
    if free_size and "attn_mask" not in inspect.signature(model.forward_features).parameters:
        raise NotImplementedError(
            f"forward_features of {_kind(model)} must take attn_mask and hand it to the blocks: where the "
            "image size is free the token grid travels there. Or build the model with dynamic_img_size=False"
        )
    for name, module in modules.items():
        if isinstance(module, Attention):
            _check_attention(name, module)
    return model


def _refuse_other_models(model: nn.Module, modules: dict[str, nn.Module]) -> None:
    must_be = (
        "model must be a timm VisionTransformer or NaFlexVit with layers of timm's Attention; got "
        f"{_kind(model)}"
    )
    parts = [name for name, module in modules.items() if isinstance(module, ViT)]
    if parts and parts[0]:
        raise TypeError(f"{must_be}, which holds one: swap its part {parts[0]}")
    classes = {cls.__name__ for module in modules.values() for cls in type(module).__mro__}
    reasons = [reason for name, reason in _OTHER_ATTENTION.items() if name in classes]
    if getattr(model, "rope", None) is not None:
        reasons.append(_ROTARY)
    if any("rel_pos" in name or "relative_position" in name for name in [*modules, *model.state_dict()]):
        reasons.append(
            "adds relative positions to the N x N map, which interactive attention never forms: take learned "
            "positions"
        )
    if reasons:
        raise NotImplementedError(f"{must_be}, which {reasons[0]}")
    if not parts:
        raise TypeError(
            f"{must_be}: take one of timm's ViTs, DeiT, CLIP and DINOv2 among them, such as "
            "timm.create_model('vit_base_patch16_224')"
        )


def _kind(model: nn.Module) -> str:
    return f"{type(model).__module__}.{type(model).__qualname__}"


def _any(modules: dict[str, nn.Module], kind: type) -> bool:
    return any(isinstance(module, kind) for module in modules.values())


def _check_attention(name: str, old: Attention) -> None:
    widths = {old.qkv.in_features, old.proj.in_features, old.proj.out_features}
    lost = {
        "attention dropout": old.attn_drop.p > 0,
        "a gate": getattr(old, "gate", None) is not None,
        "a norm on its output": not isinstance(getattr(old, "norm", None), nn.Identity | None),
        "heads of another total width": len(widths) > 1,
    }
    reasons = [reason for reason, present in lost.items() if present]
    if reasons:
        raise NotImplementedError(
            f"{name} has {' and '.join(reasons)}, which would be lost: build the model without"
        )
