"""The change detector: sizes, channels, what each date is worth, and what training needs."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from crosshead.tasks.change.net import ChangeDecoder, DateFusion, SiameseNet, class_probabilities

# All stages of iViT, convolutional and interactive, as small as they get.
TINY = {"depths": (1, 1, 1, 1), "dims": (8, 16, 16, 32), "landmarks": 2, "stem_stride": 1}


def build(in_chans: int = 3, **options) -> SiameseNet:
    torch.manual_seed(0)
    net = SiameseNet("ivit_nano", **{"in_chans": in_chans, "dim": 8, "detail_dim": 4, **TINY, **options})
    return net.double().eval()


def dates(height: int = 16, width: int = 16, *, channels: int = 3, batch: int = 2) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    size = 2, batch, channels, height, width
    before, after = torch.randn(size, generator=generator, dtype=torch.float64)
    return before, after


def quiet(net: nn.Module, *images: Tensor) -> Tensor:
    with torch.no_grad():
        return net(*images)


@pytest.mark.parametrize("size", [(16, 16), (17, 31), (1, 1), (5, 40), (8, 9)])
@pytest.mark.parametrize("stem_stride", [1, 4])
def test_scores_every_pixel_of_an_image_of_any_size(size, stem_stride):
    scores = quiet(build(num_classes=3, stem_stride=stem_stride), *dates(*size))
    assert scores.shape == (2, 3, *size)
    assert scores.isfinite().all()


@pytest.mark.parametrize("channels", [1, 6, 13])
def test_takes_any_number_of_channels_and_uses_each(channels):
    net, (before, after) = build(channels), dates(channels=channels)
    scores = quiet(net, before, after)
    assert scores.shape == (2, 2, 16, 16)
    for channel in range(channels):
        other = after.clone()
        other[:, channel] += 1
        assert not torch.allclose(quiet(net, before, other), scores)


def test_images_are_continued_by_their_last_pixels():
    net, (before, after) = build(), dates(13, 10)
    continued = [nn.functional.pad(image, (0, 6, 0, 3), mode="replicate") for image in (before, after)]
    assert net.stride == 8
    assert_close(quiet(net, before, after), quiet(net, *continued)[..., :13, :10])


def test_both_dates_pass_the_same_weights():
    net, (before, after) = build(), dates()
    seen = []
    net.backbone.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    quiet(net, before, after)
    (images,) = seen
    assert_close(images, torch.cat([before, after]))
    parameters = sum(p.numel() for p in net.backbone.parameters())
    assert parameters == sum(p.numel() for p in build(symmetric=True).backbone.parameters())


@pytest.mark.parametrize("symmetric", [True, False])
def test_exchanging_the_dates_changes_nothing_only_when_asked(symmetric):
    net, (before, after) = build(symmetric=symmetric), dates()
    same = torch.allclose(quiet(net, before, after), quiet(net, after, before), rtol=1e-12, atol=1e-12)
    assert same == symmetric


@pytest.mark.parametrize("symmetric", [True, False])
def test_the_joint_map_is_that_of_the_formula(symmetric):
    torch.manual_seed(0)
    fusion = DateFusion(3, 5, symmetric=symmetric).double()
    a, b = torch.randn(2, 2, 3, 4, 6, dtype=torch.float64)
    parts = [(a - b).abs(), a + b] if symmetric else [(a - b).abs(), a, b]
    assert fusion.conv.in_channels == 3 * len(parts)
    mixed = torch.einsum("oi,bixy->boxy", fusion.conv.weight[:, :, 0, 0], torch.cat(parts, dim=1))
    mixed = mixed + fusion.conv.bias[:, None, None]  # pyright: ignore[reportOptionalSubscript]
    centred = mixed - mixed.mean(dim=1, keepdim=True)
    spread = (centred.square().mean(dim=1, keepdim=True) + fusion.norm.eps).sqrt()
    assert_close(fusion(a, b), nn.functional.gelu(centred / spread))


def test_both_dates_and_no_other_pair_decide():
    net, (before, after) = build(), dates(batch=3)
    scores = quiet(net, before, after)
    for images in ((before.roll(1, 0), after), (before, after.roll(1, 0)), (before, before), (after, after)):
        assert not torch.allclose(quiet(net, *images), scores)


def test_samples_of_a_batch_do_not_influence_each_other():
    net, (before, after) = build(), dates(13, 10, batch=3)
    together = quiet(net, before, after)
    for i in range(3):
        assert_close(together[i : i + 1], quiet(net, before[i : i + 1], after[i : i + 1]))
    before[1], after[2] = 7.0, float("nan")
    assert_close(quiet(net, before, after)[0], together[0])


def test_a_changed_pixel_is_seen_where_it_is():
    net, (before, _) = build(stem_stride=4), dates(32, 32, batch=1)
    changed = before.clone()
    changed[..., 9, 20] += 10
    effect = (quiet(net, before, changed) - quiet(net, before, before)).abs().sum(dim=(0, 1))
    row, column = divmod(int(effect.argmax()), 32)
    assert max(abs(row - 9), abs(column - 20)) <= 2


@pytest.mark.parametrize("symmetric", [True, False])
def test_every_parameter_gets_a_gradient(symmetric):
    net = build(6, symmetric=symmetric).train()
    net(*dates(17, 9, channels=6)).square().sum().backward()
    lost = [n for n, p in net.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert lost == []
    idle = [n for n, p in net.named_parameters() if p.grad is not None and not p.grad.any()]
    assert idle == []


def test_gradient_checkpointing_changes_no_gradient():
    net, images = build().train(), dates()
    twin = copy.deepcopy(net)
    twin.set_grad_checkpointing()
    assert twin.backbone.grad_checkpointing
    for one in (net, twin):
        one(*images).square().sum().backward()
    assert_close([p.grad for p in twin.parameters()], [p.grad for p in net.parameters()])
    twin.set_grad_checkpointing(False)
    assert not twin.backbone.grad_checkpointing


def test_a_state_dict_carries_everything():
    net, images = build(), dates()
    torch.manual_seed(9)
    other = SiameseNet("ivit_nano", in_chans=3, dim=8, detail_dim=4, **TINY).double().eval()
    assert not torch.allclose(quiet(other, *images), quiet(net, *images))
    other.load_state_dict(net.state_dict())
    assert torch.equal(quiet(other, *images), quiet(net, *images))


def test_dropout_acts_in_training_alone():
    net, images = build(drop_rate=0.5), dates()
    assert torch.equal(quiet(net, *images), quiet(net, *images))
    net.train()
    assert not torch.allclose(quiet(net, *images), quiet(net, *images))


def test_other_backbones_of_timm_serve_as_well():
    torch.manual_seed(0)
    net = SiameseNet("test_resnet", in_chans=6, dim=8, detail_dim=4).double().eval()
    images = dates(33, 40, channels=6)
    assert net.stride == 32
    assert quiet(net, *images).shape == (2, 2, 33, 40)
    net.train()(*images).sum().backward()
    assert [n for n, p in net.named_parameters() if p.grad is None] == []


def test_the_decoder_joins_all_scales():
    torch.manual_seed(0)
    decoder = ChangeDecoder([4, 8, 8], num_classes=2).double()
    maps = [torch.randn(1, c, s, s + 1, dtype=torch.float64) for c, s in ((4, 12), (8, 6), (8, 3))]
    scores = quiet(decoder, maps)  # pyright: ignore[reportArgumentType]
    assert scores.shape == (1, 2, 12, 13)
    for i in range(3):
        others = [2 * m if i == j else m for j, m in enumerate(maps)]
        assert not torch.allclose(quiet(decoder, others), scores)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ((2, 3, 8, 8), (2, 3, 8, 9)),
        ((2, 3, 8, 8), (1, 3, 8, 8)),
        ((2, 4, 8, 8), (2, 4, 8, 8)),
        ((3, 8, 8),) * 2,
    ],
)
def test_refuses_images_that_do_not_fit(before, after):
    with pytest.raises(ValueError, match=r"must both be \(B, 3, H, W\); got") as caught:
        build()(torch.zeros(before), torch.zeros(after))
    assert f"{before} and {after}" in str(caught.value)


def test_refuses_what_cannot_be_built():
    for name in ("in_chans", "num_classes", "dim", "detail_dim"):
        with pytest.raises(ValueError, match=f"{name} must be 1 or more; got 0"):
            build(**{name: 0})
    with pytest.raises(ValueError, match="stem_stride must be None for resnet18"):
        SiameseNet("resnet18", in_chans=3, stem_stride=1)


@pytest.mark.parametrize("tile", [4, 6, 64, None])
def test_a_net_that_looks_at_single_pixels_gives_the_same_map_whole_and_in_windows(tile):
    before, after = dates(13, 10)
    found = class_probabilities(torch.sub, before, after, tile=tile)
    assert_close(found, (before - after).float().softmax(1))


def test_no_window_is_larger_than_the_tile():
    seen = []

    def watched(before: Tensor, after: Tensor) -> Tensor:
        seen.append((*before.shape[2:], *after.shape[2:]))
        return before

    class_probabilities(watched, *dates(20, 5), tile=8)
    assert set(seen) == {(8, 5, 8, 5)}
