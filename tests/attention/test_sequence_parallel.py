"""Tokens shared out to ranks: each gets what one process would give, and nobody waits in vain.

Groups of two, three and four ranks run in `sharded_ranks.py`, once for all tests.
"""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from crosshead import InteractiveAttention, shard_tokens
from crosshead.attention.impl.fused.cpu import build
from crosshead.measure.traffic import sharded_traffic

# Seconds of computing; but each of some thousand exchanges waits until every rank has had its turn, and on a
# machine with more processes than cores that takes minutes.
pytestmark = pytest.mark.timeout(900)

CALLS = (
    "mixing none",
    "mixing logits",
    "mixing weights",
    "mixing both",
    "groups of heads",
    "prefix tokens",
    "normed queries and keys",
    "a cell for each token",
    "one landmark",
    "masked grid",
    "nearly empty grid",
    "sequence",
    "masked sequence",
    "nearly empty sequence",
    "volume",
    "masked volume",
    "context",
    "masked context",
    "context masked alone",
    "masked sequence of context",
    "local term",
    "local term wider than a rank",
    "local term of a sequence",
    "local term of a volume",
)


@pytest.fixture(scope="module")
def ranks(tmp_path_factory) -> dict[tuple[int, str], Any]:
    """What came out, by the number of ranks and the case."""
    script = Path(__file__).with_name("sharded_ranks.py")
    folder = tmp_path_factory.mktemp("ranks")
    done = subprocess.run(
        [sys.executable, str(script), str(folder)], capture_output=True, text=True, timeout=800
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    found = {(size, name): result for size, name, result in lines}
    assert len(found) == len(lines)
    if not any(name == "lost: it hangs, rank 2" for _, name in found):
        pytest.fail(done.stderr)
    return found


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    ("size", "impl"), [(2, "streamed"), (3, "streamed"), (3, "reference"), (4, "streamed")]
)
def test_outputs_and_every_gradient_are_those_of_one_process(ranks, size, call, impl):
    assert ranks[size, f"equal: {call}, {impl}"] < 1e-10


def test_no_call_is_left_out(ranks):
    equal = [name.removeprefix("equal: ") for _, name in ranks if name.startswith("equal: ")]
    named = {name.removesuffix(", streamed") for name in equal if name.endswith(", streamed")}
    assert named == set(CALLS)


@pytest.mark.parametrize(
    "case", ["two layers", "checkpointed", "checkpointed, reentrant", "gradient of a gradient"]
)
def test_models_and_derivatives_of_them(ranks, case):
    assert ranks[3, f"equal: {case}"] < 1e-10


def test_a_compiled_layer(ranks):
    assert ranks[2, "close: compiled"] < 1e-4  # in single precision, in which "auto" may be fused


@pytest.mark.parametrize("size", [2, 3, 4])
@pytest.mark.parametrize("case", ["a stem of stride 1", "a stem of stride 4", "patches"])
def test_backbones_with_convolutions_give_the_features_and_gradients_of_one_process(ranks, size, case):
    assert ranks[size, f"equal: backbone, {case}"] < 1e-10


def test_a_backbone_takes_whole_images_again(ranks):
    assert ranks[2, "equal: backbone of whole images again"] == 0


@pytest.mark.parametrize("way", ["ddp", "fsdp"])
def test_a_mesh_of_data_and_tokens(ranks, way):
    assert ranks[4, f"equal: {way} over data and tokens"] < 1e-10


def test_lower_precision_stays_in_the_error_budget(ranks):
    budgets = {name.split(",")[0]: [] for _, name in ranks if "budget" in name}
    for (_, name), outside in ranks.items():
        if "budget" in name:
            assert outside == "", name
            budgets[name.split(",")[0]].append(name)
    # Two layers and four calls of the operator in each dtype; float16 is streamed alone.
    counts = {name: len(found) for name, found in budgets.items()}
    fused = {} if build.missing() else {"budget: fused": 8}
    assert counts == {"budget: layer": 2 + 2 * bool(fused), "budget: streamed": 12, **fused}


def test_copies_share_and_saved_layers_do_not(ranks):
    assert ranks[3, "a copy shares with the same ranks"] is True
    assert ranks[3, "a saved layer takes whole inputs"] is True


def test_whole_inputs_can_be_taken_again(ranks):
    assert ranks[3, "equal: whole inputs again"] == 0


TRAFFIC = {
    "grid": {"num_prefix_tokens": 1},
    "masked grid": {"masked": True},
    "masked sequence": {"masked": True},
    "local term": {"local_kernel": 3},
}


@pytest.mark.parametrize("case", TRAFFIC)
def test_traffic_is_the_same_at_any_number_of_tokens_and_what_the_formula_says(ranks, case):
    few, many = (ranks[2, f"traffic: {case}, {rows} rows"] for rows in (8, 64))
    assert few == many
    calls, forward, backward_calls, backward = many
    axes = 1 if case == "masked sequence" else 2
    sizes = {"dim": 16, "heads": 4, "batch": 3, "grid": (64, 6)[:axes], "landmarks": (3, 2)[:axes]}
    expected = sharded_traffic(**sizes, **TRAFFIC[case])
    assert forward["all_reduce"] == expected.forward
    assert backward["all_reduce"] == expected.backward
    assert forward["allgather"] == expected.gathered
    # Each of two ranks has one neighbour.
    assert forward.get("all_to_all_single", 0) == backward.get("all_to_all_single", 0) == expected.halo / 2
    assert calls["all_reduce"] == 4 + (case == "masked grid")
    assert backward_calls["all_reduce"] == 3


REFUSED_BY_ALL = {
    "other columns": r"rank 0 .*grid=\(rows, 5\), on rank 1 .*grid=\(rows, 4\).*split the first axis",
    "another batch": "rank 0 batch=2, on rank 1 batch=1",
    "another dtype": "rank 0 dtype=torch.float64, on rank 1 dtype=torch.float32",
    "a mask on one rank": "rank 0 .*key_mask=none, on rank 1 .*key_mask=one",
    "a grid that does not fit": r"grid=\(3, 5\) with 0 prefix tokens makes 15 tokens; x has 10",
    "no tensor": "x must be a tensor .*got list",
    "a mask of another shape": r"key_mask must be \(batch, tokens\) = \(2, 10\); got \(2, 9\)",
    "a sequence": r"one for each axis of the grid \(10,\)",
}


@pytest.mark.parametrize("case", REFUSED_BY_ALL)
def test_what_does_not_fit_on_one_rank_is_refused_by_name_on_all(ranks, case):
    said = ranks[3, f"refused: {case}"]
    assert len(said) == 3
    for rank, message in enumerate(said):
        assert _found(REFUSED_BY_ALL[case], message), message
        assert "\n" not in message
        if "rank 0" not in REFUSED_BY_ALL[case] and rank != 1:
            assert message.startswith("ValueError: rank 1 of 3 refused its tokens")


REFUSED = {
    "other implementations": "ValueError: .*rank 0 impl=reference, on rank 1 impl=streamed",
    "fused": "NotImplementedError: impl='fused' cannot run this: .*'streamed' and 'reference' can",
    "a second derivative": "NotImplementedError: .*Use impl='reference'",
    "torch.func": r"NotImplementedError: .*torch.func.*shard_tokens\(model, None\)",
    "looking inside": r"NotImplementedError: .*shard_tokens\(model, None\)",
    "a mesh of two dimensions": r"ValueError: mesh must have one dimension; got 2.*mesh\[.tokens.\]",
    "a group of others": "ValueError: mesh must be a group that this process is in",
    "no group": "TypeError: mesh must be a ProcessGroup or a DeviceMesh; got str",
    "a model without": "ValueError: model must hold an InteractiveAttention; got Linear",
    "a lopsided convolution": r"NotImplementedError: 0 is a Conv2d over 4 rows .* padding \(1, 1\)",
    "patches cut through": r"ValueError: each rank but the last .* patches of 4 rows; got \[6, 6, 6\]",
    "no rows left": r"ValueError: each rank must have a row left .* got \[1, 1, 1\] .*\[1, 0, 1\]",
    "too few rows": "ValueError: rows must be at least one for each of 3 ranks; got 2",
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_shared_out_is_refused_by_name(ranks, case):
    assert _found(REFUSED[case], ranks[3, f"refused: {case}"]), ranks[3, f"refused: {case}"]


def test_a_refusal_leaves_the_ranks_able_to_go_on(ranks):
    assert ranks[3, "works afterwards"] is True


@pytest.mark.parametrize("rank", [0, 2])
@pytest.mark.parametrize("kind", ["it fails", "it is killed", "it hangs"])
def test_a_lost_rank_ends_the_others_in_one_line_and_in_time(ranks, kind, rank):
    message, seconds = ranks[3, f"lost: {kind}, rank {rank}"]
    assert _found(f"^rank {rank} of 3 waited in vain for the others, .*see what the others say", message)
    assert "\n" not in message
    assert seconds < 25  # of a timeout of three, on a machine that may be busy


def test_a_layer_of_one_process_takes_whole_inputs():
    layer = shard_tokens(InteractiveAttention(8, 2, landmarks=(2, 2)), None)
    assert layer(torch.zeros(1, 6, 8), grid=(2, 3)).shape == (1, 6, 8)


def test_without_a_group_there_is_nothing_to_share_with():
    with pytest.raises(TypeError, match="mesh must be a ProcessGroup or a DeviceMesh; got list"):
        shard_tokens(InteractiveAttention(8, 2, landmarks=(2, 2)), [0, 1])  # pyright: ignore[reportArgumentType]


def _found(pattern: str, text: str) -> bool:
    return re.search(pattern, text) is not None
