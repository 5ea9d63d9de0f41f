"""The pieces of iViT: shapes, memory layout, what is local and what is global."""

from typing import Any

import pytest
import torch
from torch import nn
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

from crosshead.vision.blocks import AttentionBlock, ConvBlock, ConvMlp, Downsample, Stem


def channels_last(*shape: int) -> torch.Tensor:
    torch.manual_seed(0)
    return torch.randn(*shape).contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    ("stride", "size", "tokens"),
    [
        (4, (33, 28), (9, 7)),
        (2, (33, 28), (17, 14)),
        (1, (33, 28), (33, 28)),
        (4, (1, 1), (1, 1)),
    ],
)
def test_stem_rounds_sizes_up(stride, size, tokens):
    assert Stem(3, 16, stride=stride)(torch.zeros(1, 3, *size)).shape == (1, 16, *tokens)


def test_stem_has_the_same_parameters_at_every_stride():
    shapes = [[p.shape for p in Stem(3, 16, stride=stride).parameters()] for stride in (4, 2, 1)]
    assert shapes[0] == shapes[1] == shapes[2]


@pytest.mark.parametrize("stride", [0, 3, 8])
def test_stem_refuses_other_strides(stride):
    with pytest.raises(ValueError, match=f"stem_stride must be 4, 2 or 1 pixels; got {stride}"):
        Stem(3, 16, stride=stride)


@pytest.mark.parametrize(
    "module",
    [
        Stem(3, 16),
        Downsample(3, 16),
        ConvBlock(3, kernel_size=7),
        AttentionBlock(12, num_heads=3, landmarks=2),
    ],
    ids=lambda module: type(module).__name__,
)
def test_channels_stay_innermost_in_memory(module):
    channels = 12 if isinstance(module, AttentionBlock) else 3
    image = torch.randn(2, channels, 16, 12)
    if not isinstance(module, Stem):
        image = image.contiguous(memory_format=torch.channels_last)
    assert module(image).is_contiguous(memory_format=torch.channels_last)


def test_stem_computes_in_channels_last_whatever_the_image_is():
    stem, seen = Stem(3, 16), []
    stem.conv1.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    stem(torch.randn(2, 3, 16, 12))
    assert seen[0].is_contiguous(memory_format=torch.channels_last)


def test_downsample_without_stride_holds_what_it_gives_with_it():
    torch.manual_seed(0)
    strided = Downsample(8, 12)
    dense = Downsample(8, 12, stride=1)
    dense.load_state_dict(strided.state_dict())
    x = channels_last(1, 8, 9, 7)
    assert_close(dense(x)[:, :, ::2, ::2], strided(x))


def test_conv_block_with_dilation_is_the_block_on_every_other_token():
    torch.manual_seed(0)
    plain = ConvBlock(8, kernel_size=5)
    dilated = ConvBlock(8, kernel_size=5, dilation=2)
    dilated.load_state_dict(plain.state_dict())
    x = channels_last(1, 8, 9, 7)
    assert_close(dilated(x)[:, :, ::2, ::2], plain(x[:, :, ::2, ::2]))


def touched(block: nn.Module) -> torch.Tensor:
    """Which tokens change when the first one does."""
    x = channels_last(1, 12, 6, 8).double()
    changed = x.clone()
    changed[:, :, 0, 0] = changed[:, :, 0, 0].flip(-1)
    return ((block.double()(changed) - block.double()(x)).abs().sum(1)[0] > 1e-9).float()


def test_conv_block_sees_its_neighbourhood_and_attention_the_whole_grid():
    torch.manual_seed(0)
    neighbourhood = torch.zeros(6, 8)
    neighbourhood[:3, :3] = 1
    assert_close(touched(ConvBlock(12, kernel_size=5)), neighbourhood)
    assert_close(touched(AttentionBlock(12, num_heads=3, landmarks=2)), torch.ones(6, 8))


@pytest.mark.parametrize("axis", [2, 3])
def test_attention_block_flips_with_its_image(axis):
    torch.manual_seed(0)
    block = AttentionBlock(12, num_heads=3, landmarks=(2, 3), kernel_size=1).double()
    x = channels_last(1, 12, 5, 8).double()
    assert_close(block(x.flip(axis)), block(x).flip(axis))


def test_position_comes_from_depth_wise_convolution_alone():
    torch.manual_seed(0)
    block = AttentionBlock(12, num_heads=3, landmarks=1).double()
    x = channels_last(1, 12, 6, 8).double()
    order = torch.randperm(48)

    def permuted(y):
        return y.flatten(2)[:, :, order].unflatten(2, (6, 8))

    assert (block(permuted(x)) - permuted(block(x))).abs().max() > 0.01
    weight = block.conv.conv_dw.weight
    centre = torch.zeros_like(weight)
    centre[:, :, 1, 1] = weight[:, :, 1, 1]
    weight.data.copy_(centre)
    assert_close(block(permuted(x)), permuted(block(x)))


def test_layer_scale_starts_at_its_value_and_scales_both_branches():
    torch.manual_seed(0)
    block = AttentionBlock(12, num_heads=3, landmarks=2, init_values=0.25)
    assert [tuple(p.unique()) for n, p in block.named_parameters() if "scale" in n] == [(0.25,), (0.25,)]
    x = channels_last(1, 12, 4, 4)
    for name, parameter in block.named_parameters():
        if "scale" in name:
            nn.init.zeros_(parameter)
    assert_close(block(x), x)


def test_drop_path_and_dropout_act_in_training_alone():
    block = AttentionBlock(12, num_heads=3, landmarks=2, drop_path=0.999, proj_drop=0.5)
    x = channels_last(4, 12, 4, 4)
    torch.manual_seed(0)
    assert_close(block.train()(x), x)
    evaluated = block.eval()(x)
    assert not torch.allclose(evaluated, x)
    assert_close(block(x), evaluated, rtol=0, atol=0)


@pytest.mark.filterwarnings("ignore:.torch.jit:FutureWarning")
def test_torchscript_is_refused_even_where_nothing_attends():
    with pytest.raises(NotImplementedError, match=r"cannot compile Stem.*torch\.export"):
        torch.jit.script(Stem(3, 8, stride=4))


class Activations(TorchDispatchMode):
    """Notes which kinds of GELU run."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        self.names += [name] if name.startswith("gelu") else []
        return func(*args, **(kwargs or {}))


def activations(mlp: nn.Module, x: torch.Tensor) -> list[str]:
    with Activations() as seen:
        mlp(x)
    return seen.names


def test_without_gradients_a_gelu_overwrites_the_hidden_map_and_nothing_else():
    torch.manual_seed(0)
    mlp, x = ConvMlp(8, 32, use_conv=True, drop=0.5).eval(), channels_last(2, 8, 5, 4)
    given, expected = x.clone(), mlp(x)
    with torch.no_grad():
        assert activations(mlp, x) == ["gelu_"]
        assert torch.equal(mlp(x), expected)
    assert torch.equal(x, given)
    assert activations(mlp, x) == ["gelu"]


@pytest.mark.parametrize("name", ["fc1", "act"])
def test_who_watches_the_hidden_map_sees_it_as_it_was_made(name):
    torch.manual_seed(0)
    mlp, x, seen = ConvMlp(8, 32, use_conv=True).eval(), channels_last(2, 8, 5, 4), []
    hidden = mlp.fc1(x)
    getattr(mlp, name).register_forward_hook(lambda module, args, y: seen.append((args[0], y)))
    with torch.no_grad():
        assert activations(mlp, x) == ["gelu"]
    assert torch.equal(seen[0][name == "fc1"], hidden)


@pytest.mark.parametrize("act", [nn.ReLU, lambda: nn.GELU(approximate="tanh")], ids=["relu", "tanh"])
def test_another_activation_is_called(act):
    torch.manual_seed(0)
    mlp, x = ConvMlp(8, 32, use_conv=True, act_layer=act).eval(), channels_last(2, 8, 5, 4)
    with torch.no_grad():
        assert "gelu_" not in activations(mlp, x)
        assert torch.equal(mlp(x), mlp.fc2(act()(mlp.fc1(x))))


def test_a_layer_that_hands_its_input_on_is_not_overwritten():
    mlp, x = ConvMlp(8, 8, use_conv=True).eval(), channels_last(2, 8, 5, 4)
    given = x.clone()
    mlp.add_module("fc1", nn.Identity())
    with torch.no_grad():
        mlp(x)
    assert torch.equal(x, given)


def test_tracers_see_a_gelu_that_overwrites_nothing():
    mlp, x = ConvMlp(8, 32, use_conv=True).eval(), channels_last(2, 8, 5, 4)
    with torch.no_grad():
        traced: Any = torch.jit.trace(mlp, x)
        assert "gelu_" not in str(traced.inlined_graph)
        assert "gelu_" not in str(torch.export.export(mlp, (x,)).graph)


def test_transforms_follow_a_gelu_that_overwrites():
    torch.manual_seed(0)
    mlp, x = ConvMlp(8, 32, use_conv=True).eval(), channels_last(2, 8, 5, 4)
    expected = torch.func.jvp(mlp, (x,), (x,))
    with torch.no_grad():
        assert_close(torch.func.vmap(mlp)(x[:, None])[:, 0], mlp(x))
        assert_close(torch.func.jvp(mlp, (x,), (x,)), expected)
