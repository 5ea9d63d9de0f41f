"""recipe.json: what a run was asked to do, on what data, by which versions, on which machine."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from crosshead.runs.folder import RunError, RunFolder, read_json, write_json
from crosshead.tasks.recipe import Recipe
from crosshead.tasks.task import Meta, task_of

# Raised where recipe.json changes in a way that older readers, or older files, would misread.
VERSION = 2


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """The content of recipe.json.

    Attributes:
        name: name of the recipe.
        recipe: every choice.
        meta: what the net has to know about the data.
        start: where the first weights came from, if from another run.
        stamp: versions and hardware.
        epochs_before: epochs that come before those of the recipe; None where an earlier version of Crosshead
            did not say.
    """

    name: str
    recipe: Recipe
    meta: Meta
    start: str | None
    stamp: dict[str, Any]
    epochs_before: int | None = None

    def write(self, run: RunFolder) -> None:
        """Writes recipe.json atomically."""
        write_json(run.recipe, self.as_json())

    def as_json(self) -> dict[str, Any]:
        """The content of recipe.json; paths are not yet texts."""
        return {"version": VERSION, "task": self.recipe.task, **dataclasses.asdict(self)}


def read_record(run: RunFolder) -> RunRecord:
    """Reads recipe.json, which may come from anywhere: types and bounds of each field are checked.

    Raises:
        RunError: if there is no run, or its recipe is damaged, contradicts itself or is of another version.
    """
    if not run.path.is_dir():
        raise RunError(f"{run.path} is not a folder: name a run folder, such as runs/digits-1")
    if run.is_empty:
        raise RunError(
            f"{run.path} holds no run, or one that was stopped before its recipe.json was written: "
            f"train again with --out {run.path}"
        )
    return record_of(_read(run.recipe), place=run.recipe)


def record_of(content: dict[str, Any], *, place: Path) -> RunRecord:
    """The record that the content of a recipe.json holds.

    Args:
        content: as `RunRecord.as_json` gives it.
        place: the file that it was read from, for messages.

    Raises:
        RunError: if it is damaged, contradicts itself or is of another version.
    """
    _require_version(content, place)
    try:
        recipe = _recipe(content)
        return RunRecord(
            name=_validated(str, content["name"]),
            recipe=recipe,
            meta=_validated(task_of(recipe.task).meta, content["meta"]),
            start=_validated(str | None, content["start"]),
            stamp=_validated(dict[str, Any], content["stamp"]),
            epochs_before=_validated(int | None, content.get("epochs_before")),
        )
    except (KeyError, ValueError) as error:
        raise RunError(f"{place} is not a recipe that Crosshead wrote: {_reason(error)}") from None


def read_recipe(path: Path) -> Recipe:
    """Reads the choices of a recipe.json alone.

    Raises:
        RunError: if there is no such file, or its recipe is damaged, contradicts itself or is of another
            version.
    """
    content = _read(path)
    _require_version(content, path)
    try:
        return _recipe(content)
    except (KeyError, ValueError) as error:
        raise RunError(f"{path} is not a recipe that Crosshead wrote: {_reason(error)}") from None


def _read(path: Path) -> dict[str, Any]:
    return read_json(path, remedy="name the folder of a run that `crosshead train` made")


def _require_version(content: dict[str, Any], place: Path) -> None:
    if (version := content.get("version", 1)) != VERSION:
        raise RunError(
            f"{place} is of version {version!r}, and this Crosshead reads version {VERSION}: "
            "train again, or use the Crosshead that made it"
        )


def _recipe(content: dict[str, Any]) -> Recipe:
    recipe = _validated(task_of(str(content["task"])).recipe, content["recipe"])
    recipe = dataclasses.replace(recipe, model_args=as_tuples(recipe.model_args))
    recipe.check()
    return recipe


def _validated(kind: Any, value: Any) -> Any:
    """The value as that type; nothing is guessed, and a dataclass takes no field that it does not have."""
    if dataclasses.is_dataclass(kind):
        names = {field.name for field in dataclasses.fields(kind)}
        unknown = sorted(set(value) - names) if isinstance(value, dict) else []
        if unknown:
            raise ValueError(f"{unknown[0]} is unknown")
    # As JSON, where lists are tuples and texts are paths; nothing else is converted.
    adapter: TypeAdapter[Any] = TypeAdapter(kind)  # pyright: ignore[reportArgumentType]
    return adapter.validate_json(json.dumps(value), strict=True)


def _reason(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        return f"{place}: {first['msg']}" if place else first["msg"]
    return f"{error} is missing" if isinstance(error, KeyError) else " ".join(str(error).split())


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
