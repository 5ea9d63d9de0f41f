from typing import Any

import pytest
import timm
import torch

from crosshead.tasks.segment.net import SegmentationNet

TINY: Any = {"depths": (1, 1, 1, 1), "dims": (8, 16, 32, 64), "landmarks": (4, 4, 3, 2)}
BACKBONES: Any = {
    "resnet18": ("resnet18", {}),
    "stride 4": ("ivit_nano", TINY),
    "stride 2": ("ivit_nano", {**TINY, "stem_stride": 2}),
    "stride 1": ("ivit_nano", {**TINY, "stem_stride": 1}),
}


def build(
    decoder: Any = "fpn", backbone: str = "stride 4", *, in_chans: int = 3, **options: Any
) -> SegmentationNet:
    torch.manual_seed(0)
    name, known = BACKBONES[backbone]
    known = {**known, **options.pop("backbone_options", {})}
    options = {"num_classes": 4, "decoder_dim": 64, **options}
    return SegmentationNet(decoder, name, in_chans=in_chans, backbone_options=known, **options).eval()


def images(height: int, width: int, *, count: int = 2, channels: int = 3) -> torch.Tensor:
    return torch.randn(count, channels, height, width, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("decoder", ["upernet", "fpn"])
@pytest.mark.parametrize("backbone", BACKBONES)
@torch.no_grad()
def test_scores_have_the_size_of_the_image_whatever_it_is(decoder, backbone):
    net = build(decoder, backbone)
    for size in [(1, 1), (17, 23), (33, 65), (64, 32)]:
        scores = net(images(*size))
        assert scores.shape == (2, 4, *size)
        assert scores.isfinite().all()


@pytest.mark.parametrize("decoder", ["upernet", "fpn"])
@pytest.mark.parametrize("channels", [1, 3, 6, 13])
@torch.no_grad()
def test_images_have_any_number_of_channels(decoder, channels):
    net = build(decoder, in_chans=channels)
    assert net(images(20, 20, channels=channels)).shape == (2, 4, 20, 20)
    with pytest.raises(ValueError, match=rf"images must be \(B, {channels}, H, W\)"):
        net(images(20, 20, channels=channels + 1))


@pytest.mark.parametrize(("backbone", "stride"), [("stride 4", 32), ("stride 2", 16), ("stride 1", 8)])
@torch.no_grad()
def test_padding_repeats_the_border_up_to_the_largest_stride_and_no_further(backbone, stride):
    net, seen = build(backbone=backbone), []
    net.net.encoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    image = images(stride, stride + 1)
    net(image)
    assert seen[0].shape == (2, 3, stride, 2 * stride)
    assert torch.equal(seen[0][..., : stride + 1], image)
    assert torch.equal(seen[0][..., stride + 1 :], image[..., -1:].expand(-1, -1, -1, stride - 1))


@pytest.mark.parametrize("decoder", ["upernet", "fpn"])
@pytest.mark.parametrize(
    ("backbone", "side"), [("resnet18", 8), ("stride 4", 8), ("stride 2", 16), ("stride 1", 32)]
)
@torch.no_grad()
def test_scores_are_made_at_the_stride_of_the_stem(decoder, backbone, side):
    assert build(decoder, backbone).net(images(32, 32)).shape == (2, 4, side, side)


@torch.no_grad()
def test_scores_lie_where_their_pixels_lie():
    net, image = build(), images(17, 23)
    padded = torch.nn.functional.pad(image, (0, 9, 0, 15), mode="replicate")
    torch.testing.assert_close(net(image), net(padded)[..., :17, :23])


@pytest.mark.parametrize("decoder", ["upernet", "fpn"])
@torch.no_grad()
def test_in_evaluation_images_of_a_batch_do_not_know_of_each_other(decoder):
    net, both = build(decoder, "resnet18"), images(33, 40)
    alone = torch.cat([net(image[None]) for image in both])
    torch.testing.assert_close(net(both), alone, rtol=1e-4, atol=1e-5)


def test_the_timm_model_is_where_the_docstring_says_and_has_the_options():
    net = build(backbone="stride 2", backbone_options={"depths": (1, 2, 1, 1)})
    inside = net.net.encoder.model
    assert inside.feature_info.reduction() == [2, 4, 8, 16]
    assert inside.feature_info.channels() == [8, 16, 32, 64]
    classifier = timm.create_model("ivit_nano", **{**TINY, "depths": (1, 2, 1, 1)}).state_dict()
    flat = {name.replace("stages.", "stages_"): value.shape for name, value in classifier.items()}
    shapes = {name: value.shape for name, value in inside.state_dict().items()}
    assert shapes.items() <= flat.items()
    assert {name.split(".")[0] for name in flat.keys() - shapes.keys()} == {"norm", "head"}


@pytest.mark.parametrize("decoder", ["upernet", "fpn"])
def test_checkpointing_changes_neither_loss_nor_gradients(decoder):
    def step(*, checkpointing: bool) -> tuple[torch.Tensor, list[torch.Tensor]]:
        net = build(decoder).train()
        net.set_grad_checkpointing(checkpointing)
        assert {stage.grad_checkpointing for name, stage in net.net.encoder.model.items() if "stages" in name}
        torch.manual_seed(2)
        loss = net(images(32, 32)).square().mean()
        loss.backward()
        return loss.detach(), [each.grad for each in net.parameters() if each.grad is not None]

    loss, gradients = step(checkpointing=False)
    same_loss, same_gradients = step(checkpointing=True)
    torch.testing.assert_close(same_loss, loss)
    torch.testing.assert_close(same_gradients, gradients)


def test_checkpointing_keeps_fewer_activations():
    def kept(*, checkpointing: bool) -> int:
        net, sizes = build(backbone_options={"depths": (2, 2, 2, 2)}).train(), []
        net.set_grad_checkpointing(checkpointing)
        with torch.autograd.graph.saved_tensors_hooks(
            lambda tensor: sizes.append(tensor.numel()) or tensor, lambda tensor: tensor
        ):
            net(images(64, 64))
        return sum(sizes)

    assert kept(checkpointing=True) < 0.8 * kept(checkpointing=False)


def test_the_backbone_and_the_decoder_learn():
    net = build("upernet", "stride 1").train()
    net(images(16, 16)).square().mean().backward()
    still = {name for name, each in net.named_parameters() if each.grad is None or not each.grad.any()}
    assert not {name for name in still if "mixing" not in name and not name.endswith("bias")}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"decoder": "unet"}, "decoder must be 'upernet' or 'fpn'; got 'unet'"),
        ({"decoder_dim": 96}, "multiple of 64 for fpn; got 96"),
        ({"num_classes": 0}, "num_classes must be 1 or more; got 0"),
        ({"backbone_options": {"output_stride": 16}}, r"\(4, 8, 16, 16\): leave out output_stride"),
    ],
)
def test_what_the_decoders_cannot_do_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        build(**options)


def test_a_batch_of_one_image_trains_fpn_and_is_refused_by_upernet():
    build("fpn").train()(images(32, 32, count=1)).square().mean().backward()
    with pytest.raises(ValueError, match="raise the batch size, or use the decoder fpn"):
        build("upernet").train()(images(32, 32, count=1))


@torch.no_grad()
def test_upernet_takes_a_dilated_backbone():
    net = build("upernet", backbone_options={"output_stride": 16})
    assert net.stride == 16
    assert net(images(17, 40)).shape == (2, 4, 17, 40)
