"""What a page holds of a layer: its factors over the cells that are shown, its landmarks, its mixing.

Legend: `H` heads, `N` tokens, `L` landmarks, `T` what is shown: prefix tokens, then cells.
"""

from math import ceil, floor
from typing import Any

import torch
from torch import Tensor

from crosshead.explain.call import LayerCall
from crosshead.explain.diversity import head_diversity
from crosshead.explain.interaction import between_heads, through_other_heads
from crosshead.explain.mixing import mixing_matrices
from crosshead.explain.page.cells import Cells
from crosshead.explain.page.numbers import Numbers

# Heads cubed times tokens times landmarks, beyond which pairs of heads are not taken apart: some ten
# seconds of a core.
MOST_PAIR_WORK = 3e8


def layer_content(call: LayerCall, cells: Cells, numbers: Numbers, *, sample: int = 0) -> dict[str, Any]:
    """A layer as a page shows it.

    Its map between cells is that of its tokens: the mean over those of the cell that asks, of the sum over
    those of the cell that is looked at. So one factor is averaged and the other one summed.

    Args:
        call: of self-attention over a grid of two axes.
        cells: of that grid.
        numbers: takes the arrays.
        sample: which image of the batch.

    Raises:
        ValueError: if the layer looks at a context; if its weights have changed, or are not finite.
    """
    if call.context is not None:
        raise ValueError(
            f"layer {call.name!r} looks at a context: a page shows layers that look at their tokens"
        )
    query, key = shown_factors(call, cells, sample=sample)
    if not (query.isfinite().all() and key.isfinite().all()):
        raise ValueError(
            f"layer {call.name!r} has weights that are not finite: train it again, or take --best"
        )
    matrices = mixing_matrices(call)._asdict()
    share = through_other_heads(call).share[sample]
    diversity = head_diversity(call) if call.heads > 1 else None
    mixes = any(matrix is not None and bool(matrix.any()) for matrix in matrices.values())
    work = call.heads**3 * call.x.shape[1] * query.shape[-1]
    pairs = between_heads(call)[sample] if mixes and work <= MOST_PAIR_WORK else None
    return {
        "name": call.name,
        "grid": list(cells.grid),
        "shown": list(cells.shown),
        "prefix": cells.prefix,
        "heads": call.heads,
        "channels": call.layer.head_dim,
        "landmarks": landmark_boxes(call),
        "query": numbers.add(query),
        "key": numbers.add(key),
        "mixing": {name: matrix.tolist() for name, matrix in matrices.items() if matrix is not None},
        "pairs": None if pairs is None else pairs.tolist(),
        "share": share.tolist(),
        "diversity": None if diversity is None else [diversity.before, diversity.after],
    }


def shown_factors(call: LayerCall, cells: Cells, *, sample: int = 0) -> tuple[Tensor, Tensor]:
    """The factors over cells: `(H, T, L)`, means of rows, and `(H, L, T)`, sums of columns."""
    factors, number = call.factors, cells.numbers()
    sizes = number.bincount()
    query = torch.zeros(call.heads, len(sizes), factors.key_landmarks.shape[2], dtype=torch.float64)
    key = query.mT.clone(memory_format=torch.contiguous_format)
    for tile in factors.query_tiles():
        query.index_add_(1, number[tile], factors.query(tile)[sample].double().cpu())
    for tile in factors.key_tiles():
        key.index_add_(2, number[tile], factors.key(tile)[sample].double().cpu())
    return query / sizes[:, None], key


def landmark_boxes(call: LayerCall) -> list[list[float] | None]:
    """The cell of each landmark as top, left, bottom and right, in fractions of the image; None of a prefix
    token, which is a landmark of its own.
    """
    boxes: list[list[float] | None] = [None] * call.num_prefix_tokens
    (rows, columns), (down, across) = call.grid, call.cells
    for y in range(down):
        for x in range(across):
            top, bottom = floor(y * rows / down), ceil((y + 1) * rows / down)
            left, right = floor(x * columns / across), ceil((x + 1) * columns / across)
            boxes.append([top / rows, left / columns, bottom / rows, right / columns])
    return boxes
