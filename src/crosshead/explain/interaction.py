"""What heads owe each other: the layer as it is, beside the layer without its mixing.

Legend: `B` batch, `H` heads, `N` query tokens; R is a residual matrix of mixing: head g takes `R[g, h]` of
head h beside what it holds.

A head multiplies its own values: what heads exchange is where to look. `O_g = F_q^g F_k^g V_g`, and mixing of
weights makes both factors sums over heads, `F^g = S^g + sum_h R[g, h] S^h` with the softmaxes S.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from crosshead.attention.mixing import HeadMixing, Mixing
from crosshead.explain.call import LayerCall
from crosshead.explain.factors import Factors
from crosshead.explain.mixing import mixing_matrices, whole


class Interaction(NamedTuple):
    """How much of what heads give is owed to each other.

    Attributes:
        change: `(B, H, N)`, the length of the difference that interaction makes to what a token gets.
        size: `(B, H, N)`, the length of what it gets.
    """

    change: Tensor
    size: Tensor

    @property
    def share(self) -> Tensor:
        """`(B, H)`, the change over all tokens by the size over all tokens; above 1 where parts cancel."""
        size = self.size.norm(dim=-1)
        return self.change.norm(dim=-1) / size.clamp(min=torch.finfo(size.dtype).tiny)


def through_other_heads(call: LayerCall, *, mixing: Mixing = "both") -> Interaction:
    """How much of what each head gives came through other heads.

        change = |O - O'|    size = |O|    O' = O with all R[g, h] = 0 for g != h, from the same inputs

    For weights this is a split: O is a sum over pairs of softmaxes, of the query and of the key factor; O'
    holds the pair of the head's own, and `O - O'` all others. For logits it is not: they are mixed inside the
    softmax, where no part of the result belongs to one head, and the change says what would be different
    without the others, no more. Changes of logits and of weights do not add up to that of both. Layers
    behind this one are not asked.

    Args:
        call: of a layer, from a recording.
        mixing: which of the matrices lose their off-diagonal entries: "logits", "weights" or "both".

    Returns:
        An `Interaction`: per token, and as `share` per head; before the last projection, without a local
        term.

    Raises:
        ValueError: if `mixing` is none of the three; if the layer's weights have changed.

    Example:
        >>> from crosshead import InteractiveAttention
        >>> from crosshead.explain import record, through_other_heads
        >>> layer = InteractiveAttention(32, 4, landmarks=(2, 3))
        >>> with record(layer) as recording:
        ...     y = layer(torch.randn(1, 5 * 6, 32), grid=(5, 6))
        >>> through_other_heads(recording[0]).share  # a fresh layer does not mix
        tensor([[0., 0., 0., 0.]])
    """
    return _interaction(call, _without(call, torch.eye(call.heads), mixing))


def between_heads(call: LayerCall, *, mixing: Mixing = "both") -> Tensor:
    """What each head owes each other one: the change where it no longer listens to that one alone.

        [g, h] = |O_g - O_g'| / |O_g|      O_g' = O_g with R[g, h] = 0      0 on the diagonal

    As `share` of `through_other_heads`, of one entry of each matrix at a time. What goes through several
    heads at once is in several entries, so rows do not add up to that share. The layer is computed once more
    for each pair of heads of a group that do listen to each other.

    Args:
        call: of a layer, from a recording.
        mixing: which of the matrices lose the entry: "logits", "weights" or "both".

    Returns:
        `(B, H, H)`, the head that listens first.

    Raises:
        ValueError: if `mixing` is none of the three; if the layer's weights have changed.

    Example:
        >>> from crosshead import InteractiveAttention
        >>> from crosshead.explain import between_heads, record
        >>> layer = InteractiveAttention(32, 4, landmarks=(2, 3))
        >>> layer.key_mixing.weights.data[1, 3] = 0.5
        >>> with record(layer) as recording:
        ...     y = layer(torch.randn(1, 5 * 6, 32), grid=(5, 6))
        >>> between_heads(recording[0])[0].nonzero().tolist()
        [[1, 3]]
    """
    listens = sum(matrix != 0 for matrix in mixing_matrices(call) if matrix is not None)
    found = call.x.new_zeros(call.x.shape[0], call.heads, call.heads)
    for g, h in torch.as_tensor(listens).nonzero().tolist():
        if g != h:
            keep = torch.ones(call.heads, call.heads)
            keep[g, h] = 0
            found[:, g, h] = _interaction(call, _without(call, keep, mixing)).share[:, g]
    return found


def apart(call: LayerCall) -> Factors:
    """The factors of a call if heads did not talk: their residual matrices without off-diagonal entries."""
    return _without(call, torch.eye(call.heads), "both")


def _without(call: LayerCall, keep: Tensor, mixing: Mixing) -> Factors:
    """The factors of a call with the entries of its matrices multiplied by `keep`, (H, H)."""
    if mixing not in ("logits", "weights", "both"):
        raise ValueError(f"mixing must be logits, weights or both; got {mixing!r}")

    def kept(given: HeadMixing) -> HeadMixing:
        logits, weights = given
        if logits is not None and mixing != "weights":
            logits = whole(logits) * keep.to(logits)
        if weights is not None and mixing != "logits":
            weights = whole(weights) * keep.to(weights)
        return HeadMixing(
            None if logits is None else whole(logits), None if weights is None else whole(weights)
        )

    return Factors(call, query_mixing=kept(call.query_mixing), key_mixing=kept(call.key_mixing))


def _interaction(call: LayerCall, other: Factors) -> Interaction:
    tiles = zip(call.factors.outputs(), other.outputs(), strict=True)
    lengths = [((given - without).norm(dim=-1), given.norm(dim=-1)) for (_, given), (_, without) in tiles]
    return Interaction(*(torch.cat(parts, -1) for parts in zip(*lengths, strict=True)))
