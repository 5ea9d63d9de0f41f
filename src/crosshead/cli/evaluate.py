"""`crosshead evaluate`: the metrics of a run on its test set."""

from pathlib import Path

from crosshead.cli.arguments import RunArgument


def evaluate(
    run: RunArgument,
    *,
    split: str = "test",
    data_dir: Path | None = None,
    best: bool = False,
    accelerator: str = "auto",
    batch_size: int | None = None,
    workers: int | None = None,
) -> None:
    """Measure a trained net on its test images, or on another split.

    Prints the metrics of its task, and writes evaluation.json and pictures into the run folder.

    Args:
        run: the run folder.
        split: test, val or train, or the name of a further split of data in COCO's format or of label images;
            what is written then has that name before its own.
        data_dir: where the data are now, if elsewhere than in training.
        best: take the epoch that did best on the validation set in place of the last.
        accelerator: cpu, cuda, mps or auto.
        batch_size: images at a time; by default as in training. Detectors and segmentations are measured
            image by image.
        workers: loader processes; by default as in training.
    """
    from rich.table import Table

    from crosshead.cli.console import Terminal, quiet
    from crosshead.cli.progress import Bar, percent
    from crosshead.cli.testing_progress import ShowTesting
    from crosshead.runs import evaluate as evaluation
    from crosshead.runs.folder import RunFolder

    folder = RunFolder(run)
    with quiet(), Bar(ticking=False) as bar:
        bar.show("loading")
        metrics, pictures = evaluation.evaluate(
            folder,
            split=split,
            data_dir=data_dir,
            best=best,
            accelerator=accelerator,
            batch_size=batch_size,
            workers=workers,
            callbacks=[ShowTesting(bar)],
        )
    console = Terminal()
    table = Table(
        title=f"{run}: {metrics.images:,} {split} {metrics.counted}, weights of the {metrics.weights} epoch"
    )
    table.add_column("metric")
    for column in metrics.columns:
        table.add_column(column, justify="right")
    for row in metrics.metrics():
        table.add_row(*row)
    table.add_section()
    what, by_class = metrics.by_class()
    shown = sorted(by_class.items(), key=lambda item: -1.0 if item[1] is None else item[1])
    hidden = len(shown) - 30
    for name, fraction in shown if hidden <= 0 else shown[:30]:
        table.add_row(f"{what} of {name}", "nothing to measure" if fraction is None else percent(fraction))
    if hidden > 0:
        table.add_row(f"... {hidden} classes that do better", "")
    console.print(table)
    name = folder.evaluation.name
    console.line(f"metrics: {folder.path / (name if split == 'test' else f'{split}-{name}')}")
    for content, path in pictures:
        console.line(f"{content}: {path}")
