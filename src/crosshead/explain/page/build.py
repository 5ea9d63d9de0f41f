"""One HTML file that shows the inside of a net: everything in it, nothing fetched, all text escaped."""

import base64
import html
import io
import json
import math
from importlib.resources import files
from string import Template
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from crosshead._version import __version__
from crosshead.explain import page
from crosshead.explain.look import Look
from crosshead.explain.maps import on_grid
from crosshead.explain.page.cells import Cells
from crosshead.explain.page.layer import layer_content
from crosshead.explain.page.numbers import Numbers
from crosshead.explain.rollout import rollout
from crosshead.tasks.result import png

# Bytes of arrays before they are packed, and how many cells are tried to stay below it.
BUDGET = 6_000_000
COUNTS = (1024, 784, 576, 400, 256, 196, 144, 100, 64, 36, 16)
# The longer side of the pictures in a page, in pixels.
LONGEST = 1024
PARTS = ("numbers.js", "drawing.js", "page.js")


def build_page(
    seen: Look,
    *,
    title: str,
    relevances: dict[str, Tensor],
    gradients: dict[str, Tensor] | None = None,
    teacher: dict[str, Tensor] | None = None,
    sample: int = 0,
    count: int | None = None,
) -> str:
    """A page about one image.

    Args:
        seen: what `look` gave.
        title: of the page.
        relevances: `(B, N)` by name, on the grid of the first layer: `relevance_of_scores`.
        gradients: the same of `gradients_of_scores`.
        teacher: maps `(H, T, T)` of softmax attention by the names of layers, over the same cells.
        sample: which image of the batch.
        count: about how many cells are shown of a layer, from `cells_within`; None for as many as fit.

    Returns:
        The text of an HTML file.

    Raises:
        ValueError: if a grid has not two axes, or a layer looks at a context.
    """
    calls = seen.recording.one_pass()
    count = cells_within(seen) if count is None else count
    numbers = Numbers()
    layers = []
    for call in calls:
        cells = Cells.at_most(count, grid=call.grid, prefix=call.num_prefix_tokens)
        layers.append(layer_content(call, cells, numbers, sample=sample))
    first = calls[0]
    of_first = Cells.at_most(count, grid=first.grid, prefix=0)
    maps = {
        **{f"{name}: integrated gradients": values for name, values in (gradients or {}).items()},
        **{f"{name}: what attention carries": values for name, values in relevances.items()},
        "rollout of all patches, whatever the score": rollout(seen.recording),
    }
    scores = [
        {
            "name": name,
            "shown": list(of_first.shown),
            "values": numbers.add(
                of_first.gathered(on_grid(values[sample], first.grid).flatten().cpu().double(), "mean")[None]
            ),
        }
        for name, values in maps.items()
    ]
    shown = {name: numbers.add(maps, dtype=torch.int8) for name, maps in (teacher or {}).items()}
    content = {
        "title": title,
        "summary": seen.result.summary,
        "footer": f"Made by Crosshead {__version__}. {_how_shown(layers)}",
        "image": data_uri(seen.images[sample]),
        "result": data_uri(seen.result.plot()),
        "layers": layers,
        "scores": scores,
        "teacher": shown,
    }
    here = files(page)
    return Template((here / "page.html").read_text("utf-8")).substitute(
        title=html.escape(title),
        style=(here / "page.css").read_text("utf-8"),
        content=_in_script(content),
        numbers=numbers.text(),
        script="".join((here / part).read_text("utf-8") for part in PARTS),
    )


def cells_within(seen: Look, *, teacher: bool = False, budget: int = BUDGET) -> int:
    """The largest number of cells in `COUNTS` with which a page keeps to a budget.

    Args:
        seen: what `look` gave.
        teacher: whether maps of softmax attention stand beside.
        budget: of its arrays, in bytes before they are packed.
    """

    def size(count: int) -> int:
        total = 0
        for call in seen.recording.calls:
            cells = Cells.at_most(count, grid=call.grid, prefix=call.num_prefix_tokens)
            tokens = cells.prefix + math.prod(cells.shown)
            landmarks = call.key_landmarks.shape[2]
            total += call.heads * tokens * (4 * landmarks + (tokens if teacher else 0))
        return total

    return next((count for count in COUNTS if size(count) <= budget), COUNTS[-1])


def data_uri(picture: Image.Image) -> str:
    """A picture inside a page: exact if it is small, else as JPEG."""
    copy = picture.convert("RGB")
    copy.thumbnail((LONGEST, LONGEST))
    content, kind = png(copy), "png"
    if max(copy.size) > 256:
        file = io.BytesIO()
        copy.save(file, "JPEG", quality=88)
        content, kind = file.getvalue(), "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _how_shown(layers: list[dict[str, Any]]) -> str:
    if all(each["grid"] == each["shown"] for each in layers):
        return "Each square is one token."
    return (
        "Where a layer has more tokens than squares, a square is the mean of its tokens that ask, and the "
        "sum of those that are looked at."
    )


def _in_script(content: Any) -> str:
    """JSON that no text inside can end."""
    return json.dumps(content, allow_nan=False).replace("<", "\\u003c").replace("&", "\\u0026")
