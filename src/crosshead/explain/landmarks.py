"""What landmarks do: which of them a token listens to, what they gather, and whom they reach.

Legend: `B` batch, `H` heads, `N` query tokens, `M` key tokens, `L` landmarks.

Everything that a token gets passes through landmarks: landmark l gathers `F_k[l, :] V` from the tokens, and
token i takes `F_q[i, l]` of it. Without weight mixing both are softmax weights. With it they may be negative,
a landmark being subtracted.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from crosshead.explain.call import LayerCall
from crosshead.explain.maps import landmark_numbers, query_numbers
from crosshead.explain.selection import Heads, Places, head_numbers

# So that weights which are all zero share nothing, and not NaN.
TINY = torch.finfo(torch.float32).tiny


class Listening(NamedTuple):
    """How tokens listen to landmarks.

    Attributes:
        landmark: int64 `(B, heads, tokens)`, the number of the one that a token takes most of.
        weight: `(B, heads, tokens)`, how much: its entry of the query factor, negative if it is subtracted.
        entropy: `(B, heads, tokens)`, in nats, from 0 for a single landmark to `log L` for all alike:
            `exp(entropy)` says how many are listened to.
    """

    landmark: Tensor
    weight: Tensor
    entropy: Tensor


def listening(call: LayerCall, tokens: Places = None, *, heads: Heads = None) -> Listening:
    """Which landmark each token listens to, and how many there are for it.

        argmax_l |F_q[i, l]|          -sum_l p_l log p_l    with    p_l = |F_q[i, l]| / sum_m |F_q[i, m]|

    Args:
        call: of a layer, from a recording.
        tokens: as for `map_rows`; None for all.
        heads: a number or several; None for all.

    Returns:
        A `Listening`. Masked tokens listen to landmark 0 with weight and entropy 0.

    Raises:
        ValueError: if there is no such token or head; if the layer's weights have changed.
        TypeError: if a token or head is not a number.

    Source: the entropy of attention weights as in arXiv 1906.04341, section 3, over landmarks.

    Example:
        >>> from crosshead import InteractiveAttention
        >>> from crosshead.explain import listening, record
        >>> layer = InteractiveAttention(32, 4, landmarks=(2, 3))
        >>> with record(layer) as recording:
        ...     y = layer(torch.randn(1, 5 * 6, 32), grid=(5, 6))
        >>> found = listening(recording[0], (4, 5))
        >>> found.landmark.shape, bool((found.entropy <= torch.tensor(6.0).log()).all())
        (torch.Size([1, 4, 1]), True)
    """
    chosen, of = query_numbers(call, tokens), head_numbers(heads, call.heads)
    found: list[Listening] = []
    for tile in call.factors.tiles(len(chosen)):
        weights = call.factors.query(chosen[tile])[:, of]
        size = weights.abs()
        landmark = size.argmax(-1, keepdim=True)
        entropy = torch.special.entr(size / size.sum(-1, keepdim=True).clamp(min=TINY)).sum(-1)
        found.append(Listening(landmark[..., 0], weights.gather(-1, landmark)[..., 0], entropy))
    return Listening(*(torch.cat(parts, -1) for parts in zip(*found, strict=True)))


def landmark_sources(call: LayerCall, landmarks: Places = None, *, heads: Heads = None) -> Tensor:
    """What landmarks gather from: rows of the key factor.

        F_k[l, :]

    Args:
        call: of a layer, from a recording.
        landmarks: a number, the place of a cell such as `(row, column)`, or a list of these; None for all,
            `B H L M` numbers. Numbers count prefix tokens first, which are landmarks of their own.
        heads: a number or several; None for all.

    Returns:
        `(B, heads, landmarks, M)`, prefix tokens first. Rows of a cell without a token are zero; others sum
        to one, unless the layer mixes weights.

    Raises:
        ValueError: if there is no such landmark or head; if the layer's weights have changed.
        TypeError: if a landmark or head is not a number.

    Source: arXiv 2402.17507, equation 6.

    Example:
        >>> from crosshead import InteractiveAttention
        >>> from crosshead.explain import landmark_sources, on_grid, record
        >>> layer = InteractiveAttention(32, 4, landmarks=(2, 3))
        >>> with record(layer) as recording:
        ...     y = layer(torch.randn(1, 5 * 6, 32), grid=(5, 6))
        >>> on_grid(landmark_sources(recording[0], (1, 2), heads=0), (5, 6)).shape
        torch.Size([1, 1, 1, 5, 6])
    """
    chosen, of = landmark_numbers(call, landmarks), head_numbers(heads, call.heads)
    tiles = [call.factors.key(tile)[:, of][:, :, chosen] for tile in call.factors.key_tiles()]
    return torch.cat(tiles, -1)


def landmark_readers(call: LayerCall, landmarks: Places = None, *, heads: Heads = None) -> Tensor:
    """Whom landmarks reach: columns of the query factor.

        F_q[:, l]

    Args:
        call: of a layer, from a recording.
        landmarks: as for `landmark_sources`; None for all, `B H N L` numbers.
        heads: a number or several; None for all.

    Returns:
        `(B, heads, N, landmarks)`, prefix tokens first. Over all landmarks the rows of valid tokens sum to
        one, unless the layer mixes weights.

    Raises:
        ValueError: if there is no such landmark or head; if the layer's weights have changed.
        TypeError: if a landmark or head is not a number.

    Source: arXiv 2402.17507, equation 6.

    Example:
        >>> from crosshead import InteractiveAttention
        >>> from crosshead.explain import landmark_readers, landmark_sources, map_rows, record
        >>> layer = InteractiveAttention(32, 4, landmarks=(2, 3))
        >>> with record(layer) as recording:
        ...     y = layer(torch.randn(1, 5 * 6, 32), grid=(5, 6))
        >>> attention_map = landmark_readers(recording[0]) @ landmark_sources(recording[0])
        >>> torch.allclose(attention_map[:, :, 7:8], map_rows(recording[0], 7))
        True
    """
    chosen, of = landmark_numbers(call, landmarks), head_numbers(heads, call.heads)
    tiles = [call.factors.query(tile)[:, of][..., chosen] for tile in call.factors.query_tiles()]
    return torch.cat(tiles, -2)
