"""Rollout is the product of dense maps with their residuals, also where tokens are pooled between layers."""

from typing import Any

import pytest
import torch
from torch import nn

from crosshead import InteractiveAttention
from crosshead.explain.maps import map_rows
from crosshead.explain.path import spread
from crosshead.explain.record import record
from crosshead.explain.rollout import rollout
from crosshead.vision import IViT

EXACT: Any = {"rtol": 1e-9, "atol": 1e-12}


class Pyramid(nn.Module):
    """Two layers on a grid of 5 x 6 tokens and two on 3 x 3, with a prefix token."""

    def __init__(self, make_layer, **options: Any) -> None:
        super().__init__()
        self.layers = nn.ModuleList(make_layer(num_prefix_tokens=1, **options) for _ in range(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers[:2]:
            x = x + layer(x, grid=(5, 6))
        fine = x[:, 1:].transpose(1, 2).unflatten(2, (5, 6))
        coarse = nn.functional.adaptive_avg_pool2d(fine, (3, 3)).flatten(2).transpose(1, 2)
        x = torch.cat([x[:, :1], coarse], 1)
        for layer in self.layers[2:]:
            x = x + layer(x, grid=(3, 3))
        return x


def dense_rollout(recording) -> torch.Tensor:
    """(B, N', N): of each token of the last layer, by products of matrices."""
    total = torch.eye(10).double()[None]
    # Three tokens over five: each stands for five thirds of a finer one. Three over six: for two.
    rows = torch.tensor([[3, 2, 0, 0, 0], [0, 1, 3, 1, 0], [0, 0, 0, 2, 3]]).double() / 5
    columns = torch.eye(3).double().repeat_interleave(2, 1) / 2
    between = torch.block_diag(torch.eye(1).double(), torch.kron(rows, columns))
    for number in (3, 2, 1, 0):
        call = recording.calls[number]
        attention = map_rows(call, None).mean(1)
        total = total @ (attention + torch.eye(attention.shape[-1]).double()) / 2
        if number == 2:
            total = total @ between
    return total


@pytest.mark.parametrize("mixing", ["none", "both"])
def test_it_is_the_product_of_dense_maps(mixing, make_layer):
    net = Pyramid(make_layer, mixing=mixing)
    with torch.no_grad(), record(net) as recording:
        net(torch.randn(2, 31, 8, dtype=torch.float64))
    expected = dense_rollout(recording)
    torch.testing.assert_close(rollout(recording, 0), expected[:, 0], **EXACT)
    torch.testing.assert_close(rollout(recording, (2, 1)), expected[:, 1 + 7], **EXACT)
    torch.testing.assert_close(rollout(recording), expected[:, 1:].mean(1), **EXACT)
    if mixing == "none":
        torch.testing.assert_close(rollout(recording, 3).sum(-1), torch.ones(2).double())


def test_an_even_map_stays_even_where_one_grid_does_not_divide_the_other(make_layer):
    net = Pyramid(make_layer)
    with torch.no_grad(), record(net) as recording:
        net(torch.randn(1, 31, 8, dtype=torch.float64))
    fine, coarse = recording.calls[1:3]
    handed_down = spread(torch.ones(1, 10).double(), coarse, fine)
    torch.testing.assert_close(handed_down, torch.tensor([[1.0, *30 * [9 / 30]]]).double())


def test_masked_tokens_get_nothing_of_a_coarser_one(make_layer):
    fine, coarse = make_layer(), make_layer()
    mask = torch.ones(1, 20).bool()
    mask[0, [0, 1, 4, 5, 6]] = False
    with torch.no_grad(), record(nn.ModuleList([fine, coarse])) as recording:
        fine(torch.randn(1, 20, 8).double(), grid=(4, 5), key_mask=mask)
        coarse(torch.randn(1, 4, 8).double(), grid=(2, 2))
    shares = torch.tensor([[1.0, 2, 4, 8]]).double()
    handed_down = spread(shares, recording.calls[1], recording.calls[0])
    # Two tokens over five share the middle one by halves; over four, each has two.
    columns = torch.tensor([[1, 1, 0.5, 0, 0], [0, 0, 0.5, 1, 1]]).double()
    covered = torch.kron(torch.eye(2).double().repeat_interleave(2, 1), columns) * mask
    torch.testing.assert_close(handed_down, shares @ (covered / covered.sum(1, keepdim=True)))
    assert not handed_down[~mask].any()


def test_some_layers_are_passed_over(make_layer):
    net = Pyramid(make_layer)
    with torch.no_grad(), record(net, layers=-1) as recording:
        net(torch.randn(1, 31, 8, dtype=torch.float64))
    row = map_rows(recording[0], 4).mean(1)[:, 0]
    torch.testing.assert_close(rollout(recording, 4), (row + nn.functional.one_hot(torch.tensor(4), 10)) / 2)


def test_masked_tokens_have_no_share(make_layer):
    layer = make_layer(mixing="none", landmarks=(3,))
    mask = torch.rand(2, 10) < 0.6
    mask[:, 0] = True
    with torch.no_grad(), record(layer) as recording:
        layer(torch.randn(2, 10, 8, dtype=torch.float64), key_mask=mask)
    shares = rollout(recording)
    assert not shares[~mask].any()
    torch.testing.assert_close(shares.sum(-1), torch.ones(2).double())


def test_a_hierarchical_net_is_followed_to_its_first_layer():
    torch.manual_seed(0)
    net = IViT(depths=(1, 1, 2, 1), dims=(8, 8, 16, 16), head_dim=8, landmarks=2, mixing="none").eval()
    # Odd grids: 9 x 5 tokens, then 5 x 3.
    with torch.inference_mode(), record(net) as recording:
        net(torch.randn(1, 3, 130, 70))
        shares = rollout(recording, (4, 2))
    assert [call.grid for call in recording] == [(9, 5), (9, 5), (5, 3)]
    assert shares.shape == (1, 45)
    assert float(shares.sum()) == pytest.approx(1, abs=1e-5)
    # Half of a half of what the token keeps for itself lies in its own corner.
    assert shares.argmax() >= 45 - 10


def test_layers_that_are_no_path_are_told(make_layer):
    fine, coarse, crossed = make_layer(), make_layer(), make_layer()

    def run(*calls) -> str:
        net = nn.ModuleList([fine, coarse, crossed])
        with torch.no_grad(), record(net) as recording:
            for layer, grid, options in calls:
                layer(torch.randn(1, grid[0] * grid[1], 8).double(), grid=grid, **options)
        with pytest.raises(ValueError, match=r"record") as caught:
            rollout(recording)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    upwards = run((coarse, (2, 3), {}), (fine, (4, 6), {}))
    assert "layer '0' on a grid of (4, 6) does not follow layer '1' on (2, 3)" in upwards
    assert "does not follow" in run((coarse, (6, 2), {}), (fine, (2, 6), {}))
    context = {"context": torch.randn(1, 6, 8).double(), "context_grid": (2, 3)}
    assert "layer '2' looks at a context" in run((crossed, (4, 6), context))
    assert "layer '0' was called 2 times" in run((fine, (4, 6), {}), (fine, (4, 6), {}))


def test_a_token_that_is_not_there():
    layer = InteractiveAttention(8, 2, landmarks=(2, 2))
    with record(layer) as recording:
        layer(torch.randn(1, 12, 8), grid=(3, 4))
    with pytest.raises(ValueError, match=r"token \(3, 0\) is outside the grid .* nearest is \(2, 0\)"):
        rollout(recording, (3, 0))
