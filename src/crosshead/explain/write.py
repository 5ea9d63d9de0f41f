"""Files that show the inside of a trained net: a page for each image, and sheets."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from torch import Tensor

from crosshead.explain.layers import Layers
from crosshead.explain.look import Look, look
from crosshead.explain.page.build import build_page, cells_within
from crosshead.explain.page.cells import Cells
from crosshead.explain.page.softmax import softmax_maps
from crosshead.explain.scores import gradients_of_scores, relevance_of_scores
from crosshead.explain.selection import Place
from crosshead.explain.sheets import sheets
from crosshead.runs.trained import TrainedModel
from crosshead.tasks.files import write_atomically
from crosshead.tasks.linearize.predict import find_teacher_of
from crosshead.tasks.linearize.recipe import LinearizeRecipe
from crosshead.tasks.result import png

DATES = ("the earlier date", "the later date")


def write_explanation(
    model: TrainedModel,
    source: Any,
    folder: Path,
    *,
    layers: Layers = None,
    with_sheets: bool = True,
    token: Place | None = None,
    head: int = 0,
    name: str | None = None,
    tell: Callable[[str], object] = lambda _: None,
    **options: Any,
) -> Iterator[Path]:
    """Writes what is inside a net while it looks at one image: a page, and pictures in a folder beside it.

    Args:
        model: from `crosshead.load`.
        source: one image, as `model.predict` takes it; of a change detection a pair, which gives two pages.
        folder: where to; made where it is missing. Files of the same names are replaced.
        layers: as for `record`; None for all.
        with_sheets: whether pictures are written.
        token: whose maps the pictures show, as for `map_rows`; None for the token in the middle.
        head: whose landmarks the pictures show.
        name: of the files; None for that of the source.
        tell: told what is being done.
        **options: of `model.predict`.

    Yields:
        Each file, once it is written.

    Raises:
        ValueError: if the net has no interactive attention, or there is no such layer, token or head.
        DataError: if a file cannot be read.
        OSError: if a file cannot be written.

    Example:
        >>> import crosshead  # doctest: +SKIP
        >>> model = crosshead.load("runs/digits-1")  # doctest: +SKIP
        >>> [*write_explanation(model, "digit.png", Path("inside"), with_sheets=False)]  # doctest: +SKIP
        [PosixPath('inside/digit.html')]
    """
    tell("looking at the image")
    seen = look(model, source, layers=layers, **options)
    tell("asking what its scores are owed to")
    relevances, gradients = relevance_of_scores(model, seen), gradients_of_scores(model, seen)
    count, teacher = _beside(model, seen)
    several = len(seen.images) > 1
    for sample in range(len(seen.images)):
        stem = _stem(name or seen.result.name, sample if several else None)
        title = f"{Path(seen.result.source).name}: {Path(model.recipe.model).name}"
        title += f", {DATES[sample]}" if several else ""
        tell(f"writing {stem}.html")
        page = build_page(
            seen,
            title=title,
            relevances=relevances,
            gradients=gradients,
            teacher=teacher,
            sample=sample,
            count=count,
        )
        yield _written(folder / f"{stem}.html", page.encode())
        if with_sheets:
            drawn = sheets(seen, relevances=relevances, token=token, head=head, sample=sample)
            for part, picture in drawn:
                tell(f"writing {stem}/{part}.png")
                yield _written(folder / stem / f"{part}.png", png(picture))


def _beside(model: TrainedModel, seen: Look) -> tuple[int, dict[str, Tensor]]:
    """How many cells a page shows, and the maps of the teacher of a linearized net, where it can be had."""
    recipe = model.recipe
    teacher = find_teacher_of(recipe) if isinstance(recipe, LinearizeRecipe) else None
    if teacher is None:
        return cells_within(seen), {}
    count, image = cells_within(seen, teacher=True), seen.asked[1][0]
    grid = seen.recording.calls[0].grid
    cells = Cells.at_most(count, grid=grid, prefix=teacher.num_prefix_tokens)
    return count, softmax_maps(teacher.to(image.device), image, cells, seen.recording.names)


def _stem(name: str, sample: int | None) -> str:
    return name if sample is None else f"{name}-{re.sub('[^a-z]+', '-', DATES[sample])}"


def _written(path: Path, content: bytes) -> Path:
    write_atomically(path, content)
    return path
