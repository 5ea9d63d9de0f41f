"""Relevance is the gradient-weighted map of the oracle, summed over its rows, for any score."""

from typing import Any

import pytest
import torch
from torch import nn

from crosshead.explain.cells import landmark_cells
from crosshead.explain.record import record
from crosshead.explain.relevance import layer_relevance, relevance
from crosshead.tasks.detect.net import build_detector
from crosshead.vision import IViT

EXACT: Any = {"rtol": 1e-9, "atol": 1e-11}
TINY: dict[str, Any] = {
    "depths": (1, 1, 2, 1),
    "dims": (8, 8, 16, 16),
    "head_dim": 8,
    "landmarks": 2,
    "kernel_size": 3,
}


def test_it_is_the_dense_map_times_its_gradient(case, dense_map):
    layer, x, arguments = case
    with record(layer, gradients=True) as recording:
        score = (layer(x, **arguments) ** 2)[:, ::3].sum()
    found = layer_relevance(recording, score)[""]

    # The same from the N x M map, its values and its gradient, each formed in full.
    call: Any = recording[0]
    attention = dense_map(layer, x, **arguments).requires_grad_()
    values = call.values(slice(None))
    outputs = attention @ values
    torch.testing.assert_close(outputs, call.output, **EXACT)
    (of_outputs,) = torch.autograd.grad(score, call.output, retain_graph=True)
    (of_map,) = torch.autograd.grad(outputs, attention, of_outputs)
    torch.testing.assert_close(found, (attention * of_map).sum(2).detach(), **EXACT)
    torch.testing.assert_close(found.sum(), (call.output * of_outputs).sum(), **EXACT)


def test_it_foretells_what_a_small_change_of_values_does(make_case):
    layer, x, arguments = make_case("image")
    with record(layer, gradients=True) as recording:
        y = layer(x, **arguments)
    weights = torch.randn_like(y)
    found = layer_relevance(recording, (y * weights).sum())[""]
    call = recording[0]
    values = call.values(slice(None))
    fewer = values.clone()
    fewer[1, 2, 17] = 0
    attention = torch.cat([call.factors.query(slice(None)) @ call.factors.key(slice(None))])
    given = [(attention @ v).transpose(1, 2).flatten(2) for v in (values, fewer)]
    scores = [(layer.proj(out) * weights).sum() for out in given]
    torch.testing.assert_close(found[1, 2, 17], (scores[0] - scores[1]).detach(), **EXACT)


@pytest.fixture(scope="module")
def net() -> nn.Module:
    torch.manual_seed(0)
    net = IViT(num_classes=3, **TINY).double().eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return net


IMAGE = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(0)).double()


def test_layers_add_up_on_the_grid_of_the_first(net):
    with record(net, gradients=True) as recording:
        scores = net(IMAGE)
    by_layer = layer_relevance(recording, scores[0, 1])
    first, second, third = (owed.clamp(min=0).mean(1) for owed in by_layer.values())
    assert (first.shape, third.shape) == ((1, 24), (1, 6))
    # The last stage has 2 x 3 tokens, each over 2 x 2 of the 4 x 6 before it.
    handed_down = third.view(1, 2, 3).repeat_interleave(2, 1).repeat_interleave(2, 2).flatten(1) / 4
    torch.testing.assert_close(relevance(recording, scores[0, 1]), first + second + handed_down, **EXACT)
    assert not torch.allclose(relevance(recording, scores[0, 2]), relevance(recording, scores[0, 1]))


def test_a_frozen_net_has_relevance_too(net):
    with record(net, gradients=True) as recording:
        score = net(IMAGE)[0, 0]
    expected = relevance(recording, score)
    for parameter in net.parameters():
        parameter.requires_grad_(False)
    with record(net, gradients=True) as recording:
        score = net(IMAGE)[0, 0]
    torch.testing.assert_close(relevance(recording, score), expected, **EXACT)
    assert all(parameter.grad is None for parameter in net.parameters())
    net.requires_grad_()


def test_a_layer_that_the_score_does_not_depend_on_has_none(net):
    with record(net, gradients=True) as recording:
        maps = net.forward_intermediates(IMAGE)[1]
    found = layer_relevance(recording, maps[2][0, 5, 1, 2])
    assert found["stages.2.blocks.1.attn"].any()
    assert not found["stages.3.blocks.0.attn"].any()


def test_a_pixel_of_one_image_owes_nothing_to_another():
    torch.manual_seed(0)
    net = IViT(num_classes=3, **TINY).eval()
    with record(net, gradients=True) as recording:
        score = net(torch.randn(2, 3, 64, 64))[1, 0]
    found = relevance(recording, score)
    assert not found[0].any()
    assert found[1].any()


def test_a_box_has_relevance():
    torch.manual_seed(0)
    detector: Any = build_detector(
        "faster-rcnn",
        "ivit_nano",
        num_classes=2,
        in_chans=3,
        mean=(0.5,) * 3,
        std=(0.2,) * 3,
        min_size=64,
        max_size=96,
        anchor_sizes=(8, 16, 32, 64, 128),
        pyramid_dim=16,
        backbone_options=TINY,
    ).eval()
    with record(detector, gradients=True) as recording:
        found = detector([torch.rand(3, 64, 80)])[0]
    for score in (found["scores"][0], found["boxes"][0, 2]):
        assert (relevance(recording, score) > 0).any()


def message(recording, score) -> str:
    with pytest.raises(ValueError, match=r"\A[^\n]+\Z") as caught:  # one line
        relevance(recording, score)
    return str(caught.value)


def test_what_relevance_needs(net):
    with record(net) as recording:
        scores = net(IMAGE)
    assert "make it with record(model, gradients=True)" in message(recording, scores[0, 0])
    with record(net, gradients=True) as recording:
        scores = net(IMAGE)
    assert "score must be one number; got (1, 3)" in message(recording, scores)
    assert "score must have a graph" in message(recording, scores[0, 0].detach())
    with torch.inference_mode(), record(net, gradients=True) as recording:
        scores = net(IMAGE)
    assert "call the net itself, not predict" in message(recording, scores[0, 0])


def test_cells_of_a_recording_with_gradients_are_plain_numbers(net):
    with record(net, gradients=True) as recording:
        net(IMAGE)
    assert not landmark_cells(recording[0]).requires_grad
