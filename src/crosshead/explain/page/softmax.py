"""Softmax attention, for a page to set beside: of a teacher, whose maps are N x N.

Legend: `H` heads, `N` tokens, `T` what is shown: prefix tokens, then cells.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from crosshead.explain.page.cells import Cells

# Rows of a map that are formed at a time.
ROWS = 256


def softmax_maps(
    vit: VisionTransformer, image: Tensor, cells: Cells, names: Sequence[str]
) -> dict[str, Tensor]:
    """The attention of a ViT over cells, from one image.

    Args:
        vit: in evaluation mode; its attention has timm's form, a `qkv` that projects all three.
        image: `(1, C, height, width)`, normalised.
        cells: of its tokens, prefix tokens first.
        names: of the layers that are meant, such as `blocks.3.attn`.

    Returns:
        `(H, T, T)` by name: means over the tokens of the cell that asks, of sums over those of the cell that
        is looked at.
    """
    found: dict[str, Tensor] = {}
    modules = dict(vit.named_modules())
    hooks = [
        modules[name].register_forward_pre_hook(partial(_note, found, name, cells))
        for name in names
        if hasattr(modules.get(name), "qkv")
    ]
    try:
        with torch.inference_mode():
            vit.forward_features(image)
    finally:
        for hook in hooks:
            hook.remove()
    return found


def _note(
    found: dict[str, Tensor], name: str, cells: Cells, layer: nn.Module, given: tuple[Any, ...]
) -> None:
    found[name] = _shown(layer, given[0], cells)


def _shown(layer: Any, x: Tensor, cells: Cells) -> Tensor:
    query, key, _ = layer.qkv(x).unflatten(-1, (3, layer.num_heads, -1)).permute(2, 0, 3, 1, 4)[:, 0]
    query, key = layer.q_norm(query).double(), layer.k_norm(key).double()
    numbers = cells.numbers().to(x.device)
    sizes = numbers.bincount()
    total = query.new_zeros(len(query), len(sizes), len(sizes))
    for start in range(0, query.shape[1], ROWS):
        tile = slice(start, start + ROWS)
        rows = (layer.scale * query[:, tile] @ key.mT).softmax(-1)
        total.index_add_(1, numbers[tile], cells.gathered(rows, "sum"))
    return total / sizes[:, None]
