"""The maps of a teacher are those that its attention forms."""

from typing import Any

import pytest
import timm
import torch

from crosshead.explain.page.cells import Cells
from crosshead.explain.page.softmax import softmax_maps

NAMES = ["blocks.0.attn", "blocks.1.attn"]


@pytest.mark.parametrize("count", [1000, 9])
def test_maps_of_a_teacher(count):
    torch.manual_seed(0)
    options = {"img_size": 96, "depth": 2, "qk_norm": True}
    vit: Any = timm.create_model("vit_tiny_patch16_224", **options).eval()
    image, dense = torch.randn(1, 3, 96, 96), []
    for block in vit.blocks:
        block.attn.fused_attn = False
        block.attn.attn_drop.register_forward_pre_hook(lambda _, given: dense.append(given[0][0].double()))
    cells = Cells.at_most(count, grid=(6, 6), prefix=1)
    found = softmax_maps(vit, image, cells, [*NAMES, "blocks.7.attn"])
    assert [*found] == NAMES
    for maps, whole in zip(found.values(), dense, strict=True):
        expected = cells.gathered(cells.gathered(whole, "sum"), "mean", axis=1)
        assert torch.allclose(maps, expected, atol=1e-6)
        assert torch.allclose(maps.sum(-1), torch.ones((), dtype=torch.float64))
    assert not vit.blocks[0].attn._forward_pre_hooks
