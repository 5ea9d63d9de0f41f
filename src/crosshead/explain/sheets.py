"""The same pictures as files, for papers and talks."""

from collections.abc import Iterator

from PIL import Image
from torch import Tensor

from crosshead.explain.look import Look
from crosshead.explain.mixing import mixing_matrices
from crosshead.explain.pictures import draw_landmarks, draw_maps, draw_mixing, draw_relevance
from crosshead.explain.selection import Place


def sheets(
    seen: Look,
    *,
    relevances: dict[str, Tensor],
    token: Place | None = None,
    head: int = 0,
    sample: int = 0,
) -> Iterator[tuple[str, Image.Image]]:
    """Pictures of each layer, and of what scores are owed to, by names for their files.

    Args:
        seen: what `look` gave.
        relevances: `(B, N)` by name, on the grid of the first layer.
        token: whose maps are drawn, a number or a place on the grid of each layer; None for the middle.
        head: whose landmarks are drawn.
        sample: which image of the batch.

    Raises:
        ValueError: if a layer has no such token or head.
    """
    image, calls = seen.images[sample], seen.recording.one_pass()
    if relevances:
        yield "scores", draw_relevance(calls[0], image, relevances, sample=sample)
    for call in calls:
        middle = tuple(length // 2 for length in call.grid)
        yield f"{call.name}.maps", draw_maps(call, image, middle if token is None else token, sample=sample)
        yield f"{call.name}.landmarks", draw_landmarks(call, image, head=head, sample=sample)
        if any(matrix is not None for matrix in mixing_matrices(call)):
            yield f"{call.name}.mixing", draw_mixing(call)
