"""recipe.json: what a run was asked to do, on what data, by which versions, on which machine."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crosshead.runs.folder import RunError, RunFolder, read_json, write_json
from crosshead.tasks.change.recipe import ChangeRecipe
from crosshead.tasks.classify.recipe import ClassifyRecipe
from crosshead.tasks.detect.recipe import DetectRecipe
from crosshead.tasks.meta import Facts, ImageFacts, ObjectFacts, PairFacts, PixelFacts
from crosshead.tasks.recipe import Recipe
from crosshead.tasks.segment.recipe import SegmentRecipe

_TYPES: dict[str, tuple[type[Recipe], type[Facts]]] = {
    "classify": (ClassifyRecipe, ImageFacts),
    "segment": (SegmentRecipe, PixelFacts),
    "detect": (DetectRecipe, ObjectFacts),
    "change": (ChangeRecipe, PairFacts),
}


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """The content of recipe.json.

    Attributes:
        name: Name of the recipe.
        recipe: Every choice.
        facts: What the net has to know about the data.
        start: Where the first weights came from, if from another run.
        stamp: Versions and hardware.
    """

    name: str
    recipe: Recipe
    facts: Facts
    start: str | None
    stamp: dict[str, Any]

    def write(self, run: RunFolder) -> None:
        """Writes recipe.json atomically."""
        write_json(run.recipe, {"task": self.recipe.task, **dataclasses.asdict(self)})


def read_record(run: RunFolder) -> RunRecord:
    """Reads recipe.json.

    Raises:
        RunError: If there is no run, or its recipe is damaged or from another version.
    """
    if not run.path.is_dir():
        raise RunError(f"{run.path} is no folder: name a run folder, such as runs/digits-1")
    if run.is_empty:
        raise RunError(
            f"{run.path} holds no run, or one that was stopped before its recipe.json was written: "
            f"train again with --out {run.path}"
        )
    content = read_json(run.recipe, remedy="name the folder of a run that `crosshead train` made")
    try:
        recipe_type, facts_type = _TYPES[content["task"]]
        recipe = dict(content["recipe"])
        if recipe["data_dir"] is not None:
            recipe["data_dir"] = Path(recipe["data_dir"])
        return RunRecord(
            name=content["name"],
            recipe=recipe_type(**{name: as_tuples(value) for name, value in recipe.items()}),
            facts=facts_type(**{name: as_tuples(value) for name, value in content["facts"].items()}),
            start=content["start"],
            stamp=content["stamp"],
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RunError(f"{run.recipe} is no recipe of this version of Crosshead: {error}") from None


def as_tuples(value: Any) -> Any:
    """The value with tuples for lists, which JSON and a command line cannot tell apart.

    Example:
        >>> as_tuples({"depths": [1, [2, 3]]})
        {'depths': (1, (2, 3))}
    """
    if isinstance(value, list | tuple):
        return tuple(as_tuples(item) for item in value)
    if isinstance(value, dict):
        return {name: as_tuples(item) for name, item in value.items()}
    return value
