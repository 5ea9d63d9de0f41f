"""`crosshead train`: one subcommand for each recipe."""

import dataclasses
import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from crosshead.recipes import RECIPES
from crosshead.tasks.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class TrainRequest:
    """What to train, where to, and from which weights."""

    name: tyro.conf.Suppress[str]
    recipe: Recipe
    out: Path | None = None
    """New run folder; by default the next free runs/RECIPE-NUMBER."""
    start: Annotated[Path | None, tyro.conf.arg(name="from")] = None
    """Start from the weights of another run, of its model folder, or of a safetensors file, and with the
    model that it names, unless --model names one; a backbone is found in nets of every task."""
    check_data: tyro.conf.FlagCreatePairsOff[bool] = False
    """Train nothing: walk the whole data set and list everything that is wrong with it."""


def train(
    request: tyro.extras.subcommand_type_from_defaults(  # pyright: ignore[reportInvalidTypeForm]
        {name: TrainRequest(name=name, recipe=recipe()) for name, recipe in RECIPES.items()},
        {name: inspect.getdoc(recipe) or "" for name, recipe in RECIPES.items()},
        prefix_names=False,
    ),
) -> None:
    """Train by a recipe: classify, segment, detect, find change, or linearize a trained ViT."""
    from crosshead.cli.console import say
    from crosshead.cli.training import show_training
    from crosshead.runs import engine
    from crosshead.runs.folder import RunFolder, next_run

    recipe = with_model_of(request.start, request.name, request.recipe)
    if request.check_data:
        check_data(recipe)
        return
    run = RunFolder(request.out) if request.out else next_run(Path("runs"), request.name)
    show_training(
        run,
        recipe,
        lambda callbacks: engine.train(
            request.name,
            recipe,
            run,
            start=request.start,
            callbacks=callbacks,
            report=lambda report: say(*report.lines()),
        ),
    )


def check_data(recipe: Recipe) -> None:
    """Lists everything that is wrong with the data of a recipe, and fails where there is something.

    Of sound data it says what the splits hold.

    Raises:
        ValueError: with the number of faults.
    """
    from crosshead.cli.console import say
    from crosshead.tasks.counts import Counts
    from crosshead.tasks.task import task_of

    recipe.check()
    faults, table = 0, []
    for found in task_of(recipe.task).check_data(recipe):
        if isinstance(found, Counts):
            table = found.lines()
        else:
            say(found)
            faults += 1
    place = recipe.data_dir or recipe.data
    if faults:
        raise ValueError(f"{place}: {faults} fault{'s' if faults > 1 else ''}, listed above: mend them")
    say(f"{place}: nothing wrong", *table)


def with_model_of(start: Path | None, name: str, recipe: Recipe) -> Recipe:
    """Takes the model of the weights to start from, unless another model than the recipe's own was chosen.

    Args:
        start: a run or its weights; None for a fresh model.
        name: of the recipe.
        recipe: as the command line has changed it.

    Raises:
        RunError: if there is nothing to start from.
    """
    default = RECIPES[name]()
    # A linearization starts with its teacher's model, whatever it continues.
    if start is None or recipe.model != default.model or recipe.task == "linearize":
        return with_default_arguments(name, recipe)
    from crosshead.runs.load import read_architecture

    found = read_architecture(start)
    if found is None:
        return with_default_arguments(name, recipe)
    model, arguments = found
    chosen = {} if recipe.model_args == default.model_args else recipe.model_args
    return dataclasses.replace(recipe, model=model, model_args={**arguments, **chosen})


def with_default_arguments(name: str, recipe: Recipe) -> Recipe:
    """Adds the arguments of the recipe's own model, unless another model was chosen.

    Example:
        >>> with_default_arguments("digits", dataclasses.replace(RECIPES["digits"](), model="vit")).model_args
        {}
    """
    default = RECIPES[name]()
    if recipe.model == default.model:
        return dataclasses.replace(recipe, model_args={**default.model_args, **recipe.model_args})
    if recipe.model_args == default.model_args:
        return dataclasses.replace(recipe, model_args={})
    return recipe
