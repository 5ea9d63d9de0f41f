import dataclasses
from pathlib import Path
from typing import Literal

import pytest

from crosshead.cli.flags import form_of, helps_of, parse
from crosshead.cli.topics import TOPICS
from crosshead.recipes import RECIPES
from crosshead.tasks.recipe import Recipe


@dataclasses.dataclass(frozen=True, kw_only=True)
class Oven:
    """An oven."""

    heat: int
    """Degrees, of which
    200 are enough for bread."""
    gas: Path | None = None
    """Bottle; by default none."""
    fan: Literal["on", "off"] = "off"
    """The fan."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Grill(Oven):
    heat: int = 250
    notes: dict[str, int] = dataclasses.field(default_factory=dict)
    """Anything else."""


def read(kind: type, *arguments: str, **options):
    form, made = form_of(kind, **options)
    return made(parse(form, arguments, prog="bake", about=""))


def test_a_dataclass_is_read_with_its_own_defaults_or_with_those_of_an_instance():
    assert read(Oven, "--heat", "3") == Oven(heat=3)
    default = Grill(fan="on", notes={"a": 1})
    assert read(Grill, "--gas", "x", default=default) == dataclasses.replace(default, gas=Path("x"))
    assert read(Grill, "--notes", "b=2", default=default, topics={"heat": "Fire"}, rest="other").notes == {
        "b": 2
    }


def test_help_is_one_line_whatever_the_source_looks_like():
    assert helps_of(Grill)["heat"] == "Degrees, of which 200 are enough for bread."
    assert helps_of(Grill)["notes"] == "Anything else."


def test_flags_stand_in_groups_and_none_is_not_shown(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        read(Grill, "--help", default=Grill(), topics={"heat": "fire", "gas": "fire"}, rest="other")
    # After the usage line.
    shown = capsys.readouterr().out.partition("\n\n")[2]
    places = ["fire options", "--heat INT", "--gas PATH", "other options", "--fan {on,off}"]
    assert sorted(places, key=shown.index) == places
    assert "None" not in shown


def test_common_flags_stand_in_groups_and_no_group_names_a_flag_that_is_gone():
    fields = {field.name for recipe in RECIPES.values() for field in dataclasses.fields(recipe())}
    assert {field.name for field in dataclasses.fields(Recipe)} <= TOPICS.keys() <= fields


def test_a_function_is_called_once_and_not_where_a_flag_is_misspelt(capsys):
    calls = []

    def bake(bread: str, *, heat: int = 200) -> str:
        calls.append((bread, heat))
        return "done"

    assert parse(bake, ["--bread", "rye", "--heat", "3"], prog="bake") == "done"
    for wrong in (["--bread", "rye", "--haet", "3"], ["--haet", "3"], ["--heat", "3"]):
        with pytest.raises(SystemExit):
            parse(bake, wrong, prog="bake")
        assert ("--heat INT" in capsys.readouterr().err) == ("--haet" in wrong)
    assert calls == [("rye", 3)]
