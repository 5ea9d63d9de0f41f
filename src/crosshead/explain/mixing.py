"""What the mixing matrices of a layer say: which heads listen to which.

Legend: `H` heads; R is a residual matrix of mixing: head g takes `R[g, h]` of head h beside what it holds.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from crosshead.attention.module import InteractiveAttention
from crosshead.explain.call import LayerCall


class MixingMatrices(NamedTuple):
    """The residual matrices of a layer, `(H, H)` each; None where the layer does not mix.

    `matrix[g, h]` says how much of head h enters head g; the identity, every head's own share, is not in it.

    Attributes:
        query_logits: before the softmax over landmarks.
        query_weights: after it.
        key_logits: before the softmax over tokens.
        key_weights: after it.
    """

    query_logits: Tensor | None
    query_weights: Tensor | None
    key_logits: Tensor | None
    key_weights: Tensor | None


def mixing_matrices(layer: InteractiveAttention | LayerCall) -> MixingMatrices:
    """The mixing matrices of a layer without the identity, those of groups as blocks on the diagonal.

    Args:
        layer: a layer, or a call of one from a recording.

    Returns:
        A `MixingMatrices`, without gradients. All of a fresh layer are zero.

    Source: arXiv 2402.17507 for interaction on both factors; its form is ours, see `HeadMixing`.

    Example:
        >>> from crosshead import InteractiveAttention
        >>> from crosshead.explain import mixing_matrices
        >>> layer = InteractiveAttention(32, 4, landmarks=2, mixing="weights", mixing_group_size=2)
        >>> found = mixing_matrices(layer)
        >>> found.query_logits is None, found.key_weights.shape
        (True, torch.Size([4, 4]))
    """
    of_query, of_key = layer.query_mixing, layer.key_mixing
    matrices = (of_query.logits, of_query.weights, of_key.logits, of_key.weights)
    return MixingMatrices(*(None if matrix is None else whole(matrix.detach()) for matrix in matrices))


def whole(matrix: Tensor) -> Tensor:
    """A residual matrix as `(H, H)`; those of groups, `(H / K, K, K)`, are blocks on its diagonal."""
    return matrix if matrix.ndim == 2 else torch.block_diag(*matrix)
