"""How alike the heads of a layer are.

Legend: `H` heads, `T` tokens, `E` channels of a head.
"""

from collections.abc import Iterable

import torch
from torch import Tensor


def head_alignment(tiles: Iterable[Tensor]) -> Tensor:
    """The linear centred kernel alignment of each pair of heads: 0 for uncorrelated, 1 for the same.

        K[g, h] = |X_g^T X_h|^2 / (|X_g^T X_g| |X_h^T X_h|)        X_h: T x E, less its mean over tokens

    A rotation, a scale and an offset of what a head gives change nothing. A head that always gives the same
    is uncorrelated with every other.

    Args:
        tiles: what the heads give, `(H, T, E)`, all tokens at once or some at a time.

    Returns:
        `(H, H)`, float64.

    Raises:
        ValueError: if there is not one tile.

    Source: S. Kornblith et al., arXiv 1905.00414, section 3.

    Example:
        >>> one, other = torch.randn(2, 1, 50, 4)
        >>> head_alignment([torch.cat([one, 3 * one + 1, other])])[0].round(decimals=6)[:2].tolist()
        [1.0, 1.0]
    """
    origin, count, total, products = None, 0, torch.zeros(()), torch.zeros(())
    for tile in tiles:
        heads = tile.double()
        # Seen from their first token, heads lose no digits by an offset, and constant ones are zero exactly.
        origin = heads[:, :1] if origin is None else origin
        heads = heads - origin
        count += heads.shape[1]
        total = total + heads.sum(1)
        products = products + torch.einsum("gne,hnf->ghef", heads, heads)
    if not count:
        raise ValueError("tiles must hold one token or more; got none: give what heads say of some tokens")
    centred = products - torch.einsum("ge,hf->ghef", total, total) / count
    shared = centred.square().sum((2, 3))
    own = shared.diagonal().sqrt().clamp(min=torch.finfo(shared.dtype).tiny)
    return shared / own[:, None] / own


def mean_similarity(alignment: Tensor) -> Tensor:
    """The mean over pairs of different heads, from the `(H, H)` of `head_alignment`.

    Example:
        >>> float(mean_similarity(torch.tensor([[1.0, 0.25], [0.25, 1.0]])))
        0.25
    """
    pairs = torch.triu(torch.ones_like(alignment, dtype=torch.bool), diagonal=1)
    return alignment[pairs].mean()
