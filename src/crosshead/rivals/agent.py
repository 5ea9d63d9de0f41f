"""Agent attention: a few pooled queries collect the values, and every query reads from them.

Legend: `B` batch, `H` heads, `N` tokens, `D` head dim, `C = H D` channels, `L` agents, `s = D^-1/2`.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crosshead.attention.grid import zero_outside
from crosshead.attention.landmarks import occupied_landmarks, pool_landmarks
from crosshead.attention.local import LocalTerm
from crosshead.rivals.layer import Capabilities, Mechanism, Projected
from crosshead.rivals.masked_softmax import masked_softmax

# Rows and columns of the block biases, whatever the grid.
_BLOCK = 7


class AgentAttention(Projected):
    """Agent attention in its official form, with position biases and a convolution of the values.

        A = pool(Q)
        O = softmax(s Q A^T + B2) softmax(s A K^T + B1) V + DWC3x3(V)

    `B1` `(H, L, N)` and the transpose of `B2` `(H, N, L)` are each a block bias `(H, L, 7, 7)`, interpolated
    bilinearly to the grid, plus a bias for each row and one for each column of the grid; all are learned.

    Source: D. Han et al., "Agent Attention", ECCV 2024, arXiv 2312.08874, written from the equation of its
    official form. Cost `N L C`.

    As published, the biases belong to one grid, so a layer takes only the grid that it was built for; that
    grid need not be square. Assumed: the convolution has no bias and torch's usual initialisation; masked
    batches, which the original does not take, drop masked keys and the agents of cells without tokens.

    Args:
        dim: channels `C`.
        num_heads: `H`.
        position_bias: whether there are `B1` and `B2`: `2 H L (49 + rows + columns)` parameters, which in a
            narrow model outnumber all others.
        **options: as `Rival` takes them; there are as many agents as landmarks.

    Example:
        >>> import torch
        >>> layer = AgentAttention(32, 4, grid=(5, 3), landmarks=(2, 2))
        >>> layer(torch.randn(2, 15, 32), grid=(5, 3)).shape
        torch.Size([2, 15, 32])
    """

    mechanism = Mechanism(
        title="agent attention",
        paper="Han et al. 2024, arXiv 2312.08874",
        complexity="N L C",
        source="written from the equation",
        heads_talk=False,
        capabilities=Capabilities(key_mask=True, any_grid=True, any_length=False, linear=True),
    )

    def __init__(self, dim: int, num_heads: int, *, position_bias: bool = True, **options) -> None:
        super().__init__(dim, num_heads, **options)
        self.position_bias = position_bias
        if position_bias:
            self.agent_bias = _GridBias(self.num_heads, self.landmarks, self.grid, self.placed)
            self.query_bias = _GridBias(self.num_heads, self.landmarks, self.grid, self.placed)
        self.local = LocalTerm(dim, axes=2, kernel_size=3, **self.placed)
        self.local.conv.reset_parameters()

    def attend_heads(
        self, q: Tensor, k: Tensor, v: Tensor, grid: tuple[int, int], key_mask: Tensor | None
    ) -> Tensor:
        """`(B, H, N, D)` to `(B, H, N, D)`."""
        agents = pool_landmarks(q, grid=grid, landmarks=self.landmarks, mask=key_mask)
        keys = occupied = None
        if key_mask is not None:
            keys = key_mask[:, None, None]
            occupied = occupied_landmarks(key_mask, grid=grid, landmarks=self.landmarks)[:, None, None]
            v = zero_outside(key_mask, v)
        scale = self.head_dim**-0.5
        to_keys = agents * scale @ k.transpose(-1, -2)
        to_agents = q * scale @ agents.transpose(-1, -2)
        if self.position_bias:
            to_keys = to_keys + self.agent_bias()
            to_agents = to_agents + self.query_bias().transpose(-1, -2)
        collected = masked_softmax(to_keys, keys) @ v
        near = self.local(v, grid=grid).unflatten(-1, (self.num_heads, self.head_dim)).transpose(1, 2)
        return masked_softmax(to_agents, occupied) @ collected + near


class _GridBias(nn.Module):
    """A learned number for each head, agent and token: a coarse block, and one for each row and column."""

    def __init__(self, heads: int, agents: tuple[int, int], grid: tuple[int, int], placed: dict) -> None:
        super().__init__()
        self.grid = grid
        lead = heads, agents[0] * agents[1]
        self.block = nn.Parameter(torch.empty(*lead, _BLOCK, _BLOCK, **placed))
        self.rows = nn.Parameter(torch.empty(*lead, grid[0], 1, **placed))
        self.columns = nn.Parameter(torch.empty(*lead, 1, grid[1], **placed))
        for bias in self.parameters():
            nn.init.trunc_normal_(bias, std=0.02)

    def forward(self) -> Tensor:
        """`(H, L, N)`."""
        block = F.interpolate(self.block, size=self.grid, mode="bilinear", align_corners=False)
        return (block + self.rows + self.columns).flatten(2)
