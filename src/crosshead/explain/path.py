"""One path through the layers of a recording, from its first tokens to its last.

Legend: `B` batch, `N` tokens.
"""

from itertools import pairwise

import torch
from torch import Tensor

from crosshead.attention.landmarks import pool_checked
from crosshead.explain.call import LayerCall
from crosshead.explain.recording import Recording


def path_of(recording: Recording) -> list[LayerCall]:
    """The calls of a recording as one path, in their order.

    Raises:
        ValueError: if a layer was called several times, looks at a context, or stands on a finer grid than
            the one before it.
    """
    calls = recording.one_pass()
    for call in calls:
        if call.context is not None:
            raise ValueError(
                f"layer {call.name!r} looks at a context: a path goes through layers that look at the tokens "
                "they stand on; record those alone"
            )
    for fine, coarse in pairwise(calls):
        shorter = len(fine.grid) == len(coarse.grid) and all(
            length >= after for length, after in zip(fine.grid, coarse.grid, strict=True)
        )
        if not shorter or fine.num_prefix_tokens != coarse.num_prefix_tokens:
            raise ValueError(
                f"layer {coarse.name!r} on a grid of {coarse.grid} does not follow layer {fine.name!r} on "
                f"{fine.grid}: a path keeps its tokens or pools them; record the layers of one path"
            )
    return calls


def spread(shares: Tensor, coarse: LayerCall, fine: LayerCall) -> Tensor:
    """What tokens hold, `(B, N)`, handed down to the tokens of the layer before, `(B, N')`; the sum stays.

    Between stages a token stands for the cell of finer tokens below it, all of them alike: whatever pools
    them, a strided convolution say, is taken for the mean over that cell, with the borders of adaptive
    average pooling. Prefix tokens stay what they are.

    Example:
        >>> from crosshead import InteractiveAttention
        >>> from crosshead.explain import record
        >>> layer = InteractiveAttention(32, 4, landmarks=(2,))
        >>> with record(layer) as recording:
        ...     y = layer(torch.randn(1, 4, 32)), layer(torch.randn(1, 2, 32))
        >>> spread(torch.tensor([[1.0, 3.0]]), recording.calls[1], recording.calls[0])
        tensor([[0.5000, 0.5000, 1.5000, 1.5000]])
    """
    if coarse.grid == fine.grid:
        return shares
    # The transpose of pooling, which is linear, is its derivative.
    with torch.inference_mode(False), torch.enable_grad():
        ones = torch.ones(*fine.x.shape[:2], 1, device=shares.device, dtype=shares.dtype, requires_grad=True)
        mask = fine.pooling.mask
        (pooled,) = pool_checked([ones], fine.grid, coarse.grid, mask, fine.num_prefix_tokens, None)
        (handed_down,) = torch.autograd.grad(pooled, ones, shares.clone()[..., None])
    return handed_down[..., 0]
