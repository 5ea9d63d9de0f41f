"""Costs of models whose cost is known."""

from typing import Any

import timm
import torch
from torch import nn

import crosshead.vision  # noqa: F401  registers the models
from crosshead.vision import footprint


class Product(nn.Module):
    """Ten output channels of a 1 x 1 convolution, and a linear layer on them."""

    def __init__(self) -> None:
        super().__init__()
        self.pretrained_cfg = {"input_size": (3, 8, 8)}
        self.conv = nn.Conv2d(3, 10, 1)
        self.linear = nn.Linear(10, 7, bias=False)

    def forward(self, x):
        return self.linear(self.conv(x).mean((2, 3)))


def test_counts_products_and_what_they_write(monkeypatch):
    monkeypatch.setattr(timm, "create_model", lambda name: Product())
    cost = footprint("product", image_size=8)
    assert cost.parameters == 30 + 10 + 70
    assert cost.multiply_adds == 64 * 30 + 70
    assert cost.activations == 64 * 10 + 7


def test_agrees_with_published_figures_of_a_known_model():
    cost = footprint("resnet18")
    assert (cost.parameters, round(cost.multiply_adds / 1e9, 2)) == (11689512, 1.81)
    assert round(cost.activations / 1e6, 2) == 2.48


def test_counts_every_product_of_softmax_attention():
    """The figures that timm publishes for the model, which hold the maps of the attention."""
    cost = footprint("deit_small_patch16_224")
    assert round(cost.multiply_adds / 1e9, 1) == 4.6
    assert round(cost.activations / 1e6, 2) == 11.95


def test_counts_the_equations_whatever_computes_them(monkeypatch):
    small: dict[str, Any] = {"depths": (1, 1, 1, 1)}
    expected = footprint("ivit_nano", impl="reference", **small)
    assert footprint("ivit_nano", impl="streamed", **small) == expected
    monkeypatch.setattr("crosshead.attention.functional.STREAMED_FROM", 0)
    assert footprint("ivit_nano", **small) == expected


def test_options_and_size_reach_the_model():
    full = footprint("ivit_nano")
    small = footprint("ivit_nano", image_size=64, in_chans=1, num_classes=0)
    assert small.parameters == full.parameters - 2 * 9 * 16 - 1000 * 257
    assert small.multiply_adds < full.multiply_adds / 10


def test_computes_nothing():
    before = torch.get_rng_state()
    footprint("ivit_nano")
    assert torch.equal(torch.get_rng_state(), before)
