"""Whatever the knock-out takes away is away while it is measured, and back afterwards."""

import copy
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from crosshead.vision import IViT

FOLDER = Path(__file__).parents[2] / "benchmarks"
IMAGES = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def script() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [str(FOLDER), *sys.path])
        return import_module("knock_out")


@pytest.fixture(scope="module")
def net() -> nn.Module:
    torch.manual_seed(0)
    net = IViT(
        num_classes=3,
        stem_stride=2,
        depths=(1, 1, 2, 1),
        dims=(8, 8, 16, 16),
        head_dim=4,
        landmarks=2,
        kernel_size=3,
    ).eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return net


@torch.no_grad()
def scores(net: nn.Module) -> torch.Tensor:
    return net(IMAGES)


def test_each_lesion_changes_the_net_while_it_lasts_and_no_longer(script, net):
    state, before = copy.deepcopy(net.state_dict()), scores(net)
    seen = []
    for lesion in script.lesions(net):
        with lesion.held():
            seen.append((lesion.what.partition(":")[0], torch.equal(scores(net), before)))
        assert torch.equal(scores(net), before), lesion.what
    assert {what for what, same in seen if same} == {"nothing"}
    assert {what for what, same in seen if not same} == {"mixing", "heads", "attention"}
    assert all(torch.equal(state[name], value) for name, value in net.state_dict().items())


def test_attention_that_gives_nothing_is_a_last_projection_of_zeros(script, net):
    layers = [module for module in net.modules() if hasattr(module, "qkv")]
    with script.instead(layers, torch.zeros_like):
        without = scores(net)
    other = copy.deepcopy(net)
    for module in other.modules():
        if hasattr(module, "qkv"):
            nn.init.zeros_(module.proj.weight)
            nn.init.zeros_(module.proj.bias)
    torch.testing.assert_close(without, scores(other))


def test_entries_between_the_wrong_heads_are_the_same_numbers(script, net):
    entries = script.entries_of(net)
    assert [abs(entry.value) for entry in entries] == sorted(
        (abs(entry.value) for entry in entries), reverse=True
    )
    with script.wrong(net, 0):
        moved = script.entries_of(net)
    values = [sorted(entry.value for entry in found) for found in (entries, moved)]
    assert values[0] == values[1]
    assert {(entry.layer, entry.matrix, entry.g, entry.h): entry.value for entry in entries} != {
        (entry.layer, entry.matrix, entry.g, entry.h): entry.value for entry in moved
    }


def test_images_are_compared_in_pairs(script):
    before = torch.tensor([True, True, False, False]), torch.tensor([1.0, 1.0, 2.0, 2.0])
    after = torch.tensor([True, False, True, True]), torch.tensor([1.0, 2.0, 1.0, 1.0])
    found = script.compared(before, after)
    assert (found["accuracy"], found["change"], found["lost"], found["gained"]) == (0.75, 0.25, 1, 2)
    assert found["loss_change"] == pytest.approx(-0.25)
    assert found["change_standard_error"] == pytest.approx(0.4787, abs=1e-4)
