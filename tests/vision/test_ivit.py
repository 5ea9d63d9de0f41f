"""The backbone itself: what its arguments do, what it refuses, and that compilers and tracers take it."""

from typing import Any

import pytest
import torch
from timm.layers import DropPath
from torch import nn
from torch.testing import assert_close
from torchvision.models.feature_extraction import create_feature_extractor

from crosshead import InteractiveAttention
from crosshead.vision import IViT

TINY = {"depths": (1, 1, 2, 1), "dims": (8, 16, 32, 64), "num_classes": 5, "landmarks": (4, 4, 3, 2)}


def build(**options) -> Any:
    torch.manual_seed(0)
    return IViT(**{**TINY, **options}).eval()


def images(height: int = 64, width: int = 96, channels: int = 3) -> torch.Tensor:
    return torch.randn(2, channels, height, width, generator=torch.Generator().manual_seed(1))


def attention(model: Any) -> dict[int, list[InteractiveAttention]]:
    return {
        i: [module for module in stage.modules() if isinstance(module, InteractiveAttention)]
        for i, stage in enumerate(model.stages.children())
    }


def test_attention_stands_in_the_deeper_stages():
    found = attention(build())
    assert [len(found[i]) for i in range(4)] == [0, 0, 2, 1]
    assert [layer.num_heads for layer in found[2]] == [2, 2]
    assert [layer.num_heads for layer in found[3]] == [2]
    assert [layer.landmarks for layer in found[2] + found[3]] == [3, 3, 2]


def test_arguments_per_stage_reach_their_stage():
    model = build(
        attention_stages=[1, 3],
        landmarks=[1, [2, 5], 3, 4],
        head_dim=[1, 4, 3, 8],
        kernel_size=(3, 5, 7, 1),
        mlp_ratio=(1, 2, 3, 4),
        mixing="logits",
        qk_norm=True,
        impl="reference",
    )
    found = attention(model)
    assert [len(found[i]) for i in range(4)] == [0, 1, 0, 1]
    (first,), (second,) = found[1], found[3]
    assert (first.landmarks, second.landmarks) == ((2, 5), 4)
    assert (first.num_heads, second.num_heads) == (4, 8)
    assert first.mixing == "logits"
    assert first.impl == "reference"
    assert isinstance(first.q_norm, nn.LayerNorm)
    sizes = [
        (conv.kernel_size[0], mlp.out_channels // conv.out_channels)
        for conv, mlp in zip(
            [m for n, m in model.named_modules() if n.endswith("conv_dw")],
            [m for n, m in model.named_modules() if n.endswith("mlp.fc1")],
            strict=True,
        )
    ]
    assert sizes == [(3, 1), (5, 2), (7, 3), (7, 3), (1, 4)]


def test_heads_may_talk_within_groups():
    model = build(mixing_group_size=2, head_dim=4)
    shapes = {tuple(x.shape) for name, x in model.named_parameters() if "_mixing." in name}
    assert shapes == {(4, 2, 2), (8, 2, 2)}


@pytest.mark.parametrize(("mixing", "matrices"), [("none", 0), ("logits", 2), ("weights", 2), ("both", 4)])
def test_mixing_matrices_start_at_zero_and_are_not_decayed(mixing, matrices):
    model = build(mixing=mixing)
    named = dict(model.named_parameters())
    assert len(model.no_weight_decay()) == matrices * 3
    for name in model.no_weight_decay():
        assert named[name].shape == (2, 2)
        assert not named[name].any()


def test_every_parameter_is_used():
    model = build(init_values=0.1, qk_norm=True).train()
    model(images()).square().sum().backward()
    idle = [name for name, parameter in model.named_parameters() if not parameter.grad.any()]
    assert idle == []


@pytest.mark.parametrize(
    ("stem_stride", "reductions"), [(4, [4, 8, 16, 32]), (2, [2, 4, 8, 16]), (1, [1, 2, 4, 8])]
)
def test_stem_stride_shrinks_all_strides_and_changes_no_parameter(stem_stride, reductions):
    model = build(stem_stride=stem_stride)
    model.load_state_dict(build().state_dict())
    assert [info["reduction"] for info in model.feature_info] == reductions
    maps = model.forward_intermediates(images(32, 64), intermediates_only=True)
    assert [m.shape[2:] for m in maps] == [(32 // r, 64 // r) for r in reductions]


@pytest.mark.parametrize(
    ("output_stride", "reductions"),
    [(32, [4, 8, 16, 32]), (16, [4, 8, 16, 16]), (8, [4, 8, 8, 8]), (4, [4, 4, 4, 4])],
)
def test_output_stride_dilates_and_keeps_what_convolutions_compute(output_stride, reductions):
    coarse, dense = build(attention_stages=()), build(attention_stages=(), output_stride=output_stride)
    dense.load_state_dict(coarse.state_dict())
    assert [info["reduction"] for info in dense.feature_info] == reductions
    x = images(65, 40)
    for i, (few, many) in enumerate(
        zip(
            coarse.forward_intermediates(x, intermediates_only=True),
            dense.forward_intermediates(x, intermediates_only=True),
            strict=True,
        )
    ):
        step = 2 ** (i + 2) // reductions[i]
        assert_close(many[:, :, ::step, ::step], few)


def test_output_stride_works_with_attention():
    maps = build(output_stride=8).forward_intermediates(images(65, 40), intermediates_only=True)
    assert [m.shape[2:] for m in maps] == [(17, 10), (9, 5), (9, 5), (9, 5)]


def test_takes_images_of_other_channels_and_of_one_pixel():
    assert build(in_chans=5)(images(1, 1, channels=5)).isfinite().all()


def test_dropout_rates_reach_their_places():
    model = build(drop_rate=0.1, proj_drop_rate=0.2, drop_path_rate=0.4)
    assert {
        m.p for n, m in model.named_modules() if isinstance(m, nn.Dropout) and n.startswith("stages")
    } == {0.2}
    assert model.head.drop.p == 0.1
    rates = [m.drop_prob for m in model.modules() if isinstance(m, DropPath)]
    assert rates == pytest.approx([0.1, 0.2, 0.2, 0.3, 0.3, 0.4, 0.4])
    model.reset_classifier(3)
    assert model.head.drop.p == 0.1


def test_implementations_agree():
    x = images(160, 96)
    reference, streamed = (build(impl=impl, landmarks=7) for impl in ("reference", "streamed"))
    assert_close(streamed(x), reference(x))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_computes_in_half_precision_and_under_autocast(dtype):
    expected = build()(images())
    with torch.autocast("cpu", dtype=dtype):
        assert_close(build()(images()).float(), expected, rtol=0.05, atol=0.05)
    pure = build().to(dtype)(images().to(dtype))
    assert pure.dtype == dtype
    assert_close(pure.float(), expected, rtol=0.05, atol=0.05)


@pytest.mark.parametrize("pool", ["avg", "max", "avgmax", "catavgmax", ""])
def test_pools_as_it_is_told(pool):
    model = build(global_pool=pool, num_classes=0)
    shape = {"catavgmax": (2, 128), "": (2, 64, 2, 3)}.get(pool, (2, 64))
    assert model(images()).shape == shape


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"depths": (1, 1, 1)}, r"depths must be one value or 4, one for each stage; got \(1, 1, 1\)"),
        ({"landmarks": (7, 7)}, "landmarks must be one value or 4"),
        ({"attention_stages": (4,)}, r"attention_stages must lie in 0 to 3; got \(4,\)"),
        ({"head_dim": 24}, "head_dim must divide dims where a stage attends; stage 2 has 24, 32: 8 would do"),
        ({"kernel_size": (7, 4, 3, 3)}, r"kernel_size must be odd.*got \(7, 4, 3, 3\)"),
        ({"output_stride": 64}, "output_stride must be 32, 16, 8 or 4; got 64"),
        ({"stem_stride": 3}, "stem_stride must be 4, 2 or 1 pixels; got 3"),
        ({"mixing": "all"}, "mixing must be one of"),
        ({"landmarks": 0}, "landmarks must be one to three positive integers"),
    ],
)
def test_refuses_what_it_cannot_build(options, message):
    with pytest.raises(ValueError, match=message):
        build(**options)


def test_head_dim_matters_only_where_a_stage_attends():
    assert build(head_dim=(5, 5, 16, 32))(images()).shape == (2, 5)


def test_is_traced_symbolically():
    model, x = build(), images()
    assert_close(torch.fx.symbolic_trace(model)(x), model(x))
    extractor = create_feature_extractor(model, {"stages.1": "early", "stages.3": "late"})
    maps = model.forward_intermediates(x, [1, 3], intermediates_only=True)
    assert_close(list(extractor(x).values()), maps)


def test_a_trace_serves_other_sizes():
    model = build()
    assert_close(torch.fx.symbolic_trace(model)(images(32, 80)), model(images(32, 80)))


def test_is_exported_with_a_dynamic_batch():
    model = build(depths=(1, 1, 1, 1))
    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(model, (images(),), dynamic_shapes=({0: batch},))
    x = images().repeat(3, 1, 1, 1)[:5]
    assert_close(program.module()(x), model(x))


def test_is_compiled_in_one_graph_forward_and_backward():
    model, plain = (build(depths=(1, 1, 1, 1)).train() for _ in range(2))
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    assert_close(compiled(images()), plain(images()))
    compiled(images()).square().sum().backward()
    plain(images()).square().sum().backward()
    for actual, expected in zip(model.parameters(), plain.parameters(), strict=True):
        assert_close(actual.grad, expected.grad)
