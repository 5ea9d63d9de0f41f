"""`crosshead train`: one command for each recipe."""

import dataclasses
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from crosshead.cli.flags import form_of, parse, summary_of
from crosshead.cli.menu import Entry, Menu
from crosshead.cli.topics import TOPICS
from crosshead.recipes import RECIPES
from crosshead.tasks.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class TrainFlags:
    """What to train from and where to."""

    out: Path | None = None
    """New run folder; by default the next free runs/RECIPE-NUMBER."""
    start: Annotated[Path | None, tyro.conf.arg(name="from")] = None
    """Start from the weights of another run, of its model folder, or of a safetensors file, and with the
    model that it names, unless --model names one; a backbone is found in nets of every task."""
    config: Path | None = None
    """Start from the choices of an earlier run of the same task, RUN/recipe.json; other flags change them."""
    check_data: tyro.conf.FlagCreatePairsOff[bool] = False
    """Train nothing: walk the whole data set and list everything that is wrong with it."""


@dataclass(frozen=True, kw_only=True)
class TrainRequest:
    """What the command line asks for.

    Attributes:
        name: of the recipe.
        recipe: with the flags.
        base: without them.
        flags: the flags that are no choices of the recipe.
    """

    name: str
    recipe: Recipe
    base: Recipe
    flags: TrainFlags


def train_menu(run: Callable[[TrainRequest], object]) -> Menu:
    """The recipes, by task."""
    groups: dict[str, dict[str, str]] = {}
    for name, recipe in RECIPES.items():
        made = recipe()
        groups.setdefault(made.gives or made.task, {})[name] = _in_a_line(summary_of(recipe))

    def entry(name: str) -> Entry:
        return lambda arguments, prog: run(read_request(name, arguments, prog))

    return Menu(
        about=summary_of(train),
        what="recipe",
        groups=groups,
        entries={name: entry(name) for name in RECIPES},
        after="`crosshead train RECIPE --help` says what to expect of a recipe, and shows all its flags.",
    )


def _in_a_line(summary: str, most: int = 60) -> str:
    """The summary of a recipe up to a colon, or to a comma where that is too long.

    Example:
        >>> _in_a_line("iViT-nano on CIFAR-10, for one GPU: a hundred epochs.")
        'iViT-nano on CIFAR-10, for one GPU'
    """
    line = summary.partition(": ")[0].rstrip(".")
    return line if len(line) <= most else line.partition(", ")[0]


def train(request: TrainRequest) -> None:
    """Train by a recipe: classify, segment, detect, find change, or linearize a trained ViT."""
    flags = request.flags
    recipe = with_model_of(flags.start, request.base, request.recipe)
    if flags.check_data:
        check_data(recipe)
        return
    from crosshead.cli.console import say
    from crosshead.cli.training import show_training
    from crosshead.runs import engine
    from crosshead.runs.folder import RunFolder, next_run

    run = RunFolder(flags.out) if flags.out else next_run(Path("runs"), request.name)
    show_training(
        run,
        recipe,
        lambda callbacks: engine.train(
            request.name,
            recipe,
            run,
            start=flags.start,
            callbacks=callbacks,
            report=lambda report: say(*report.lines()),
        ),
    )


def read_request(name: str, arguments: Sequence[str], prog: str) -> TrainRequest:
    """What the command line says after the name of a recipe."""
    base = base_of(name, arguments)
    flags, made_flags = form_of(TrainFlags)
    choices, made_recipe = form_of(type(base), default=base, topics=TOPICS, rest=base.task)
    unnamed = tyro.conf.arg(name="", help="")
    form = dataclasses.make_dataclass(
        "Form", [("flags", Annotated[flags, unnamed]), ("choices", Annotated[choices, unnamed])]
    )
    found: Any = parse(form, arguments, prog=prog, about=inspect.getdoc(RECIPES[name]))
    return TrainRequest(
        name=name, recipe=made_recipe(found.choices), base=base, flags=made_flags(found.flags)
    )


def base_of(name: str, arguments: Sequence[str]) -> Recipe:
    """What flags change: the recipe of that name, or the choices of the run that --config names.

    The file decides what the other flags are by default, and is therefore read before they are.

    Raises:
        ValueError: if the file is no recipe, or one of another task or version.
    """
    recipe = RECIPES[name]()
    path = None
    for word, following in zip(arguments, [*arguments[1:], ""], strict=False):
        if word == "--config" and following:
            path = Path(following)
        elif word.startswith("--config="):
            path = Path(word.partition("=")[2])
    if path is None:
        return recipe
    from crosshead.runs.folder import RunFolder
    from crosshead.runs.record import read_recipe

    file = RunFolder(path).recipe if path.is_dir() else path
    base = read_recipe(file)
    if base.task != recipe.task:
        others = [other for other, made in RECIPES.items() if made().task == base.task]
        raise ValueError(
            f"{file} is a recipe of the task {base.task}, and {name} is one of {recipe.task}: "
            f"train it by {' or '.join(others)}"
        )
    return base


def check_data(recipe: Recipe) -> None:
    """Lists everything that is wrong with the data of a recipe, and fails where there is something.

    Of sound data it says what the splits hold.

    Raises:
        ValueError: with the number of faults.
    """
    from crosshead.cli.console import say
    from crosshead.cli.progress import Bar
    from crosshead.tasks.counts import Counts
    from crosshead.tasks.task import task_of

    recipe.check()
    faults, table = 0, []
    with Bar() as bar:
        bar.show("checking")
        for found in task_of(recipe.task).check_data(recipe):
            if isinstance(found, Counts):
                table = found.lines()
                continue
            say(found)
            faults += 1
            bar.show(f"checking, {faults:,} fault{'s' if faults > 1 else ''}")
    place = recipe.data_dir or recipe.data
    if faults:
        raise ValueError(f"{place}: {faults} fault{'s' if faults > 1 else ''}, listed above: mend them")
    say(f"{place}: nothing wrong", *table)


def with_model_of(start: Path | None, base: Recipe, recipe: Recipe) -> Recipe:
    """Takes the model of the weights to start from, unless another model than the recipe's own was chosen.

    Args:
        start: a run or its weights; None for a fresh model.
        base: the recipe without the flags.
        recipe: as the command line has changed it.

    Raises:
        RunError: if there is nothing to start from.
    """
    if start is None or recipe.model != base.model or recipe.keeps_model:
        return with_default_arguments(base, recipe)
    from crosshead.runs.load import read_architecture

    found = read_architecture(start)
    if found is None:
        return with_default_arguments(base, recipe)
    model, arguments = found
    chosen = {} if recipe.model_args == base.model_args else recipe.model_args
    return dataclasses.replace(recipe, model=model, model_args={**arguments, **chosen})


def with_default_arguments(base: Recipe, recipe: Recipe) -> Recipe:
    """Adds the arguments of the recipe's own model, unless another model was chosen.

    Example:
        >>> digits = RECIPES["digits"]()
        >>> with_default_arguments(digits, dataclasses.replace(digits, model="vit")).model_args
        {}
    """
    if recipe.model == base.model:
        return dataclasses.replace(recipe, model_args={**base.model_args, **recipe.model_args})
    if recipe.model_args == base.model_args:
        return dataclasses.replace(recipe, model_args={})
    return recipe
