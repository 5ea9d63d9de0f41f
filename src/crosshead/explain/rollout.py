"""Attention rollout: from which tokens of the first layer a token of the last one comes.

Legend: `B` batch, `H` heads, `N` tokens, `L` landmarks.
"""

import torch
from torch import Tensor

from crosshead.explain.call import LayerCall
from crosshead.explain.factors import sum_of
from crosshead.explain.maps import query_numbers
from crosshead.explain.path import path_of, spread
from crosshead.explain.recording import Recording
from crosshead.explain.selection import Place


def rollout(recording: Recording, token: Place | None = None) -> Tensor:
    """The rollout of a token through all recorded layers, a vector times factors and never N x N.

        r <- 1/2 r + 1/2 mean_h (r F_q^h) F_k^h        from the last layer to the first, O(N L H (D + H)) each

    The half that stays is the residual connection; MLPs and convolutions are taken for maps from each token
    to itself. Between stages of a hierarchical net, a token hands its share to the cell of finer tokens that
    it stands for, all of them alike. Without weight mixing shares are positive and sum to one. With it they
    may be negative and sum to anything, and are left so: to divide rows by sums near zero would make noise.

    Args:
        recording: of one forward pass. Layers that are not in it are passed over.
        token: of the last layer: a number, prefix tokens first, or a place on its grid. None for all tokens
            of the grid alike, which is what a net reads that averages them.

    Returns:
        `(B, N)`, the tokens of the first layer; `on_grid` lays them on its grid.

    Raises:
        ValueError: if there is no such token; if a layer was called several times, looks at a context, or
            stands on a finer grid than the one before it; if the weights have changed.
        TypeError: if the token is neither a number nor a place.

    Source: S. Abnar, W. Zuidema, arXiv 2005.00928, section 3, in factored form.

    Example:
        >>> from crosshead.explain import record, rollout
        >>> from crosshead.vision import IViT
        >>> net = IViT(depths=(1, 1, 2, 1), dims=(16, 16, 32, 32)).eval()
        >>> with torch.no_grad(), record(net) as recording:
        ...     y = net(torch.zeros(1, 3, 128, 96))
        >>> shares = rollout(recording, (3, 2))
        >>> recording[0].grid, shares.shape, round(float(shares.sum()), 4)
        ((8, 6), torch.Size([1, 48]), 1.0)
    """
    calls = path_of(recording)
    last = calls[-1]
    shares = torch.zeros(last.x.shape[:2], device=last.x.device, dtype=last.factors.key_landmarks.dtype)
    if token is None:
        shares[:, last.num_prefix_tokens :] = 1
        rows = last.pooling.row_mask
        shares = shares if rows is None else shares * rows
        shares = shares / shares.sum(-1, keepdim=True).clamp(min=1)
    else:
        shares[:, query_numbers(last, [token])] = 1
    for number in reversed(range(len(calls))):
        shares = (shares + _looked_at(calls[number], shares)) / 2
        if number:
            shares = spread(shares, calls[number], calls[number - 1])
    return shares


def _looked_at(call: LayerCall, shares: Tensor) -> Tensor:
    """`mean_h (r F_q^h) F_k^h` of `(B, N)`."""
    factors = call.factors
    taken = sum_of(
        torch.einsum("bn,bhnl->bhl", shares[:, tile], factors.query(tile)) for tile in factors.query_tiles()
    )
    found = [torch.einsum("bhl,bhlm->bm", taken, factors.key(tile)) for tile in factors.key_tiles()]
    return torch.cat(found, -1) / call.heads
