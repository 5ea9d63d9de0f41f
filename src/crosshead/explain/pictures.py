"""Pictures of what heads see, for a notebook: colours over an image, and heat maps of mixing.

Red is taken and blue is subtracted; 0 is transparent, or white. Scales are symmetric around it.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image
from torch import Tensor

from crosshead.explain.call import LayerCall
from crosshead.explain.cells import landmark_cells
from crosshead.explain.landmarks import landmark_sources
from crosshead.explain.maps import map_rows, on_grid, query_numbers
from crosshead.explain.mixing import mixing_matrices
from crosshead.explain.selection import Heads, Place, head_numbers
from crosshead.tasks.pictures import DPI, rendered

SIGNED = "RdBu_r"
# Panels in a row, inches of each, and how far the image fades behind the colours, 0 to 1.
COLUMNS, PANEL, FADED = 4, 2.4, 0.5


class Panel(NamedTuple):
    """Colours over an image.

    Attributes:
        title: what stands above.
        values: `(tokens,)`, prefix tokens first.
        framed: `(tokens,)`, positive where a frame goes around, or None.
        of_map: whether these are weights of a map, whose largest is told.
    """

    title: str
    values: Tensor
    framed: Tensor | None = None
    of_map: bool = True


def draw_maps(
    call: LayerCall, image: Image.Image, token: Place, *, heads: Heads = None, sample: int = 0
) -> Image.Image:
    """Where one token looks, a panel for each head: its row of the map over the image.

    Args:
        call: of a layer, on grids of two axes.
        image: what the net was given, of any size; the grid is laid over the whole of it.
        token: a number, prefix tokens first, or a place on the grid. In self-attention it is framed.
        heads: a number or several; None for all.
        sample: which image of the batch.

    Returns:
        A picture, RGB. Titles tell the largest weight, which has the strongest colour, in multiples of
        `1 / M`, the weight of an even map of M tokens; and what lies on prefix tokens, where there are any.

    Raises:
        ValueError: if there is no such token, head or sample, or the grid has not two axes.

    Example:
        >>> import torch
        >>> from crosshead.explain import record
        >>> from crosshead.explain.pictures import draw_maps
        >>> from crosshead.vision import IViT
        >>> net = IViT(depths=(1, 1, 1, 1), dims=(16, 16, 32, 32)).eval()
        >>> with torch.no_grad(), record(net, layers="stages.2") as recording:
        ...     y = net(torch.zeros(1, 3, 128, 96))
        >>> draw_maps(recording[0], Image.new("RGB", (96, 128)), (3, 2)).mode
        'RGB'
    """
    _check(call, sample)
    rows = map_rows(call, [token], heads=heads)[sample, :, 0]
    framed = None
    if call.context is None:
        framed = rows.new_zeros(rows.shape[-1])
        framed[query_numbers(call, [token])] = 1
    panels = [
        Panel(f"head {head}", row, framed)
        for head, row in zip(head_numbers(heads, call.heads), rows, strict=True)
    ]
    in_rows = [panels[start : start + COLUMNS] for start in range(0, len(panels), COLUMNS)]
    return _draw(call, image, in_rows, title=f"{call.name}: where token {token} looks")


def draw_landmarks(call: LayerCall, image: Image.Image, *, head: int, sample: int = 0) -> Image.Image:
    """What each landmark of a head gathers from, a panel for each: its row of the key factor over the image.

    Args:
        call: of a layer, on grids of two axes.
        image: what the net was given, of any size.
        head: its number.
        sample: which image of the batch.

    Returns:
        A picture, RGB: landmarks as they lie on the grid, prefix tokens before them. The cell that a landmark
        is the mean of is framed.

    Raises:
        ValueError: if there is no such head or sample, or the grid has not two axes.

    Example:
        >>> import torch
        >>> from crosshead import InteractiveAttention
        >>> from crosshead.explain import record
        >>> from crosshead.explain.pictures import draw_landmarks
        >>> layer = InteractiveAttention(32, 4, landmarks=(2, 3))
        >>> with record(layer) as recording:
        ...     y = layer(torch.randn(1, 5 * 6, 32), grid=(5, 6))
        >>> draw_landmarks(recording[0], Image.new("RGB", (60, 50)), head=2).mode
        'RGB'
    """
    _check(call, sample)
    fields = landmark_sources(call, heads=head)[sample, 0]
    cells = landmark_cells(call)[sample]
    panels = [
        Panel(f"landmark {number}", field, cell)
        for number, (field, cell) in enumerate(zip(fields, cells, strict=True))
    ]
    prefix, columns = call.num_prefix_tokens, call.cells[1]
    rows = [panels[start : start + columns] for start in range(prefix, len(panels), columns)]
    if prefix:
        rows.insert(0, panels[:prefix])
    return _draw(call, image, rows, title=f"{call.name}: what landmarks of head {head} gather from")


def draw_relevance(
    call: LayerCall, image: Image.Image, relevances: Mapping[str, Tensor], *, sample: int = 0
) -> Image.Image:
    """To which tokens scores are owed, a panel for each score, on a scale of its own.

    Args:
        call: of the first layer of the recording, whose tokens these are.
        image: what the net was given, of any size.
        relevances: `(B, N)` by the name of the score: `relevance`, or `relevance_of_scores`.
        sample: which image of the batch.

    Returns:
        A picture, RGB.

    Raises:
        ValueError: if there is no such sample, no score, or the grid has not two axes.

    Example:
        >>> import torch
        >>> from crosshead.explain import record, relevance
        >>> from crosshead.explain.pictures import draw_relevance
        >>> from crosshead.vision import IViT
        >>> net = IViT(num_classes=10, depths=(1, 1, 1, 1), dims=(16, 16, 32, 32)).eval()
        >>> with record(net, gradients=True) as recording:
        ...     scores = net(torch.randn(1, 3, 128, 96))
        >>> owed = {"cat": relevance(recording, scores[0, 3])}
        >>> draw_relevance(recording[0], Image.new("RGB", (96, 128)), owed).mode
        'RGB'
    """
    _check(call, sample)
    if not relevances:
        raise ValueError("relevances must hold one score or more; got none")
    panels = [Panel(name, values[sample], of_map=False) for name, values in relevances.items()]
    in_rows = [panels[start : start + COLUMNS] for start in range(0, len(panels), COLUMNS)]
    return _draw(call, image, in_rows, title="what scores are owed to")


def draw_mixing(call: LayerCall) -> Image.Image:
    """The mixing matrices of a layer as heat maps, without the identity, on one scale.

    Args:
        call: of a layer.

    Returns:
        A picture, RGB: rows are heads that listen, columns those that are listened to.

    Raises:
        ValueError: if the layer does not mix.

    Example:
        >>> import torch
        >>> from crosshead import InteractiveAttention
        >>> from crosshead.explain import record
        >>> from crosshead.explain.pictures import draw_mixing
        >>> layer = InteractiveAttention(32, 4, landmarks=(2, 3))
        >>> with record(layer) as recording:
        ...     y = layer(torch.randn(1, 5 * 6, 32), grid=(5, 6))
        >>> draw_mixing(recording[0]).mode
        'RGB'
    """
    found = mixing_matrices(call)._asdict()
    matrices = {name.replace("_", " "): matrix for name, matrix in found.items() if matrix is not None}
    if not matrices:
        raise ValueError(f"layer {call.name!r} must mix heads to be drawn; it has mixing='none'")
    most = _largest(list(matrices.values()))
    figure = _figure(1, len(matrices), 1.25 * PANEL, PANEL * 1.25 + 0.4)
    places = figure.subplots(1, len(matrices), squeeze=False)[0]
    for axes, (name, matrix) in zip(places, matrices.items(), strict=True):
        drawn = axes.imshow(matrix.cpu().float().numpy(), cmap=SIGNED, vmin=-most, vmax=most)
        axes.set_title(name, fontsize=9)
        axes.set_xlabel("listened to", fontsize=8)
        axes.tick_params(labelsize=7)
    places[0].set_ylabel("listens", fontsize=8)
    figure.colorbar(drawn, ax=places, shrink=0.8).ax.tick_params(labelsize=7)
    figure.suptitle(f"{call.name}: mixing of heads, without the identity", fontsize=11, parse_math=False)
    return rendered(figure)


def _draw(call: LayerCall, image: Image.Image, rows: Sequence[Sequence[Panel]], *, title: str) -> Image.Image:
    columns, height = max(map(len, rows)), PANEL * min(image.height / image.width, 2) + 0.5
    figure = _figure(len(rows), columns, PANEL, height)
    places = figure.subplots(len(rows), columns, squeeze=False, subplot_kw={"frame_on": False})
    for row, axes_of_row in zip(rows, places, strict=True):
        for axes in axes_of_row:
            axes.set(xticks=[], yticks=[])
        for panel, axes in zip(row, axes_of_row, strict=False):
            _fill(axes, call, image, panel)
    figure.suptitle(title, fontsize=11, parse_math=False)
    return rendered(figure)


def _fill(axes: Axes, call: LayerCall, image: Image.Image, panel: Panel) -> None:
    values = on_grid(panel.values, call.key_grid).cpu().float()
    most = _largest([values])
    width, height = image.size
    whole = (0, width, height, 0)
    faded = Image.blend(image.convert("L").convert("RGB"), Image.new("RGB", image.size, "white"), FADED)
    axes.imshow(faded, extent=whole)
    axes.imshow(values, cmap=SIGNED, vmin=-most, vmax=most, alpha=values.abs() / most, extent=whole)
    title = panel.title
    if panel.of_map:
        title += f": {most * len(panel.values):.1f} x even"
        if prefix := call.num_prefix_tokens:
            title += f"\nprefix {float(panel.values[:prefix].sum()):.2g}"
    axes.set_title(title, fontsize=9, parse_math=False)
    if panel.framed is not None and on_grid(panel.framed, call.key_grid).any():
        rows, columns = on_grid(panel.framed, call.key_grid).nonzero().T.tolist()
        step = width / call.key_grid[1], height / call.key_grid[0]
        corner = min(columns) * step[0], min(rows) * step[1]
        across, down = (max(x) - min(x) + 1 for x in (columns, rows))
        frame = {"fill": False, "edgecolor": "black", "linewidth": 1.2}
        axes.add_patch(Rectangle(corner, across * step[0], down * step[1], **frame))


def _figure(rows: int, columns: int, width: float, height: float) -> Figure:
    return Figure(figsize=(columns * width, rows * height + 0.4), dpi=DPI, layout="constrained")


def _largest(tensors: Sequence[Tensor]) -> float:
    """The largest entry by size; 1 where all are 0, so that there is a scale."""
    return max(float(tensor.abs().max()) for tensor in tensors) or 1.0


def _check(call: LayerCall, sample: int) -> None:
    if len(call.key_grid) != 2:
        raise ValueError(f"layer {call.name!r} must have a grid of two axes to be drawn; got {call.key_grid}")
    if not 0 <= sample < len(call.x):
        raise ValueError(f"sample must lie in 0 to {len(call.x) - 1}; got {sample}")
