"""Interactive attention in place of softmax attention inside a timm ViT that exists already."""

import logging
from collections.abc import Sequence

from timm.layers import Attention, AttentionRope, DiffAttention
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from crosshead.attention.functional import Implementation
from crosshead.attention.mixing import Mixing
from crosshead.attention.module import InteractiveAttention
from crosshead.vision.isotropic import BoundAttention, TokenGrid

_logger = logging.getLogger(__name__)


class SwappedAttention(BoundAttention, InteractiveAttention):
    """Interactive attention where a timm `Attention` stood, under the same parameter names."""


def swap_attention(
    model: nn.Module,
    *,
    landmarks: int | Sequence[int] = (7, 7),
    mixing: Mixing = "both",
    local_kernel: int = 0,
    impl: Implementation = "auto",
) -> VisionTransformer:
    """Replaces every softmax attention of a timm ViT by interactive attention, in place.

    Projections, query and key norms and the dropout after the projection stay the very same modules:
    their parameters keep names, values, dtype, device and `requires_grad`. Class and register tokens
    become landmarks of their own. New parameters are the head mixing and, with `local_kernel`, the
    local term; both start at zero.

    The swapped model computes something else than before and needs fine-tuning before it is of use:
    factored attention is no approximation of softmax attention. A logged warning says so.

    Args:
        model: a timm `VisionTransformer`: ViT, DeiT, image towers of CLIP, DINOv2 and the like.
        landmarks: cells per axis of the token grid, one number or a pair.
        mixing: where heads interact: "none", "logits", "weights" or "both".
        local_kernel: size of a depth-wise convolution on the values, odd; 0 for none.
        impl: implementation of the attention.

    Returns:
        The same `model`. If anything is refused it is unchanged.

    Raises:
        TypeError: not a timm `VisionTransformer`.
        ValueError: no softmax attention to replace, because there is none or it was replaced before;
            landmarks or mixing that `InteractiveAttention` refuses.
        NotImplementedError: something that could not be kept: rotary or relative positions, patch
            dropout, attention dropout, gated or differential attention, a norm on the attention's
            output, heads of another total width.

    Example:
        >>> import timm, torch
        >>> vit = timm.create_model("vit_tiny_patch16_224", depth=2, num_classes=10)
        >>> swap_attention(vit, landmarks=(7, 7))(torch.zeros(1, 3, 224, 224)).shape
        torch.Size([1, 10])
    """
    vit = _checked(model)
    options = {"landmarks": landmarks, "mixing": mixing, "local_kernel": local_kernel, "impl": impl}
    swapped = {
        name: _swapped(module, num_prefix_tokens=vit.num_prefix_tokens, **options)
        for name, module in vit.named_modules()
        if isinstance(module, Attention)
    }
    token_grid = TokenGrid(vit.patch_embed)
    for name, attention in swapped.items():
        attention.token_grid = token_grid
        vit.set_submodule(name, attention)
    _logger.warning(
        "swap_attention replaced %d layers of %s: its outputs have changed, fine-tune it before use",
        len(swapped),
        type(vit).__name__,
    )
    return vit


def _swapped(old: Attention, **options) -> SwappedAttention:
    like = old.qkv.weight
    new = SwappedAttention(
        old.qkv.in_features, old.num_heads, device=like.device, dtype=like.dtype, **options
    )
    new.qkv, new.q_norm, new.k_norm = old.qkv, old.q_norm, old.k_norm
    new.proj, new.proj_drop = old.proj, old.proj_drop
    new.qk_norm = not isinstance(old.q_norm, nn.Identity)
    return new.train(old.training)


def _checked(model: nn.Module) -> VisionTransformer:
    kind = type(model).__name__
    modules = dict(model.named_modules())
    if getattr(model, "rope", None) is not None or _any(modules, AttentionRope):
        raise NotImplementedError(
            f"{kind} has rotary positions, which landmarks cannot carry: take a ViT with learned positions"
        )
    if any("rel_pos" in name or "relative_position" in name for name in [*modules, *model.state_dict()]):
        raise NotImplementedError(
            f"{kind} adds relative positions to an N x N map, which interactive attention never forms: "
            "take a ViT with learned positions"
        )
    if not isinstance(model, VisionTransformer):
        raise TypeError(f"model must be a timm VisionTransformer; got {kind}")
    if not isinstance(model.patch_drop, nn.Identity):
        raise NotImplementedError(
            "model drops patches and so tears holes into its token grid: build it with patch_drop_rate=0"
        )
    if _any(modules, BoundAttention):
        raise ValueError(f"model must have softmax attention, but that of {kind} was replaced before")
    if _any(modules, DiffAttention):
        raise NotImplementedError("model has differential attention, whose difference of maps cannot be kept")
    if not _any(modules, Attention):
        raise ValueError(f"model must have layers of timm's Attention; {kind} has none")
    for name, module in modules.items():
        if isinstance(module, Attention):
            _check_attention(name, module)
    return model


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
