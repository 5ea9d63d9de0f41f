"""Heads that interact around whole attention maps: mixed after the softmax, or attended to jointly.

Legend: `B` batch, `H` heads, `N` tokens, `D` head dim, `C = H D` channels, `P` pseudo-heads of each head.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crosshead.rivals.layer import Capabilities, Mechanism, Projected


class ReAttention(Projected):
    """Re-attention: maps are mixed across heads after the softmax, and normalised.

        O = Norm(Theta^T softmax(Q K^T / sqrt(D))) V

    `Theta` `(H, H)` is learned; `Norm` is batch normalisation with one mean and variance for each head, so in
    training the samples of a batch influence each other, and in evaluation they do not.

    Source: D. Zhou et al., "DeepViT", arXiv 2103.11886, written from the equation of re-attention. Cost
    `N^2 C + N^2 H^2`.

    Assumed: `Theta` starts as the identity, and `Norm` has torch's usual settings. Other grids are taken, but
    the running statistics are those of maps as long as in training. Padding would enter the statistics, so a
    mask is refused.

    Args:
        dim: channels `C`.
        num_heads: `H`.
        **options: as `Rival` takes them.

    Example:
        >>> import torch
        >>> ReAttention(32, 4, grid=(5, 3))(torch.randn(2, 15, 32), grid=(5, 3)).shape
        torch.Size([2, 15, 32])
    """

    mechanism = Mechanism(
        title="re-attention",
        paper="Zhou et al. 2021, arXiv 2103.11886",
        complexity="N^2 C + N^2 H^2",
        source="written from the equation",
        heads_talk=True,
        capabilities=Capabilities(key_mask=False, any_grid=True, any_length=True, linear=False),
    )

    def __init__(self, dim: int, num_heads: int, **options) -> None:
        super().__init__(dim, num_heads, **options)
        self.theta = nn.Parameter(torch.eye(num_heads, **self.placed))
        self.norm = nn.BatchNorm2d(num_heads, **self.placed)

    def attend_heads(
        self, q: Tensor, k: Tensor, v: Tensor, grid: tuple[int, int], key_mask: Tensor | None
    ) -> Tensor:
        """`(B, H, N, D)` to `(B, H, N, D)`."""
        maps = (q * self.head_dim**-0.5 @ k.transpose(-1, -2)).softmax(-1)
        mixed = torch.einsum("hg,bhnm->bgnm", self.theta, maps)
        return self.norm(mixed) @ v


class InterleavedHeads(Projected):
    """Interleaved head attention: every head attends over pseudo-tokens mixed from all heads.

        q~[h, p] = sum_m alpha_q[h, p, m] q_m        and so k~, v~ with alpha_k, alpha_v
        O_h = sum_p r[h, p] (softmax(Q~_h K~_h^T / sqrt(D)) V~_h)[p]

    Each token gives each head `P` pseudo-tokens, and the `N P` pseudo-tokens of a head attend to each other.

    Source: "Interleaved Head Attention", arXiv 2602.21371: the mixing is written from the equation, with
    `P = H`. Cost `N^2 P^2 C`.

    Assumed: the map that collapses the pseudo-heads, of which we know only that it is learned, is one number
    for each head and pseudo-head; the softmax scale is `sqrt(D)`. The start is near to plain attention: the
    first pseudo-head is the head itself, pseudo-head `p` takes the query and the key of the head `p` places
    further (cyclically) and the value of the head itself, and the collapse reads the first alone. Were
    they all alike, their gradients would be too, and they would stay alike.

    Args:
        dim: channels `C`.
        num_heads: `H`, also the pseudo-heads of each head.
        **options: as `Rival` takes them.

    Example:
        >>> import torch
        >>> InterleavedHeads(32, 4, grid=(5, 3))(torch.randn(2, 15, 32), grid=(5, 3)).shape
        torch.Size([2, 15, 32])
    """

    mechanism = Mechanism(
        title="interleaved heads",
        paper="Meta 2026, arXiv 2602.21371",
        complexity="N^2 H^2 C",
        source="written from the equation; the collapse is assumed",
        heads_talk=True,
        capabilities=Capabilities(key_mask=True, any_grid=True, any_length=True, linear=False),
    )

    def __init__(self, dim: int, num_heads: int, **options) -> None:
        super().__init__(dim, num_heads, **options)
        own = torch.eye(num_heads, **self.placed)
        # Row h of the p-th matrix says which head stands p places after h.
        following = torch.stack([own.roll(p, dims=1) for p in range(num_heads)], dim=1)
        self.query_mixing = nn.Parameter(following.clone())
        self.key_mixing = nn.Parameter(following.clone())
        self.value_mixing = nn.Parameter(own[:, None].repeat(1, num_heads, 1))
        self.collapse = nn.Parameter(torch.zeros(num_heads, num_heads, **self.placed))
        nn.init.ones_(self.collapse[:, 0])

    def attend_heads(
        self, q: Tensor, k: Tensor, v: Tensor, grid: tuple[int, int], key_mask: Tensor | None
    ) -> Tensor:
        """`(B, H, N, D)` to `(B, H, N, D)`."""
        allowed = None
        if key_mask is not None:
            # A sample without any key has no softmax: there the keys take part again, and zero comes out.
            keys = key_mask | ~key_mask.any(1, keepdim=True)
            allowed = keys.repeat_interleave(self.num_heads, 1)[:, None, None]
        pseudo = F.scaled_dot_product_attention(
            _interleaved(q, self.query_mixing),
            _interleaved(k, self.key_mixing),
            _interleaved(v, self.value_mixing),
            attn_mask=allowed,
        )
        return torch.einsum("hp,bhnpd->bhnd", self.collapse, pseudo.unflatten(2, (-1, self.num_heads)))


def _interleaved(x: Tensor, mixing: Tensor) -> Tensor:
    """`(B, H, N, D)` to `(B, H, N P, D)`, the pseudo-tokens of a token side by side."""
    return torch.einsum("hpm,bmnd->bhnpd", mixing, x).flatten(2, 3)
