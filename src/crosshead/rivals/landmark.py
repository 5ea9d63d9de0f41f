"""Attention through a few landmarks or agents, from the packages of that name.

Legend: `B` batch, `H` heads, `N` tokens, `L` landmarks, `C` channels, `D = C / H` head dim.
"""

from math import prod

import torch
from torch import Tensor

from crosshead.rivals.adapter import library_class, set_bias
from crosshead.rivals.layer import Capabilities, Mechanism, Rival

HALF = (torch.float16, torch.bfloat16)


class NystromAttention(Rival):
    """Softmax attention approximated from segment means of queries and keys.

        O = softmax(s Q Kl^T) Z softmax(s Ql K^T) V + conv(V),    Z ~ pinv(softmax(s Ql Kl^T)),    s = D^-1/2

    `Ql` and `Kl` are means of `L` segments of consecutive tokens, `conv` runs along the tokens with 33 taps
    for each head, and six iterations approach the pseudo-inverse.

    Source: Y. Xiong et al., "Nystromformer", arXiv 2102.03902, equation (15); the package nystrom-attention.
    Cost `N L C + H L^3`.

    As in the package: segments are runs of the row-by-row sequence, not cells of the grid; where `L` does not
    divide `N`, zeros fill it up in front; a segment without any token keeps its place, masked. The iteration
    starts from the largest sums of the whole batch, heads and samples alike, so **samples of a batch change
    each other's results** as long as it has not converged; from outside that can only be avoided with batches
    of one. A sample with masked tokens is cut into the segments of its padded sequence: what is masked has no
    say, but alone, without padding, the sample would be cut elsewhere.

    Assumed: the zeros in front are always masked (the package masks them only in a batch that has a mask);
    a bias of the projection to queries, keys and values, which the package lacks, begins at zero; half
    precision runs under autocast, because the package's identity matrix is float32.

    Args:
        dim: channels `C`.
        num_heads: `H`.
        convolution: whether `conv(V)` is added.
        **options: as `Rival` takes them; `L` is the product of `landmarks`.

    Raises:
        ImportError: nystrom-attention is not installed.

    Example:
        >>> import torch
        >>> layer = NystromAttention(32, 4, grid=(6, 4), landmarks=(3, 2))
        >>> layer(torch.randn(2, 24, 32), grid=(6, 4)).shape
        torch.Size([2, 24, 32])
    """

    mechanism = Mechanism(
        title="Nystromformer",
        paper="Xiong et al. 2021, arXiv 2102.03902",
        complexity="N L C + H L^3",
        source="nystrom-attention NystromAttention",
        heads_talk=False,
        capabilities=Capabilities(key_mask=True, any_grid=True, any_length=True, linear=True),
    )

    def __init__(self, dim: int, num_heads: int, *, convolution: bool = True, **options) -> None:
        super().__init__(dim, num_heads, **options)
        layer_class = library_class("nystrom_attention", "NystromAttention", package="nystrom-attention")
        self.layer = layer_class(
            dim,
            dim_head=self.head_dim,
            heads=num_heads,
            num_landmarks=prod(self.landmarks),
            residual=convolution,
        ).to(**self.placed)
        set_bias(self.layer.to_qkv, wanted=self.qkv_bias)
        set_bias(self.layer.to_out[0], wanted=self.proj_bias)

    def attend(self, x: Tensor, grid: tuple[int, int], key_mask: Tensor | None) -> Tensor:
        """`(B, N, C)` to `(B, N, C)`."""
        if key_mask is None and x.shape[1] % self.layer.num_landmarks:
            key_mask = x.new_ones(x.shape[:2], dtype=torch.bool)
        if x.dtype not in HALF:
            return self.layer(x, mask=key_mask)
        with torch.autocast(x.device.type, dtype=x.dtype):
            return self.layer(x, mask=key_mask)


class AgentTalkingHeads(Rival):
    """Agent attention whose heads are mixed on both maps after the softmax.

        A_q = P_q softmax(s Q A^T),    A_k = P_k softmax(s A K^T),    O = gate(X) (A_q (A_k V)),    s = D^-1/2

    `A` are `L` learned agents, `P_q` and `P_k` mix heads, and the gate is a sigmoid for each token and head.

    Source: D. Han et al., "Agent Attention", arXiv 2312.08874, for the product; talking heads, gate and
    learned agents are those of the package agent-attention-pytorch. Cost `N L (C + H^2)`.

    As in the package: agents are parameters and not pooled queries, position bias and convolution are absent,
    and `P_q`, `P_k` are H x H convolutions without bias and without residual. Assumed: biases of the
    projections, which the package lacks, begin at zero.

    Args:
        dim: channels `C`.
        num_heads: `H`.
        **options: as `Rival` takes them; `L` is the product of `landmarks`.

    Raises:
        ImportError: agent-attention-pytorch is not installed.

    Example:
        >>> import torch
        >>> layer = AgentTalkingHeads(32, 4, grid=(6, 4), landmarks=(3, 2))
        >>> layer(torch.randn(2, 24, 32), grid=(6, 4)).shape
        torch.Size([2, 24, 32])
    """

    mechanism = Mechanism(
        title="agent attention with talking heads",
        paper="Han et al. 2023, arXiv 2312.08874",
        complexity="N L (C + H^2)",
        source="agent-attention-pytorch AgentSelfAttention",
        heads_talk=True,
        capabilities=Capabilities(key_mask=True, any_grid=True, any_length=True, linear=True),
    )

    def __init__(self, dim: int, num_heads: int, **options) -> None:
        super().__init__(dim, num_heads, **options)
        layer_class = library_class(
            "agent_attention_pytorch", "AgentSelfAttention", package="agent-attention-pytorch"
        )
        self.layer = layer_class(
            dim, num_agent_tokens=prod(self.landmarks), dim_head=self.head_dim, heads=num_heads
        ).to(**self.placed)
        set_bias(self.layer.to_qkv[0], wanted=self.qkv_bias)
        set_bias(self.layer.to_out[-1], wanted=self.proj_bias)

    def attend(self, x: Tensor, grid: tuple[int, int], key_mask: Tensor | None) -> Tensor:
        """`(B, N, C)` to `(B, N, C)`."""
        return self.layer(x, mask=key_mask)
