"""Which layers can be looked into, by name or number, and what cannot: one line each."""

import copy

import pytest
import torch
from torch import nn

from crosshead.explain.layers import attention_layers, chosen_layers
from crosshead.vision import IViT

NAMES = ["stages.2.blocks.0.attn", "stages.2.blocks.1.attn", "stages.3.blocks.0.attn"]


@pytest.fixture(scope="module")
def net() -> IViT:
    return IViT(depths=(1, 1, 2, 1), dims=(8, 8, 16, 16), head_dim=8, landmarks=2).eval()


@pytest.mark.parametrize(
    ("layers", "places"),
    [
        (None, [0, 1, 2]),
        ("stages.3.blocks.0.attn", [2]),
        ("stages.2", [0, 1]),
        (1, [1]),
        (-1, [2]),
        ([-1, 0], [0, 2]),
        (["stages.2", 0], [0, 1]),
    ],
)
def test_names_numbers_and_parts_of_the_model(net, layers, places):
    assert list(chosen_layers(net, layers)) == [NAMES[place] for place in places]


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ("stages.2.blocks.7.attn", "is none of the 3 layers: the nearest is 'stages.2.blocks."),
        ("stages.2.b", "'stages.2.b' is none of the 3 layers: the nearest is 'stages.2"),
        ("stages.1", "'stages.1' is none of the 3 layers: the nearest is 'stages"),
        (3, "layer must be -3 to 2; got 3: the nearest is 'stages.3.blocks.0.attn'"),
        (-4, "layer must be -3 to 2; got -4: the nearest is 'stages.2.blocks.0.attn'"),
        ([], "layers must name one layer or more; got none"),
    ],
)
def test_a_layer_that_does_not_exist(net, layers, message):
    with pytest.raises(ValueError, match=message) as caught:
        chosen_layers(net, layers)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("layer", [1.0, True, nn.Linear(1, 1)])
def test_a_layer_is_a_name_or_a_number(net, layer):
    with pytest.raises(TypeError, match="must be a name or a number"):
        chosen_layers(net, [layer])


def refusal(model: object, kind: type[Exception] = ValueError) -> str:
    with pytest.raises(kind) as caught:
        attention_layers(model)  # pyright: ignore[reportArgumentType]
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_model_without_interactive_attention():
    assert refusal(nn.Linear(2, 2)) == (
        "model must hold InteractiveAttention; Linear holds none: take an iViT, or swap the attention of a "
        "ViT with crosshead.vision.swap_attention"
    )


def test_what_holds_a_net_is_no_net(net):
    class Trained:
        def __init__(self) -> None:
            self.net = net

    assert "must be a torch.nn.Module; got Trained: give its net, model.net" in refusal(Trained(), TypeError)
    assert "got str: give a net" in refusal("runs/digits-1", TypeError)


def test_a_compiled_model(net):
    assert "must not be compiled; got OptimizedModule" in refusal(torch.compile(net))
    around = nn.Sequential(net)
    around[0] = torch.compile(net)  # pyright: ignore[reportArgumentType]
    assert "must not be compiled" in refusal(around)
    in_place = copy.deepcopy(net)
    in_place.compile()
    assert "copy.deepcopy(model)" in refusal(in_place)
    assert list(attention_layers(copy.deepcopy(in_place))) == NAMES


def test_an_exported_model():
    layer, x = nn.Linear(2, 2), torch.zeros(1, 2)
    exported = torch.export.export(layer, (x,)).module()
    assert "an exported net has none: load the run that it was exported from" in refusal(exported)
    assert "an exported net has none" in refusal(torch.jit.trace(layer, x))

    class Session(nn.Module):
        """As what runs an ONNX file: no parameters."""

    assert "an exported net has none" in refusal(Session())
