"""`crosshead resume`: continues an interrupted training."""

from pathlib import Path

from crosshead.cli.arguments import RunArgument


def resume(run: RunArgument, *, data_dir: Path | None = None, workers: int | None = None) -> None:
    """Continue an interrupted training from its last finished epoch.

    It ends with the weights that it would have had without the interruption.

    Args:
        run: the run folder.
        data_dir: where the data are now, if elsewhere than before.
        workers: loader processes, if other than before; the result does not depend on it.
    """
    import dataclasses

    from crosshead.cli.console import say
    from crosshead.cli.training import show_training
    from crosshead.runs import engine
    from crosshead.runs.folder import RunFolder
    from crosshead.runs.record import read_record

    folder = RunFolder(run)
    record = read_record(folder)
    if engine.is_finished(folder, record):
        say(
            f"{run} is finished, nothing is left to resume; to train longer: "
            f"crosshead train {record.name} --from {run} --epochs N"
        )
        return
    recipe = dataclasses.replace(
        record.recipe,
        data_dir=data_dir or record.recipe.data_dir,
        workers=record.recipe.workers if workers is None else workers,
    )
    show_training(
        folder,
        recipe,
        lambda callbacks: engine.resume(
            folder, dataclasses.replace(record, recipe=recipe), callbacks=callbacks
        ),
    )
