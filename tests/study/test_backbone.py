"""One backbone in which only the attention differs, with equal parameters."""

from ast import literal_eval
from dataclasses import replace
from typing import Any

import pytest
import torch

from crosshead.rivals import MECHANISMS
from crosshead.runs.model import count_parameters
from crosshead.study.backbone import (
    TOLERANCE,
    UnknownAttention,
    _build,
    attention_layer,
    build_model,
    random_input,
)
from crosshead.study.conjunctions import LOOK_UPS
from crosshead.study.options import BUDGETS
from crosshead.study.plans import PRIMARY, all_mechanisms
from crosshead.study.trial import IN_CHANS, Data, Shape
from crosshead.study.variants import VARIANTS

SIZES = {"num_classes": 10, "in_chans": 1}
OPTIONS = {
    "interactive-one-factor": ":factor=query",
    "interactive-strided": ":cell=2",
    "interactive-random-mixing": ":std=0.5",
    "interactive-slow-mixing": ":scale=0.1",
    "interactive-low-rank": ":rank=2",
}
OURS = [name + OPTIONS.get(name, "") for name in VARIANTS]
ALL = [*all_mechanisms(), *OURS]
PRESETS: tuple[Data, ...] = ("digits", "fashion-mnist")
# They have more parameters than the narrow MLPs of a preset can give.
HEAVY = {
    ("digits", "agent"),
    ("digits", "globalmind"),
    ("fashion-mnist", "agent"),
    ("fashion-mnist", "globalmind"),
    ("fashion-mnist", "linformer"),
}


def build(attention: str, data: Data = "fashion-mnist", shape: Shape | None = None) -> Any:
    torch.manual_seed(0)
    return build_model(data, attention, shape or BUDGETS[data].shape, **SIZES)


@pytest.fixture(scope="module")
def wanted():
    return {data: count_parameters(build("softmax", data)) for data in PRESETS}


@pytest.mark.parametrize(
    ("data", "attention"), [(data, name) for data in PRESETS for name in ALL if (data, name) not in HEAVY]
)
def test_parameters_match_softmax_attention_within_a_per_cent(attention, data, wanted):
    found = count_parameters(build(attention, data))
    assert abs(found - wanted[data]) <= TOLERANCE * wanted[data]


@pytest.mark.parametrize(("data", "attention"), sorted(HEAVY))
def test_what_the_narrow_presets_cannot_match_is_refused(attention, data):
    with pytest.raises(ValueError, match=rf"attention {attention} has .* parameters more than softmax"):
        build(attention, data)


@pytest.mark.parametrize("attention", ["efficientvit", "xca", "interactive:local_kernel=3", "hydra"])
def test_only_attention_and_the_width_of_the_mlps_differ(attention):
    ours, theirs = build(attention), build("softmax")
    one, other = (
        {name: x.shape for name, x in model.state_dict().items() if ".attn." not in name}
        for model in (ours, theirs)
    )
    assert one.keys() == other.keys()
    assert all(".mlp." in name for name in one if one[name] != other[name])
    shape = BUDGETS["fashion-mnist"].shape
    for block in ours.blocks:
        assert block.mlp.fc1.weight.shape[1] == block.mlp.fc2.weight.shape[0] == shape.dim


def test_the_width_makes_up_for_what_a_mechanism_has_more():
    shape = BUDGETS["fashion-mnist"].shape
    (width,) = {block.mlp.fc1.out_features for block in build("softmax").blocks}
    (narrower,) = {block.mlp.fc1.out_features for block in build("efficientvit").blocks}
    assert width == shape.dim * shape.mlp_ratio
    assert narrower < width


@pytest.mark.parametrize("seed", [0, 5])
def test_both_arms_of_the_primary_test_start_from_the_same_weights(seed):
    states = []
    for attention in PRIMARY:
        torch.manual_seed(seed)
        states.append(
            build_model("fashion-mnist", attention, BUDGETS["fashion-mnist"].shape, **SIZES).state_dict()
        )
    both, none = states
    assert none.keys() < both.keys()
    assert all(torch.equal(both[name], none[name]) for name in none)
    own = [both[name] for name in both.keys() - none.keys()]
    # Logits and weights of two factors in two blocks, all zero: the arms compute the same at first.
    assert [tuple(x.shape) for x in own] == [(8, 8)] * 8
    assert not any(x.any() for x in own)


@pytest.mark.parametrize("attention", ALL)
def test_every_mechanism_classifies_images(attention, tiny):
    wide = replace(tiny, dim=32, mlp_ratio=8)
    model = build(attention, "digits", wide)
    softmax = count_parameters(build("softmax", "digits", wide))
    assert abs(count_parameters(model) - softmax) <= TOLERANCE * softmax
    images = random_input("digits", tiny, batch=2, in_chans=1, device="cpu")
    logits = model(images)
    assert logits.shape == (2, 10)
    assert logits.isfinite().all()


def test_what_cannot_be_matched_says_so_and_what_to_change():
    shape = Shape(image_size=28, patch_size=2, dim=16, depth=1, heads=4, mlp_ratio=1, landmarks=14)
    with pytest.raises(
        ValueError, match=r"linformer has .* parameters more than softmax.* fewer landmarks than 14"
    ):
        build("linformer", shape=shape)


@pytest.mark.parametrize("attention", ["softmx", "interactive-", "", "Softmax"])
def test_an_unknown_mechanism_is_told_with_those_there_are(attention, tiny):
    with pytest.raises(UnknownAttention, match=r"is unknown: it is one of interactive, .*softmax"):
        build(attention, "digits", tiny)


@pytest.mark.parametrize("stages", ["(3,)", "(2,3)", "(1,2,3)"])
def test_ivit_attends_in_the_stages_it_is_told(stages):
    model = build(f"ivit:attention_stages={stages}")
    images = random_input("fashion-mnist", BUDGETS["fashion-mnist"].shape, batch=1, in_chans=1, device="cpu")
    assert model.eval()(images).shape == (1, 10)
    attending = [
        place
        for place, stage in enumerate(model.stages)
        if any(type(module).__name__ == "InteractiveAttention" for module in stage.modules())
    ]
    assert tuple(attending) == literal_eval(stages)


def test_matching_draws_no_random_numbers(tiny):
    # Else the weights of a mechanism would depend on whether its parameters had to be counted.
    hidden = round(tiny.dim * tiny.mlp_ratio)
    torch.manual_seed(3)
    _build("digits", "interactive:mixing=none", tiny, hidden, **SIZES)
    after = torch.rand(1)
    torch.manual_seed(3)
    build_model("digits", "interactive:mixing=none", tiny, **SIZES)
    assert torch.equal(torch.rand(1), after)


def test_positions_start_as_sines_and_can_be_learned(tiny):
    positions = build("softmax", "digits", tiny).pos_embed
    assert positions.requires_grad
    assert positions.shape == (1, 16, 16)
    assert positions.abs().max() <= 1
    assert len({tuple(row) for row in positions[0].tolist()}) == 16


def test_the_registry_is_covered():
    assert set(MECHANISMS) <= set(ALL)


@pytest.mark.parametrize("data", LOOK_UPS)
@pytest.mark.parametrize("attention", ["interactive", "interactive:mixing=none", "softmax", "talking-heads"])
def test_look_ups_are_answered_by_one_layer_of_any_mechanism(data, attention):
    shape, queries = BUDGETS[data].shape, LOOK_UPS[data].queries
    sizes = {"num_classes": 16, "in_chans": IN_CHANS[data]}
    model = build_model(data, attention, shape, **sizes)
    words = random_input(data, shape, batch=2, in_chans=IN_CHANS[data], device="cpu")
    assert words.shape == (2, queries + 24, 5)
    assert model(words).shape == (2, 16, queries)
    softmax = count_parameters(build_model(data, "softmax", shape, **sizes))
    assert abs(count_parameters(model) - softmax) <= TOLERANCE * softmax
    _, options = attention_layer(data, attention, shape)
    if attention.startswith("interactive"):
        assert (options["landmarks"], options["num_prefix_tokens"]) == ((8,), queries)
    else:
        assert options["grid"] == (1, queries + 24)


def test_the_answer_depends_on_the_query_and_on_every_item():
    torch.manual_seed(0)
    data = "one-look-up"
    model = build_model(data, "interactive", BUDGETS[data].shape, num_classes=16, in_chans=85).eval()
    words = random_input(data, BUDGETS[data].shape, batch=1, in_chans=85, device="cpu")
    before = model(words)
    for token in range(25):
        changed = words.clone()
        changed[0, token, 0] = (changed[0, token, 0] + 1) % 85
        assert not torch.allclose(model(changed), before, atol=1e-6), token
