"""One path through the layers of a recording, from its first tokens to its last.

Legend: `B` batch, `N` tokens.
"""

from itertools import pairwise

import torch
from torch import Tensor

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

    Between stages a token stands for the part of the image that is its own, whatever pools it, a strided
    convolution say; finer tokens get of its share what they cover of that part. So an even map stays even,
    also where one grid does not divide the other. Masked tokens get nothing. Prefix tokens stay what they
    are.

    Example:
        >>> from crosshead import InteractiveAttention
        >>> from crosshead.explain import record
        >>> layer = InteractiveAttention(32, 4, landmarks=(2,))
        >>> with record(layer) as recording:
        ...     y = layer(torch.randn(1, 3, 32)), layer(torch.randn(1, 2, 32))
        >>> spread(torch.tensor([[3.0, 6.0]]), recording.calls[1], recording.calls[0])
        tensor([[2., 3., 4.]])
    """
    if coarse.grid == fine.grid:
        return shares
    prefix, mask = fine.num_prefix_tokens, fine.pooling.mask
    parts = [_covered(length, after).to(shares) for length, after in zip(fine.grid, coarse.grid, strict=True)]
    handed = shares[:, prefix:].unflatten(1, coarse.grid)
    if mask is None:
        handed = _along(handed, parts).flatten(1)
    else:
        valid = mask[:, prefix:].to(shares)
        of_cells = _along(valid.unflatten(1, fine.grid), [part.mT for part in parts])
        handed = (handed / of_cells).masked_fill(of_cells == 0, 0)
        handed = _along(handed, parts).flatten(1) * valid
    return torch.cat([shares[:, :prefix], handed], 1)


def _covered(length: int, after: int) -> Tensor:
    """`(after, length)`: which part of a coarse token each fine one covers, along one axis.

    Example:
        >>> _covered(3, 2).mul(3).round().tolist()
        [[2.0, 1.0, 0.0], [0.0, 1.0, 2.0]]
    """
    borders = torch.arange(after + 1, dtype=torch.float64)[:, None] * length / after
    fine = torch.arange(length)
    overlap = borders[1:].clamp(max=fine + 1) - borders[:-1].clamp(min=fine)
    return overlap.clamp(min=0) * after / length


def _along(values: Tensor, parts: list[Tensor]) -> Tensor:
    """`(B, *grid)` times a matrix along each axis of the grid."""
    for axis, part in enumerate(parts, start=1):
        values = (values.movedim(axis, -1) @ part).movedim(-1, axis)
    return values
