import pytest
import torch
from torch import Tensor

from crosshead.rivals.agent import AgentAttention


def stretch(size: int) -> Tensor:
    """Linear interpolation of 7 numbers to `size`, whose cells cover the same length, `(size, 7)`."""
    matrix = torch.zeros(size, 7, dtype=torch.float64)
    for i in range(size):
        place = min(max((i + 0.5) * 7 / size - 0.5, 0.0), 6.0)
        low = int(place)
        matrix[i, low] += 1 - (place - low)
        matrix[i, min(low + 1, 6)] += place - low
    return matrix


def grid_bias(bias, grid: tuple[int, int]) -> Tensor:
    """`(H, L, N)`."""
    block = torch.einsum("ra,hlab,cb->hlrc", stretch(grid[0]), bias.block, stretch(grid[1]))
    lines = [
        block[:, :, row, column] + bias.rows[:, :, row, 0] + bias.columns[:, :, 0, column]
        for row in range(grid[0])
        for column in range(grid[1])
    ]
    return torch.stack(lines, dim=-1)


def cells(grid: tuple[int, int], agents: tuple[int, int]) -> list[list[int]]:
    """The tokens of each cell of adaptive average pooling."""
    spans = [
        [range(i * n // l, -(-(i + 1) * n // l)) for i in range(l)]
        for n, l in zip(grid, agents, strict=True)  # noqa: E741
    ]
    return [[r * grid[1] + c for r in rows for c in columns] for rows in spans[0] for columns in spans[1]]


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(("grid", "agents"), [((5, 3), (2, 2)), ((3, 9), (2, 3)), ((2, 2), (7, 7))])
def test_equals_the_published_equation(
    assert_equal_to_formula, between_projections, depth_wise, grid, agents, masked
):
    layer = AgentAttention(8, 2, grid=grid, landmarks=agents)

    def heads(q: Tensor, k: Tensor, v: Tensor, valid: Tensor) -> Tensor:
        agent, dead = [], []
        for cell in cells(grid, layer.landmarks):
            count = valid[:, cell].sum(1)
            total = (q[:, :, cell] * valid[:, None, cell, None]).sum(2)
            agent.append(total / count.clamp(min=1)[:, None, None])
            dead.append(count == 0)
        agent, dead = torch.stack(agent, dim=2), torch.stack(dead, dim=1)
        to_keys = agent @ k.mT / layer.head_dim**0.5 + grid_bias(layer.agent_bias, grid)
        to_agents = q @ agent.mT / layer.head_dim**0.5 + grid_bias(layer.query_bias, grid).mT
        to_keys = to_keys.masked_fill(~valid[:, None, None], -torch.inf).softmax(-1)
        to_agents = to_agents.masked_fill(dead[:, None, None], -torch.inf).softmax(-1)
        return to_agents @ to_keys @ v + depth_wise(v, layer.local.conv.weight, grid, valid)

    assert_equal_to_formula(layer, between_projections(layer, heads), grid=grid, masked=masked)


def test_a_fresh_layer_has_position_biases_and_a_convolution():
    layer = AgentAttention(32, 4, grid=(9, 9))
    biases = [*layer.agent_bias.parameters(), *layer.query_bias.parameters()]
    assert [tuple(bias.shape[2:]) for bias in biases] == [(7, 7), (9, 1), (1, 9)] * 2
    assert all(0.015 < bias.std() < 0.025 for bias in biases)
    assert layer.local.conv.weight.abs().min() > 0


def test_without_position_biases_it_is_the_layer_whose_biases_are_zero():
    torch.manual_seed(0)
    biased = AgentAttention(8, 2, grid=(3, 5), landmarks=(2, 2)).double()
    for bias in [*biased.agent_bias.parameters(), *biased.query_bias.parameters()]:
        torch.nn.init.zeros_(bias)
    plain = AgentAttention(8, 2, grid=(3, 5), landmarks=(2, 2), position_bias=False).double()
    plain.load_state_dict({name: biased.state_dict()[name] for name in plain.state_dict()})
    x = torch.randn(2, 15, 8, dtype=torch.float64)
    torch.testing.assert_close(plain(x, grid=(3, 5)), biased(x, grid=(3, 5)), rtol=1e-12, atol=1e-12)
    assert not [name for name in plain.state_dict() if "bias." in name]
