"""`crosshead export`: a trained net as a file for other programs."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from crosshead.cli.arguments import RunArgument

if TYPE_CHECKING:
    from crosshead.cli.console import Terminal
    from crosshead.export.loss import Loss


def export(
    run: RunArgument,
    *,
    to: Path | None = None,
    precision: Literal["float32", "float16", "int8"] = "float32",
    best: bool = False,
    evaluate: bool = True,
    data_dir: Path | None = None,
) -> None:
    """Write a trained net into one file that runs without Crosshead: ONNX, or a compiled pt2 package.

    The file takes any number of images, a detector's one, and where the net does any size. Before it takes
    its place it is read back and compared with PyTorch. A JSON file beside it says what goes in, what comes
    out and which run it was made of; the file itself says the same.

    Args:
        run: the run folder.
        to: the file, NAME.onnx or NAME.pt2; by default model.onnx in the run folder.
        precision: float32; or float16 or int8 for smaller ONNX files, measured on the test set of the run,
            and not of detectors. int8 also looks at training images.
        best: take the epoch that did best on the validation set in place of the last.
        evaluate: measure float16 and int8 on the test set.
        data_dir: where the data are now, if elsewhere than in training.
    """
    from crosshead.cli.console import Terminal, quiet
    from crosshead.export.write import export_run
    from crosshead.runs.folder import RunFolder
    from crosshead.tasks.task import task_of

    console = Terminal()
    with quiet(), console.status("exporting") as status:
        made = export_run(
            RunFolder(run),
            to=to,
            best=best,
            precision=precision,
            evaluate=evaluate,
            data_dir=data_dir,
            tell=status.update,
        )
    agreement, times = made.agreement, made.milliseconds
    allowed = "" if agreement.bound is None else f", float32 explains {agreement.bound:.1e}"
    shapes = ", ".join(" x ".join(map(str, shape)) for shape in agreement.shapes)
    console.line(f"written: {made.path} ({_size(made.path.stat().st_size)})")
    console.line(f"written: {made.described}")
    console.line(
        f"largest deviation from PyTorch, on noise: {agreement.largest_deviation:.1e} of "
        f"{agreement.largest_output:.3g}{allowed}; at {shapes}"
    )
    console.line(
        f"milliseconds an image on the CPU, medians: PyTorch {times['pytorch']:.3g}, "
        f"the file {times['file']:.3g}"
    )
    if made.loss is not None:
        _show(console, made.loss, precision)
    console.line(f"next: crosshead predict {made.path} {task_of(made.task).arguments}")


def _show(console: "Terminal", loss: "Loss", precision: str) -> None:
    from rich.table import Table

    images = f"{loss.before.images:,} test {loss.before.counted}"
    table = Table(title=f"{images}, weights of the {loss.before.weights} epoch")
    table.add_column("metric")
    for column in ("PyTorch", precision, "difference"):
        table.add_column(column, justify="right")
    for row in loss.rows():
        table.add_row(*row)
    console.print(table)


def _size(count: int) -> str:
    """Bytes in words.

    Example:
        >>> _size(900), _size(1_234_567)
        ('0.9 kB', '1.2 MB')
    """
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.1f} kB"
