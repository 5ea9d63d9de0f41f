"""The registered sizes of iViT: timm's whole contract, their cost, and the table that is published."""

import csv
from pathlib import Path
from typing import Any, ClassVar

import pytest
import timm
import torch
from torch.nn.functional import scaled_dot_product_attention
from torch.testing import assert_close

from crosshead import HeadMixing, InteractiveAttention, interactive_attention, pool_landmarks
from crosshead.measure.flops import flop_counter
from crosshead.testing.contract import BackboneContract
from crosshead.vision import Footprint, footprint
from crosshead.vision.variants import VARIANTS

PUBLISHED = Path(__file__).parents[2] / "benchmarks/results/backbone.csv"


class TestIViTNano(BackboneContract):
    model_name = "ivit_nano"


class TestIViTPico(BackboneContract):
    model_name = "ivit_pico"


class TestIViTWithOptions(BackboneContract):
    """The contract does not hang on the defaults."""

    model_name = "ivit_nano"
    options: ClassVar = {
        "depths": (1, 1, 1, 1),
        "attention_stages": (1, 2, 3),
        "landmarks": (1, (2, 3), 4, 2),
        "head_dim": 8,
        "mixing": "weights",
        "stem_stride": 2,
        "output_stride": 8,
        "init_values": 0.1,
        "qk_norm": True,
        "norm_layer": "rmsnorm",
    }


def test_all_variants_are_registered():
    assert set(timm.list_models("ivit_*")) == {"ivit_pico", *VARIANTS}
    assert timm.list_pretrained("ivit_*") == ["ivit_pico.fashion_mnist"]


def test_weights_come_where_they_are_asked_for_by_name():
    with pytest.raises(RuntimeError, match=r"[Nn]o pretrained weights"):
        timm.create_model("ivit_pico", pretrained=True)
    trained: Any = timm.create_model("ivit_pico.fashion_mnist", pretrained=True)
    assert (trained.in_chans, trained.num_classes, trained.head.fc.weight.dtype) == (1, 10, torch.float32)
    again: Any = timm.create_model("ivit_pico.fashion_mnist", pretrained=True, in_chans=3, num_classes=4)
    # Other channels and classes keep the rest.
    assert torch.equal(again.stages[2].blocks[0].attn.qkv.weight, trained.stages[2].blocks[0].attn.qkv.weight)


@pytest.mark.parametrize(
    ("name", "parameters", "multiply_adds"),
    [
        ("ivit_nano", 4e6, 0.5e9),
        ("ivit_tiny", 12e6, 1.5e9),
        ("ivit_small", 26e6, 3e9),
        ("ivit_base", 51e6, 6e9),
    ],
)
def test_costs_what_its_name_promises_and_what_is_published(name, parameters, multiply_adds):
    cost = footprint(name)
    assert cost.parameters == pytest.approx(parameters, rel=0.1)
    assert cost.multiply_adds == pytest.approx(multiply_adds, rel=0.1)
    assert published(name) == cost


@pytest.mark.parametrize(
    "name", ["convnext_tiny", "swin_tiny_patch4_window7_224", "xcit_small_12_p16_224", "efficientvit_b2"]
)
def test_neighbours_cost_what_is_published(name):
    assert published(name) == footprint(name)


def published(name: str) -> Footprint:
    with PUBLISHED.open() as file:
        (row,) = (row for row in csv.DictReader(file) if row["model"] == name)
    return Footprint(*(int(row[field]) for field in Footprint._fields))


@pytest.mark.parametrize("kind", ["fx", "hook", "getter", "list"])
def test_every_way_of_timm_to_take_features_gives_the_same_maps(kind):
    maps = []
    chosen: tuple[dict[str, Any], ...] = ({}, {"feature_cfg": {"feature_cls": kind, "out_indices": (1, 3)}})
    for options in chosen:
        torch.manual_seed(0)
        model = timm.create_model("ivit_nano", features_only=True, **options).eval()
        maps.append(model(torch.ones(1, 3, 64, 64)))
    assert_close(maps[1], maps[0][1::2])


@pytest.mark.parametrize("name", VARIANTS)
def test_factoring_never_costs_more_than_softmax_attention(name):
    """At 224 pixels, pooling and all head mixing counted; on larger images ever less."""
    with torch.device("meta"):
        model: Any = timm.create_model(name)
    for stage, info in zip(model.stages, model.feature_info, strict=True):
        axis = 224 // info["reduction"]
        for layer in stage.modules():
            if isinstance(layer, InteractiveAttention):
                q = torch.zeros(1, layer.num_heads, axis * axis, layer.head_dim)
                assert factored(q, layer, (axis, axis)) <= softmax(q)


def factored(q: torch.Tensor, layer: InteractiveAttention, grid: tuple[int, int]) -> int:
    matrix = torch.zeros(layer.num_heads, layer.num_heads)
    mixing = HeadMixing(logits=matrix, weights=matrix)
    with flop_counter() as flops:
        ql, kl = (pool_landmarks(x, grid=grid, landmarks=layer.landmarks) for x in (q, q))
        operands = {"query_landmarks": ql, "key_landmarks": kl, "query_mixing": mixing, "key_mixing": mixing}
        interactive_attention(q, q, q, impl="reference", **operands)
    return flops.get_total_flops()


def softmax(q: torch.Tensor) -> int:
    with flop_counter() as flops:
        scaled_dot_product_attention(q, q, q)
    return flops.get_total_flops()
