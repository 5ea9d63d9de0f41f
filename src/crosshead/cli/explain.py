"""`crosshead explain`: what the heads of a trained net see, as a page to open in a browser."""

from itertools import count
from pathlib import Path
from typing import Any

from crosshead.cli.arguments import ImageArgument, ImageArguments, RunArgument, written_to


def explain(
    run: RunArgument,
    image: ImageArgument,
    images: ImageArguments = (),
    *,
    to: Path | None = None,
    layers: tuple[str, ...] = (),
    sheets: bool = True,
    token: tuple[int, int] | None = None,
    head: int = 0,
    size: int | None = None,
    best: bool = False,
    accelerator: str = "auto",
) -> None:
    """Show what the heads of a trained net see in an image, and whom they talk to.

    Writes one HTML file for each image, which needs no network: move over a patch, and see for each layer and
    head where it looks, which landmarks carry it, how heads talk, and what the scores are owed to; beside the
    teacher of a linearized ViT. The same as PNG sheets in a folder beside it. For change give the file of the
    earlier date, then that of the later one.

    Args:
        run: the run folder.
        image: an image file.
        images: more of them.
        to: folder for the pages; by default explained/ in the run folder.
        layers: names of layers or of parts of the net, such as stages.2, or numbers from 0 or from -1
            backwards; by default all.
        sheets: write PNG sheets too.
        token: row and column of the token whose maps the sheets show; by default the one in the middle.
        head: whose landmarks the sheets show.
        size: of a linearized ViT: the shorter side of the image in pixels, rounded to whole patches; by
            default twice that of the training.
        best: take the epoch that did best on the validation set in place of the last.
        accelerator: cpu, cuda, mps or auto.
    """
    from crosshead.cli.console import Terminal, quiet
    from crosshead.explain.write import write_explanation
    from crosshead.runs.folder import RunFolder
    from crosshead.runs.trained import load

    terminal = Terminal()
    with quiet():
        model = load(run, best=best, accelerator=accelerator)
    options: dict[str, Any] = {} if size is None else {"size": size}
    if size is not None and "size" not in model.options:
        raise ValueError(f"--size has no meaning for {model.task}, the task of {run}: leave it out")
    chosen = [int(name) if name.lstrip("-").isdigit() else name for name in layers] or None
    folder = to or RunFolder(written_to(run)).explained
    sources: list[Any] = [(image, *images)] if model.pairs else [image, *images]
    names = [None] if model.pairs else unique([path.stem for path in sources])
    for source, name in zip(sources, names, strict=True):
        with terminal.status("loading") as status:
            written = [
                *write_explanation(
                    model,
                    source,
                    folder,
                    layers=chosen,
                    with_sheets=sheets,
                    token=token,
                    head=head,
                    name=name,
                    tell=status.update,
                    **options,
                )
            ]
        for path in written:
            if path.suffix == ".html":
                terminal.line(f"{path}  ({path.stat().st_size / 1e6:.1f} MB): open it in a browser")
        if len(written) > 1 and sheets:
            terminal.line(f"{written[-1].parent}: {sum(path.suffix == '.png' for path in written)} sheets")


def unique(names: list[str]) -> list[str]:
    """Each name, with a number where it has been there before.

    Example:
        >>> unique(["cat", "dog", "cat"])
        ['cat', 'dog', 'cat-2']
    """
    found: list[str] = []
    for name in names:
        candidates = (name if number == 1 else f"{name}-{number}" for number in count(1))
        found.append(next(candidate for candidate in candidates if candidate not in found))
    return found
