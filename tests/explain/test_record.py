"""A recording holds what was called inside its block, in any model, and leaves the model as it was."""

import copy
import gc
import io
from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
from torch import nn

from crosshead import InteractiveAttention
from crosshead.explain.call import LayerCall
from crosshead.explain.maps import map_rows
from crosshead.explain.record import record
from crosshead.explain.recording import Recording
from crosshead.tasks.change.net import SiameseNet
from crosshead.tasks.detect.net import build_detector
from crosshead.tasks.segment.net import SegmentationNet
from crosshead.vision import IsotropicViT, IViT, swap_attention

TINY: dict[str, Any] = {
    "depths": (1, 1, 2, 1),
    "dims": (8, 8, 16, 16),
    "head_dim": 8,
    "landmarks": 2,
    "kernel_size": 3,
}
VIT: dict[str, Any] = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 3}


def detector() -> nn.Module:
    return build_detector(
        "retinanet",
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
    )


def vit(**options: Any) -> nn.Module:
    return timm.create_model("vit_tiny_patch16_224", **{**VIT, **options})


# By what stands around the layers: the net, and the grids of its layers for an image of 64 x 32 pixels.
MODELS: dict[str, tuple[Callable[[], Any], list[tuple[int, int]]]] = {
    "ivit": (lambda: IViT(**TINY), [(4, 2), (4, 2), (2, 1)]),
    "isotropic": (lambda: IsotropicViT(**{**VIT, "img_size": (64, 32)}, reg_tokens=1), [(8, 4)] * 2),
    "swapped": (lambda: swap_attention(vit(img_size=(64, 32))), [(8, 4)] * 2),
    "swapped, any size": (lambda: swap_attention(vit(dynamic_img_size=True), keep=(0,)), [(8, 4)]),
    "linearized": (
        lambda: timm.create_model(
            "linearized_vit", architecture="vit_tiny_patch16_224", dynamic_img_size=True, **VIT
        ),
        [(8, 4)] * 2,
    ),
    "detector": (detector, [(6, 4), (6, 4), (3, 2)]),  # scaled by 1.5, and padded to multiples of 32
    "segmenter": (
        lambda: SegmentationNet(
            "fpn", "ivit_nano", num_classes=2, in_chans=3, decoder_dim=64, backbone_options=TINY
        ),
        [(4, 2), (4, 2), (2, 1)],
    ),
    "change": (
        lambda: SiameseNet("ivit_nano", in_chans=3, dim=8, detail_dim=4, **TINY),
        [(4, 2), (4, 2), (2, 1)],
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_every_kind_of_model_is_seen_as_it_computes(name):
    torch.manual_seed(0)
    build, grids = MODELS[name]
    net = build().eval()
    image = torch.randn(1, 3, 64, 32)
    inputs = {"detector": ([image[0]],), "change": (image, image + 1)}.get(name, (image,))
    with torch.no_grad():
        before = net(*inputs)
        with record(net, gradients=True) as recording:
            during = net(*inputs)
    assert str(before) == str(during)
    assert [call.grid for call in recording] == grids
    for call in recording:
        assert net.get_submodule(call.name) is call.layer
        given = torch.cat([output for _, output in call.factors.outputs()], 2)
        torch.testing.assert_close(given, call.output, rtol=1e-4, atol=1e-5)


@pytest.fixture
def net() -> IViT:
    torch.manual_seed(0)
    return IViT(num_classes=3, **TINY).eval()


IMAGE = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def observers(net: nn.Module) -> list[object]:
    return [
        vars(module).get("_observers") for module in net.modules() if isinstance(module, InteractiveAttention)
    ]


def test_nothing_is_left_in_the_model(net):
    state = [set(vars(module)) for module in net.modules()]
    with record(net):
        net(IMAGE)
        assert all(observers(net))
    assert [set(vars(module)) for module in net.modules()] == state


def test_an_error_inside_leaves_the_model_as_it_was_and_is_the_error_that_is_seen(net):
    with pytest.raises(ZeroDivisionError), record(net):
        raise ZeroDivisionError
    assert not any(observers(net))


def test_what_the_model_does_later_changes_no_recording(net):
    layer = InteractiveAttention(8, 2, landmarks=(2, 2)).eval()
    x = torch.randn(1, 16, 8)
    mask = torch.ones(1, 16, dtype=torch.bool)
    mask[0, 3] = False
    with record(layer) as recording:
        layer(x, grid=(4, 4), key_mask=mask)
    before = map_rows(recording[0], 5)
    x.zero_()
    mask.fill_(True)
    recording[0].__dict__.pop("factors")
    torch.testing.assert_close(map_rows(recording[0], 5), before)


def test_weights_that_change_later_are_told(net):
    with record(net) as recording:
        net(IMAGE)
    with torch.no_grad():
        recording[1].layer.qkv.weight.mul_(2)
    assert map_rows(recording[0], 0).shape == (1, 2, 1, 16)
    with pytest.raises(
        ValueError, match=r"weights of layer 'stages.2.blocks.1.attn' have changed .* record it again"
    ):
        map_rows(recording[1], 0)


def test_what_is_recorded_belongs_to_no_graph(net):
    with record(net) as recording:
        net(IMAGE)
    assert not map_rows(recording[0], 0).requires_grad
    assert all(call.output is None for call in recording)


def test_a_recording_made_in_inference_mode_is_of_use_outside(net):
    with torch.inference_mode(), record(net) as recording:
        net(IMAGE)
    assert map_rows(recording[-1], (1, 1)).sum() > 0


def test_two_passes_are_two_calls_of_which_the_last_is_looked_up(net):
    with torch.no_grad(), record(net) as recording:
        net(IMAGE)
        net(IMAGE[..., :32])
    assert len(recording) == 6
    assert [call.grid for call in recording] == [(4, 4), (4, 4), (2, 2), (4, 2), (4, 2), (2, 1)]
    assert recording["stages.2.blocks.0.attn"] is recording.calls[3]
    assert recording[-1] is recording.calls[5]
    assert recording.names == ["stages.2.blocks.0.attn", "stages.2.blocks.1.attn", "stages.3.blocks.0.attn"]
    with pytest.raises(
        ValueError, match=r"'stages.2.blocks.0.attn' was called 2 times: record one forward pass"
    ):
        recording.one_pass()


def test_blocks_may_be_nested(net):
    with record(net) as outer:
        net(IMAGE)
        with record(net, layers="stages.3") as inner:
            net(IMAGE)
        net(IMAGE)
    assert (len(outer), len(inner)) == (9, 1)
    assert inner[0] is not outer[2]
    assert not any(observers(net))


def test_a_copy_made_inside_the_block_is_not_recorded(net):
    def recorded() -> int:
        return sum(type(thing) is LayerCall for thing in gc.get_objects())

    gc.collect()
    before = recorded()
    with record(net) as recording:
        net(IMAGE)
        copied = copy.deepcopy(net)
        file = io.BytesIO()
        torch.save(net, file)
        file.seek(0)
        for other in (copied, torch.load(file, weights_only=False)):
            other(IMAGE)
    assert len(recording) == 3
    assert recorded() == before + 3


def test_memory_is_that_of_the_tokens_and_has_a_bound(net):
    with record(net) as recording:
        net(IMAGE)
    tokens = sum(call.x.nbytes for call in recording)
    assert tokens == 4 * (2 * 16 * 16 + 4 * 16)
    # Landmarks, 2 x 2 of queries and as many of keys for each layer, are the rest.
    assert recording.nbytes == tokens + 3 * 2 * 4 * 4 * 16
    assert record(net, budget=recording.nbytes).__enter__() is not None
    with (
        pytest.raises(
            ValueError, match=r"layer 'stages.3.blocks.0.attn' needs 0.0 MiB beside .* raise it"
        ) as caught,
        record(net, budget=recording.nbytes - 1),
    ):
        net(IMAGE)
    assert "\n" not in str(caught.value)
    assert not any(observers(net))


def test_a_block_without_a_forward_pass_is_told(net):
    with (
        pytest.raises(
            ValueError, match=r"no forward pass was seen: the block called none of stages.3.blocks.0.attn"
        ),
        record(net, layers=-1),
    ):
        pass
    with pytest.raises(ValueError, match="no layer has been called yet"):
        Recording()[0]


def test_a_layer_that_was_not_recorded_is_told_with_the_nearest(net):
    with record(net, layers="stages.2") as recording:
        net(IMAGE)
    with pytest.raises(
        ValueError, match=r"'stages.3.blocks.0.attn' is none of the 2 layers: the nearest is 'stages.2"
    ):
        recording["stages.3.blocks.0.attn"]
    with pytest.raises(
        ValueError, match=r"layer must be -2 to 1; got 2: the nearest is 'stages.2.blocks.1.attn'"
    ):
        recording[2]
    with pytest.raises(
        ValueError, match=r"'stages.2' holds 2 layers: name one, such as 'stages.2.blocks.0.attn'"
    ):
        recording["stages.2"]


def test_a_function_that_was_compiled_is_seen_or_refused(net):
    layer = net.stages[3].blocks[0].attn
    x = torch.randn(1, 4, 16)
    compiled = torch.compile(lambda x: layer(x, grid=(2, 2)), backend="eager")
    with torch.no_grad(), record(net) as recording:
        compiled(x)
    assert type(recording[0].x) is torch.Tensor
    torch.testing.assert_close(recording[0].x, x)
    whole = torch.compile(lambda x: layer(x, grid=(2, 2)), backend="eager", fullgraph=True)
    with pytest.raises(Exception, match=r"calls in torch.compile"), torch.no_grad(), record(net):
        whole(x)


def test_a_call_inside_a_transform_is_refused(net):
    with (
        pytest.raises(ValueError, match=r"torch.func cannot be recorded: call the model itself"),
        record(net),
    ):
        torch.func.vmap(net)(IMAGE[None])
    assert not any(observers(net))
