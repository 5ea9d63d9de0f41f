"""Where landmarks stand: the tokens that each of them averages.

Legend: `B` batch, `N` query tokens, `M` key tokens, `L` landmarks.
"""

from typing import Literal

import torch
from torch import Tensor

from crosshead.attention.landmarks import pool_checked
from crosshead.explain.call import LayerCall


def landmark_cells(call: LayerCall, *, side: Literal["key", "query"] = "key") -> Tensor:
    """How much of each landmark is the mean of each token: 1 / size of its cell, and 0 outside.

    In symbols: `Kl = landmark_cells(call) K`, and the same for queries.

    Args:
        call: of a layer, from a recording.
        side: "key" for the tokens that are looked at, "query" for those that ask. In self-attention both are
            the same.

    Returns:
        `(B, L, M)`, or `(B, L, N)` for "query"; `on_grid` lays the last axis on its grid. A prefix token is a
        landmark of its own. Rows of cells that hold no valid token are zero.

    Raises:
        ValueError: if `side` is neither.

    Source: the borders of adaptive average pooling; see `pool_landmarks`.

    Example:
        >>> from crosshead import InteractiveAttention
        >>> from crosshead.explain import landmark_cells, record
        >>> layer = InteractiveAttention(32, 4, landmarks=(3,))
        >>> with record(layer) as recording:
        ...     y = layer(torch.randn(1, 4, 32))
        >>> landmark_cells(recording[0])[0].tolist()
        [[0.5, 0.5, 0.0, 0.0], [0.0, 0.5, 0.5, 0.0], [0.0, 0.0, 0.5, 0.5]]
    """
    if side not in ("key", "query"):
        raise ValueError(f"side must be 'key' or 'query'; got {side!r}")
    pooling, keys = call.pooling, side == "key"
    mask = pooling.context_mask if keys else pooling.mask
    tokens = call.looked_at if keys else call.x
    # Pooling is linear: its matrix is its derivative, a row for each landmark.
    with torch.inference_mode(False), torch.enable_grad():
        ones = torch.ones(*tokens.shape[:2], 1, device=tokens.device, requires_grad=True)
        grid = call.key_grid if keys else call.grid
        (pooled,) = pool_checked([ones], grid, call.cells, mask, call.num_prefix_tokens, pooling.cells)
        landmarks = pooled.sum((0, 2)).unbind()
        rows = [torch.autograd.grad(landmark, ones, retain_graph=True)[0] for landmark in landmarks]
    return torch.cat(rows, -1).mT
