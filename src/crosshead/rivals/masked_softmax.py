"""A softmax that leaves masked entries out, and never gives NaN."""

import torch
from torch import Tensor


def masked_softmax(logits: Tensor, allowed: Tensor | None, dim: int = -1) -> Tensor:
    """Softmax over the allowed entries alone.

    Args:
        logits: finite numbers of any shape.
        allowed: bool, broadcastable to `logits`, True = takes part; None lets everything take part.
        dim: the axis that is normalised.

    Returns:
        Weights in the shape of `logits`, zero where not allowed. Where nothing at all is allowed they are
        uniform: such rows belong to masked tokens, which are zero after the last projection.

    Example:
        >>> import torch
        >>> masked_softmax(torch.zeros(3), torch.tensor([True, False, True])).tolist()
        [0.5, 0.0, 0.5]
    """
    if allowed is not None:
        logits = logits.masked_fill(~allowed, torch.finfo(logits.dtype).min)
    return logits.softmax(dim)
