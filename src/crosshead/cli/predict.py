from crosshead.cli.arguments import ImageArgument, ImageArguments, RunArgument


def predict(
    run: RunArgument,
    image: ImageArgument,
    images: ImageArguments = (),
    *,
    top: int = 5,
    best: bool = False,
    json: bool = False,
) -> None:
    """Say what a trained classifier sees in images.

    Args:
        run: The run folder.
        image: An image file.
        images: More image files.
        top: How many classes to name, the most probable first.
        best: Take the epoch with the best test accuracy in place of the last.
        json: Print JSON and nothing else: [{"image": ..., "classes": [{"name": ..., "probability": ...}]}].
    """
    from crosshead.cli.console import quiet
    from crosshead.data import DataError, read_image
    from crosshead.runs import predict as prediction
    from crosshead.runs.folder import RunFolder
    from crosshead.runs.load import load_run

    with quiet():
        record, model = load_run(RunFolder(run), best=best)
    mode = "L" if record.images.in_chans == 1 else "RGB"
    read, refused = [], []
    for path in (image, *images):
        try:
            read.append((path, read_image(path, mode=mode)))
        except DataError as error:
            refused.append(error)
    ranked = prediction.predict(
        model,
        record.images,
        [picture for _, picture in read],
        crop_share=record.recipe.crop_share,
        top=top,
    )
    show = _print_json if json else _print_tables
    show([(path, classes) for (path, _), classes in zip(read, ranked, strict=True)])
    if refused:
        raise ValueError("; ".join(str(error) for error in refused))


def _print_json(predictions: list) -> None:
    import dataclasses
    import json

    content = [
        {"image": str(path), "classes": [dataclasses.asdict(ranked) for ranked in classes]}
        for path, classes in predictions
    ]
    print(json.dumps(content, indent=2))


def _print_tables(predictions: list) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    for path, classes in predictions:
        table = Table(title=str(path), title_justify="left")
        table.add_column("rank", justify="right")
        table.add_column("class")
        table.add_column("probability", justify="right")
        for rank, ranked in enumerate(classes, 1):
            table.add_row(str(rank), ranked.name, f"{ranked.probability:.2%}")
        console.print(table)
