"""Role-guided attention: every head may look only where its role lets it.

Legend: `B` batch, `H` heads, `N` tokens, `D` head dim, `C = H D` channels.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from crosshead.rivals.layer import Capabilities, Mechanism, Projected


class RoleGuidedAttention(Projected):
    """Softmax attention with a fixed mask for each head.

        O_h = softmax((Q_h K_h^T + M_h) / sqrt(D)) V_h
        M_h[i, j] = 0 where the role of head h lets token i see token j, else -inf

    Source: D. Wang et al., "Multi-Head Self-Attention with Role-Guided Masks", ECIR 2021, arXiv 2012.12366.
    Cost `N^2 C`.

    Assumed: of the paper we know that a mask lets each head attend to positions of its role only; its
    equations and its list of roles, which are made for texts, are not known to us. So the form above is ours,
    and so are the roles for tokens of a grid: every token, those of the same row, those of the same column,
    and the 3 x 3 neighbourhood, given to the heads in turn. Every role lets a token see itself.

    Args:
        dim: channels `C`.
        num_heads: `H`; with fewer than four the last roles are left out.
        **options: as `Rival` takes them.

    Example:
        >>> import torch
        >>> RoleGuidedAttention(32, 4, grid=(5, 3))(torch.randn(2, 15, 32), grid=(5, 3)).shape
        torch.Size([2, 15, 32])
    """

    mechanism = Mechanism(
        title="role-guided masks",
        paper="Wang et al. 2021, arXiv 2012.12366",
        complexity="N^2 C",
        source="form and roles assumed",
        heads_talk=False,
        capabilities=Capabilities(key_mask=True, any_grid=True, any_length=True, linear=False),
    )

    def attend_heads(
        self, q: Tensor, k: Tensor, v: Tensor, grid: tuple[int, int], key_mask: Tensor | None
    ) -> Tensor:
        """`(B, H, N, D)` to `(B, H, N, D)`."""
        roles = _grid_roles(grid, q.device)
        allowed = roles[torch.arange(self.num_heads, device=q.device) % len(roles)]
        if key_mask is not None:
            # Masked tokens see themselves, or they would have no softmax; zero comes out of them anyway.
            itself = torch.eye(q.shape[-2], dtype=torch.bool, device=q.device)
            allowed = allowed & key_mask[:, None, None] | itself
        return F.scaled_dot_product_attention(q, k, v, attn_mask=allowed)


def _grid_roles(grid: tuple[int, int], device: torch.device) -> Tensor:
    """Bool `(4, N, N)`: whether the second token may be seen by the first, for each role."""
    index = torch.arange(grid[0] * grid[1], device=device)
    row, column = index // grid[1], index % grid[1]
    down, across = (row[:, None] - row).abs(), (column[:, None] - column).abs()
    return torch.stack([down >= 0, down == 0, across == 0, (down <= 1) & (across <= 1)])
