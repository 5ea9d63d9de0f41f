"""What heads owe each other is what changes when they no longer listen, by the oracle's map."""

import copy
from typing import Any

import pytest
import torch

from crosshead import InteractiveAttention
from crosshead.explain.interaction import between_heads, through_other_heads
from crosshead.explain.mixing import mixing_matrices
from crosshead.testing.oracle import dense_factor

EXACT: Any = {"rtol": 1e-9, "atol": 1e-11}


def outputs(layer, dense_map, x, arguments) -> torch.Tensor:
    """What the heads give, from the map of the oracle and the layer's own values."""
    values = layer.qkv(arguments.get("context", x)).unflatten(-1, (3, layer.num_heads, -1))[:, :, 2]
    return dense_map(layer, x, **arguments) @ values.transpose(1, 2).detach()


def edited(layer: InteractiveAttention, keep: torch.Tensor, parts: tuple[str, ...]) -> InteractiveAttention:
    """The layer with the entries of its matrices multiplied by `keep`, (H, H)."""
    layer = copy.deepcopy(layer)
    size = layer.query_mixing.group_size
    for mixer in (layer.query_mixing, layer.key_mixing):
        for name, matrix in mixer.named_parameters():
            blocks = torch.stack(
                [block[..., n * size : (n + 1) * size] for n, block in enumerate(keep.split(size))]
            )
            matrix.data *= (blocks if matrix.ndim == 3 else keep) if name in parts else 1
    return layer


PARTS = {"both": ("logits", "weights"), "logits": ("logits",), "weights": ("weights",)}


@pytest.mark.parametrize("mixing", PARTS)
@pytest.mark.parametrize("name", ["image", "groups", "weights", "masked prefix", "cross, masked sequences"])
def test_the_change_is_that_of_a_layer_without_off_diagonal_entries(
    name, mixing, make_case, recorded, dense_map
):
    layer, x, arguments = make_case(name)
    given = outputs(layer, dense_map, x, arguments)
    without = outputs(edited(layer, torch.eye(4).double(), PARTS[mixing]), dense_map, x, arguments)
    found = through_other_heads(recorded(layer, x, **arguments), mixing=mixing)
    torch.testing.assert_close(found.change, (given - without).norm(dim=-1), **EXACT)
    torch.testing.assert_close(found.size, given.norm(dim=-1), **EXACT)
    share = ((given - without).flatten(2).norm(dim=-1) / given.flatten(2).norm(dim=-1)).nan_to_num()
    torch.testing.assert_close(found.share, share, **EXACT)


def test_weights_split_into_a_head_s_own_and_the_rest(make_case, recorded):
    """The change by weights is the length of the sum of all terms in which another head's softmax occurs."""
    layer, x, arguments = make_case("image")
    call = recorded(layer, x, **arguments)
    q, k, v = (part(slice(None))[0] for part in (call.queries, call.keys, call.values))
    ql, kl = call.query_landmarks[0], call.key_landmarks[0]
    of_query, of_key = (mixing._replace(weights=None) for mixing in (call.query_mixing, call.key_mixing))
    by_query = dense_factor(q, kl, scale=2**-0.5, mixing=of_query)
    by_key = dense_factor(ql, k, scale=2**-0.5, mixing=of_key)
    through_query = torch.eye(4).double() + call.query_mixing.weights
    through_key = torch.eye(4).double() + call.key_mixing.weights
    for g in range(4):
        others: Any = sum(
            through_query[g, h] * through_key[g, i] * by_query[h] @ by_key[i] @ v[g]
            for h in range(4)
            for i in range(4)
            if (h, i) != (g, g)
        )
        found = through_other_heads(call, mixing="weights").change[0, g]
        torch.testing.assert_close(found, others.norm(dim=-1), **EXACT)


@pytest.mark.parametrize("mixing", PARTS)
@pytest.mark.parametrize("name", ["image", "groups", "cross"])
def test_between_two_heads_one_entry_of_each_matrix_is_missing(name, mixing, make_case, recorded, dense_map):
    layer, x, arguments = make_case(name)
    found = between_heads(recorded(layer, x, **arguments), mixing=mixing)
    given = outputs(layer, dense_map, x, arguments)
    assert not found.diagonal(dim1=1, dim2=2).any()
    for g, h in ((0, 1), (3, 2), (1, 3)):
        keep = torch.ones(4, 4).double()
        keep[g, h] = 0
        change = (outputs(edited(layer, keep, PARTS[mixing]), dense_map, x, arguments) - given)[:, g].flatten(
            1
        )
        torch.testing.assert_close(
            found[:, g, h], change.norm(dim=-1) / given[:, g].flatten(1).norm(dim=-1), **EXACT
        )
    if name == "groups":
        assert not found[:, :2, 2:].any()
        assert found[:, :2, :2].any()


def test_heads_that_do_not_talk_owe_nothing(make_case, recorded):
    layer, x, arguments = make_case("no mixing")
    call = recorded(layer, x, **arguments)
    assert not through_other_heads(call).change.any()
    assert not between_heads(call).any()


def test_a_mixing_that_does_not_exist(make_case, recorded):
    layer, x, arguments = make_case("image")
    with pytest.raises(ValueError, match="mixing must be logits, weights or both; got 'none'"):
        through_other_heads(recorded(layer, x, **arguments), mixing="none")


def test_matrices_are_whole_and_without_the_identity(make_layer):
    layer = make_layer(mixing_group_size=2)
    found = mixing_matrices(layer)
    assert found.query_weights is not None
    assert torch.equal(found.query_weights[2:, 2:], layer.query_mixing.weights[1])
    assert not found.query_weights[:2, 2:].any()
    assert not any(matrix is not None and matrix.requires_grad for matrix in found)
    none = mixing_matrices(make_layer(mixing="logits"))
    assert none.query_weights is None
    assert none.key_logits is not None
    fresh: Any = mixing_matrices(InteractiveAttention(8, 4, landmarks=2))
    assert not any(matrix.any() for matrix in fresh)


def test_matrices_of_a_recording_are_those_of_its_time(make_case, recorded):
    layer, x, arguments = make_case("image")
    call = recorded(layer, x, **arguments)
    before = layer.key_mixing().logits
    torch.nn.init.zeros_(layer.key_mixing.logits)
    torch.testing.assert_close(mixing_matrices(call).key_logits, before)
