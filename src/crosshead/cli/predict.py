"""`crosshead predict`: what a trained net sees in images."""

from pathlib import Path
from typing import Any

from crosshead.cli.arguments import ImageArgument, ImageArguments, RunArgument, written_to


def predict(
    run: RunArgument,
    image: ImageArgument,
    images: ImageArguments = (),
    *,
    top: int | None = None,
    min_score: float | None = None,
    tile: int | None = None,
    size: int | None = None,
    batch_size: int = 16,
    out: Path | None = None,
    csv: Path | None = None,
    jsonl: Path | None = None,
    coco: Path | None = None,
    best: bool = False,
    accelerator: str = "auto",
    json: bool = False,
) -> None:
    """Say what a trained net sees in images, folders of images, or videos.

    A classifier ranks classes. The others write a picture and a JSON file for each image: boxes and masks, a
    map of labels, a map of change, or the tokens of a linearized ViT beside its teacher's, as colours. Of a
    video they write a video. For change give the files of the earlier date, then as many of the later one.

    Args:
        run: the run folder, or an exported file.
        image: an image file, a folder, a quoted pattern such as "photos/*.jpg", or a video.
        images: more of them.
        top: of a classifier: how many classes to name, the most probable first; by default 5.
        min_score: of a detector: leave out objects that it is less sure of; by default 0.5.
        tile: of detectors, segmentations and change: cut larger images into tiles of this side in pixels, 0
            for never; by default where an image is much larger than those of the training.
        size: of a linearized ViT: the shorter side of the image in pixels, rounded to whole patches; by
            default twice that of the training.
        batch_size: of a classifier: images at a time; it does not change the results.
        out: folder for pictures and JSON files; by default predictions/ in the run folder. A classifier
            writes none unless this is given.
        csv: write one table of all results, a row for each class or object.
        jsonl: write the JSON of all results into one file, a line for each image.
        coco: of a detector: write all objects into one file, as COCO's tools read them.
        best: take the epoch that did best on the validation set in place of the last.
        accelerator: cpu, cuda, mps or auto.
        json: print JSON in place of text: a list with an object for each image.
    """
    from crosshead.cli.console import quiet
    from crosshead.cli.predictions import Report, predict_files
    from crosshead.runs.folder import RunFolder
    from crosshead.runs.trained import load

    given = {"top": top, "min_score": min_score, "tile": tile, "size": size}
    options: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    with quiet():
        model = load(run, best=best, accelerator=accelerator)
    for name in options.keys() - model.options:
        flag = "--" + name.replace("_", "-")
        raise ValueError(f"{flag} has no meaning for {model.task}, the task of {run}: leave it out")
    if coco is not None:
        model.to_coco([])  # refuses what is no detector before anything is looked at
    folder = out or (None if model.ranks else RunFolder(written_to(run)).predictions)
    report = Report(model, out=folder, tables={"csv": csv, "jsonl": jsonl, "coco": coco}, as_json=json)
    refused: list[Exception] = []
    options["batch_size"] = batch_size
    predict_files((image, *images), report, options=options, skip=refused.append)
    if refused:
        raise ValueError("; ".join(str(error) for error in refused))
