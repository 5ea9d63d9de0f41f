"""Inside the block the chosen entries are zero, and after it the layers hold their own weights again."""

import copy
from typing import Any

import pytest
import torch
from torch import nn

from crosshead.explain.interaction import through_other_heads
from crosshead.explain.knockout import knock_out
from crosshead.explain.maps import map_rows
from crosshead.explain.mixing import mixing_matrices

OFF_DIAGONAL = ~torch.eye(4).bool()


def matrices(layer: Any) -> dict[str, torch.Tensor]:
    return {name: matrix for name, matrix in mixing_matrices(layer)._asdict().items() if matrix is not None}


@pytest.fixture
def model(make_layer) -> nn.Module:
    return nn.ModuleDict({"first": make_layer(), "second": make_layer()})


def test_heads_no_longer_listen_to_others_and_keep_their_own(model):
    before = matrices(model["first"])
    with knock_out(model, "first"):
        inside = matrices(model["first"])
        assert all(matrix.all() for matrix in matrices(model["second"]).values())
    assert len(before) == 4
    for name, given in before.items():
        assert torch.equal(inside[name], given * torch.eye(4))


def test_it_is_what_through_other_heads_compares_with(make_case, recorded):
    layer, x, arguments = make_case("image")
    call = recorded(layer, x, **arguments)
    with knock_out(layer):
        without = recorded(layer, x, **arguments)
    outputs = [torch.cat([part for _, part in each.factors.outputs()], 2) for each in (call, without)]
    found = (outputs[0] - outputs[1]).norm(dim=-1)
    torch.testing.assert_close(found, through_other_heads(call).change, rtol=1e-9, atol=1e-11)


def test_all_of_mixing_is_a_layer_without(make_case, make_layer):
    layer, x, arguments = make_case("image")
    plain = make_layer(mixing="none")
    state = {name: value for name, value in layer.state_dict().items() if "mixing" not in name}
    plain.load_state_dict(state)
    with torch.no_grad(), knock_out(layer, pairs="all"):
        torch.testing.assert_close(layer(x, **arguments), plain(x, **arguments))
        assert all(not matrix.any() for matrix in matrices(layer).values())


@pytest.mark.parametrize("mixing", ["logits", "weights"])
@pytest.mark.parametrize("factor", ["query", "key"])
def test_one_matrix_alone(mixing, factor, make_layer):
    layer = make_layer()
    with knock_out(layer, mixing=mixing, factor=factor, pairs="all"):
        found = matrices(layer)
    assert {name for name, matrix in found.items() if not matrix.any()} == {f"{factor}_{mixing}"}


def test_single_pairs(make_layer):
    layer = make_layer()
    with knock_out(layer, pairs=[(0, 3), (2, 2)]):
        for matrix in matrices(layer).values():
            assert (matrix == 0).nonzero().tolist() == [[0, 3], [2, 2]]


def test_groups(make_layer):
    layer = make_layer(mixing_group_size=2)
    with knock_out(layer, pairs=[(3, 2)]):
        for mixer in (layer.query_mixing, layer.key_mixing):
            assert (mixer.weights == 0).nonzero().tolist() == [[1, 1, 0]]
    with knock_out(layer):
        for matrix in matrices(layer).values():
            assert not matrix[OFF_DIAGONAL].any()
            assert matrix.diagonal().all()


def test_the_layer_is_as_it_was_after_the_block_and_after_an_error(model):
    parameters, state = dict(model.named_parameters()), copy.deepcopy(model.state_dict())
    with pytest.raises(KeyboardInterrupt), knock_out(model, pairs="all"), knock_out(model, "second"):
        raise KeyboardInterrupt
    assert list(parameters) == [name for name, _ in model.named_parameters()]
    assert all(parameters[name] is weight for name, weight in model.named_parameters())
    assert all(torch.equal(state[name], value) for name, value in model.state_dict().items())


def test_recordings_may_be_asked_on_either_side_of_the_block(make_case, recorded):
    layer, x, arguments = make_case("image")
    before = recorded(layer, x, **arguments)
    expected = map_rows(before, 7)
    with knock_out(layer):
        inside = recorded(layer, x, **arguments)
        torch.testing.assert_close(map_rows(before, 7), expected)
        found = map_rows(inside, 7)
    del inside.__dict__["factors"]
    torch.testing.assert_close(map_rows(inside, 7), found)
    assert not torch.allclose(found, expected)


def message(model: nn.Module, *arguments, **options) -> str:
    with (
        pytest.raises(ValueError, match=r"\A[^\n]+\Z") as caught,
        knock_out(model, *arguments, **options),
    ):  # one line
        pass
    return str(caught.value)


def test_what_cannot_be_knocked_out(make_layer, model):
    assert "mixing must be logits, weights, both; got 'none'" in message(model, mixing="none")
    assert "factor must be query, key, both; got 'value'" in message(model, factor="value")
    assert "pairs must be 'others', 'all' or a list" in message(model, pairs="own")
    assert "head must lie in 0 to 3; got 4" in message(model, pairs=[(0, 4)])
    assert "two heads each; got (1, 2, 3)" in message(model, pairs=[(1, 2, 3)])
    grouped = nn.ModuleDict({"only": make_layer(mixing_group_size=2)})
    assert "heads 1 and 2 of layer 'only' do not talk: groups are of 2 heads" in message(
        grouped, pairs=[(1, 2)]
    )
    assert "matrices that mix logits to be knocked out" in message(
        make_layer(mixing="weights"), mixing="logits"
    )
    assert "hold none" in message(make_layer(mixing="none"))
    assert "the nearest is 'second'" in message(model, "seconds")
