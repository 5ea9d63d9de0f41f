"""Every provider computes an attention of the right shape, with gradients, and passes its own check."""

import pytest
import torch
from torch import nn

from crosshead.bench import providers
from crosshead.bench.checks import Checker
from crosshead.bench.options import BY_NAME, PROVIDERS, choose_providers
from crosshead.bench.providers import USED, attention_workload, build_layer, build_operator, make_operands

TOKENS = 24


@pytest.mark.parametrize("name", BY_NAME)
def test_it_runs_forward_and_backward_and_passes_its_check(name, setting):
    # Compiling the backward pass takes ten seconds, and it is torch's own work.
    backward = name != "compiled"
    try:
        workload = attention_workload(name, setting, TOKENS, backward=backward)
        result = workload.run()
    except NotImplementedError as error:
        pytest.skip(str(error))
    shape = (1, 2, TOKENS, 16) if BY_NAME[name].level == "operator" else (1, TOKENS, 32)
    assert result.output.shape == shape
    assert bool(result.gradients) == backward
    assert all(gradient.isfinite().all() for gradient in result.gradients)
    assert not backward or any(gradient.abs().max() > 0 for gradient in result.gradients)
    assert not workload.run().output.requires_grad
    assert Checker(setting, TOKENS, backward).check(name)


@pytest.mark.parametrize("name", ["reference", "softmax-layer"])
def test_a_forward_pass_keeps_no_graph_and_has_no_gradients(name, setting):
    result = attention_workload(name, setting, TOKENS, backward=False).run()
    assert not result.output.requires_grad
    assert result.gradients == ()


def test_a_name_of_each_level_and_of_no_other():
    for provider in PROVIDERS:
        assert provider.name.endswith("-layer") == (provider.level == "layer")


@pytest.mark.parametrize("impl", ["reference", "streamed", "fused"])
def test_an_implementation_is_the_one_that_it_is_named_after(impl, setting, monkeypatch):
    asked = []

    def attend(query, key, value, *, impl, **_):
        asked.append(impl)
        return value

    monkeypatch.setattr(providers, "interactive_attention", attend)
    build_operator(impl, setting)(make_operands(setting, TOKENS, requires_grad=False))
    assert asked == [impl]


def mixes(run) -> bool:
    """Whether the output of one head depends on the values of another."""
    return bool((run(1.0) - run(2.0)).abs().max() > 1e-6)


@pytest.mark.parametrize(
    "name",
    [p.name for p in PROVIDERS if p.level == "operator" and p.name not in ("fused", "compiled")],
)
def test_an_operator_mixes_heads_if_it_says_so(name, setting):
    given = make_operands(setting, TOKENS, requires_grad=False)
    attend = build_operator(name, setting)

    def first_head(size: float) -> torch.Tensor:
        value = given.value.clone()
        value[:, 1] *= size
        return attend(given._replace(value=value))[:, 0]

    def first_head_by_logits(size: float) -> torch.Tensor:
        query = given.query.clone()
        query[:, 1] *= size
        return attend(given._replace(query=query))[:, 0]

    # Values of one head reach no other; what mixes is the weights, which the queries of all heads decide.
    assert not mixes(first_head)
    assert mixes(first_head_by_logits) == BY_NAME[name].mixes_heads


@pytest.mark.parametrize("name", ["interactive-layer", "linear-layer", "agent-layer", "linformer-layer"])
def test_weights_are_the_same_each_time(name, setting):
    first, second = (build_layer(name, setting, TOKENS) for _ in range(2))
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_building_leaves_the_generator_of_the_caller_alone(setting):
    before = torch.get_rng_state()
    build_layer("softmax-layer", setting, TOKENS)
    build_operator("performer", setting)
    assert torch.equal(before, torch.get_rng_state())


def test_the_layer_of_the_library_has_learned_to_mix(setting):
    layer = build_layer("interactive-layer", setting, TOKENS)
    for mixer in (layer.query_mixing, layer.key_mixing):
        assert isinstance(mixer, nn.Module)
        assert all(matrix.abs().min() > 0 for matrix in mixer.parameters())


def test_gradients_are_asked_for_what_is_looked_at_only(setting):
    for name, used in USED.items():
        workload = attention_workload(name, setting, TOKENS, backward=True)
        assert len(workload.run().gradients) == len(used), name


def test_half_precision_is_the_dtype_of_everything(setting):
    from dataclasses import replace

    workload = attention_workload("reference", replace(setting, dtype="bfloat16"), TOKENS, backward=True)
    result = workload.run()
    assert {x.dtype for x in (result.output, *result.gradients, *workload.given)} == {torch.bfloat16}


def test_providers_are_chosen_by_name_or_by_level():
    assert [p.name for p in choose_providers(("exact", "fused"), "all")] == ["fused", "exact"]
    assert {p.level for p in choose_providers((), "layer")} == {"layer"}
    assert choose_providers((), "all") == PROVIDERS


@pytest.mark.parametrize(
    ("names", "level", "message"),
    [
        (("fusd",), "all", "did you mean fused"),
        (("zebra",), "all", "There are reference, streamed"),
        (("exact",), "layer", "'exact' is of level operator: leave out --level layer"),
    ],
)
def test_a_wrong_choice_is_refused(names, level, message):
    with pytest.raises(ValueError, match=message):
        choose_providers(names, level)
