"""Whether heads give different things, with and without talking to each other.

Legend: `H` heads, `N` query tokens, `D` head dim.
"""

from collections.abc import Iterator
from typing import NamedTuple

from torch import Tensor

from crosshead.explain.call import LayerCall
from crosshead.explain.factors import Factors
from crosshead.explain.interaction import apart
from crosshead.measure.similarity import head_alignment, mean_similarity


class HeadDiversity(NamedTuple):
    """How different the heads of a layer are, from 0 for heads that agree to 1 for uncorrelated ones.

    Attributes:
        before: of what heads would give if they did not talk.
        after: of what they gave.
        similarity_before: `(H, H)`, of each pair, 1 for heads that agree.
        similarity_after: `(H, H)`.
    """

    before: float
    after: float
    similarity_before: Tensor
    similarity_after: Tensor


def head_diversity(call: LayerCall) -> HeadDiversity:
    """The diversity of heads before and after mixing: one minus the mean similarity of two of them.

        K[g, h] = |O_g^T O_h|^2 / (|O_g^T O_g| |O_h^T O_h|)        linear centred kernel alignment

    O_g is what head g gives to all valid tokens of all samples, less its mean: before the last projection,
    without a local term. "Before mixing" is the same layer with `R[g, h] = 0` for g != h, from the same
    inputs: logits mix inside the softmax, so that there is nothing earlier to look at.

    Args:
        call: of a layer, from a recording.

    Returns:
        A `HeadDiversity`.

    Raises:
        ValueError: if the layer has a single head, or its weights have changed.

    Source: S. Kornblith et al., arXiv 1905.00414, section 3.

    Example:
        >>> import torch
        >>> from crosshead import InteractiveAttention
        >>> from crosshead.explain import head_diversity, record
        >>> layer = InteractiveAttention(32, 4, landmarks=(2, 3))
        >>> with record(layer) as recording:
        ...     y = layer(torch.randn(1, 5 * 6, 32), grid=(5, 6))
        >>> found = head_diversity(recording[0])
        >>> 0 < found.before == found.after < 1  # a fresh layer does not mix
        True
    """
    if call.heads < 2:
        raise ValueError(f"layer {call.name!r} must have two heads or more to compare; it has {call.heads}")
    before, after = (head_alignment(_valid_outputs(factors)) for factors in (apart(call), call.factors))
    return HeadDiversity(1 - float(mean_similarity(before)), 1 - float(mean_similarity(after)), before, after)


def _valid_outputs(factors: Factors) -> Iterator[Tensor]:
    """What heads give to tokens that take part, `(H, tokens, D)` a few at a time."""
    rows = factors.call.pooling.row_mask
    for tile, outputs in factors.outputs():
        heads = outputs.transpose(0, 1)
        yield heads.flatten(1, 2) if rows is None else heads[:, rows[:, tile]]
