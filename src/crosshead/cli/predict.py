"""`crosshead predict`: what a trained net sees in images."""

from pathlib import Path
from typing import Any

from crosshead.cli.arguments import ImageArgument, ImageArguments, RunArgument


def predict(
    run: RunArgument,
    image: ImageArgument,
    images: ImageArguments = (),
    *,
    top: int | None = None,
    min_score: float | None = None,
    tile: int | None = None,
    size: int | None = None,
    out: Path | None = None,
    best: bool = False,
    accelerator: str = "auto",
    json: bool = False,
) -> None:
    """Say what a trained net sees in images.

    A classifier ranks classes. The others write a picture and a JSON file for each image: boxes and masks, a
    map of labels, a map of change, or the tokens of a linearized ViT beside its teacher's, as colours. For
    change give the files of the earlier date, then as many of the later one.

    Args:
        run: the run folder.
        image: an image file.
        images: more image files.
        top: of a classifier: how many classes to name, the most probable first; by default 5.
        min_score: of a detector: leave out objects that it is less sure of; by default 0.5.
        tile: of detectors, segmentations and change: cut larger images into tiles of this side in pixels, 0
            for never; by default where an image is much larger than those of the training.
        size: of a linearized ViT: the shorter side of the image in pixels, rounded to whole patches; by
            default twice that of the training.
        out: folder for pictures and JSON files; by default predictions/ in the run folder.
        best: take the epoch that did best on the validation set in place of the last.
        accelerator: cpu, cuda, mps or auto.
        json: print JSON in place of text: a list with an object for each image.
    """
    from crosshead.cli.console import quiet
    from crosshead.runs.folder import RunFolder
    from crosshead.runs.load import load_run, to_device
    from crosshead.runs.predictions import write_prediction
    from crosshead.tasks.task import DataError, task_of

    folder = RunFolder(run)
    with quiet():
        record, model = load_run(folder, best=best)
    model = to_device(model, accelerator)
    task = task_of(record.recipe.task)
    given = {"top": top, "min_score": min_score, "tile": tile, "size": size}
    options: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    for name in options.keys() - task.options:
        flag = "--" + name.replace("_", "-")
        raise ValueError(f"{flag} has no meaning for {record.recipe.task}, the task of {run}: leave it out")
    predictions, refused = [], []
    for paths in task.inputs((image, *images)):
        try:
            prediction = task.predict(record.recipe, record.meta, model, paths, **options)
        except DataError as error:
            refused.append(error)
            continue
        predictions.append(prediction)
        written = write_prediction(out or folder.predictions, prediction) if prediction.files else []
        if not json:
            _show(prediction, written)
    if json:
        _print_json(predictions)
    if refused:
        raise ValueError("; ".join(str(error) for error in refused))


def _print_json(predictions: list) -> None:
    import json

    print(json.dumps([prediction.content for prediction in predictions], indent=2))


def _show(prediction: Any, written: list[Path]) -> None:
    from rich.table import Table

    from crosshead.cli.console import Terminal

    terminal = Terminal()
    if written:
        terminal.line(f"{prediction.content['image']}: {prediction.summary}")
        for path in written:
            terminal.line(f"  {path}")
        return
    table = Table(title=prediction.content["image"], title_justify="left")
    table.add_column("rank", justify="right")
    table.add_column("class")
    table.add_column("probability", justify="right")
    for rank, ranked in enumerate(prediction.content["classes"], 1):
        table.add_row(str(rank), ranked["name"], f"{ranked['probability']:.2%}")
    terminal.print(table)
