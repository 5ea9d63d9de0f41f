"""What comes from data is shown and never obeyed: by the terminal, or by rich's markup."""

import io
import json
import logging
import shutil

import pytest
from PIL import Image
from rich.table import Table

from crosshead.cli.console import Terminal, VisibleFormatter, visible

HOSTILE = "a\x1b[2Jb\x07[/x][bold]c\x9b31m\u202ed:smile:"
SHOWN = r"a\x1b[2Jb\x07[/x][bold]c\x9b31m\u202ed:smile:"


def shown(thing: object) -> str:
    file = io.StringIO()
    Terminal(file=file, width=120, force_terminal=True, color_system=None).print(thing)
    return file.getvalue()


def test_control_characters_become_visible_and_words_of_every_language_stay():
    assert visible(HOSTILE) == SHOWN
    assert visible("Tür 門 ☃\tok\n") == "Tür 門 ☃\tok\n"


def test_lines_and_cells_of_tables_are_shown_as_they_are():
    assert shown(HOSTILE).rstrip("\n") == SHOWN
    table = Table(title=HOSTILE)
    table.add_column(HOSTILE)
    table.add_row(HOSTILE)
    assert shown(table).count(SHOWN) == 3


def test_log_records_are_shown_as_they_are():
    record = logging.LogRecord("crosshead", logging.WARNING, "", 0, "%s: ignored", (HOSTILE,), None)
    assert VisibleFormatter("%(message)s").format(record) == f"{SHOWN}: ignored"


def obeyed(text: str) -> set[str]:
    return {character for character in text if not (character.isprintable() or character in "\n\t")}


def test_commands_show_hostile_names(crosshead, trained, tmp_path):
    run = tmp_path / f"run {HOSTILE}".replace("/", "|")
    shutil.copytree(trained, run)
    record = json.loads((run / "recipe.json").read_text())
    record["meta"]["classes"][3] = HOSTILE
    (run / "recipe.json").write_text(json.dumps(record))
    image = tmp_path / f"image {HOSTILE}.png".replace("/", "|")
    Image.new("L", (8, 8)).save(image)
    for command in (
        ("predict", run, image, "--top", "10"),
        ("predict", run, tmp_path / "none\x1b[2J.png"),
        ("evaluate", run),
        ("resume", run, "--workers", "0"),
        ("train", "classify", "--data-dir", tmp_path / "none\x1b[2J"),
        ("train", "classify", "--data-dir", tmp_path / "none[/x]", "--check-data"),
        ("train", "digits", "--model", "resnet\x1b[2J[/x]"),
    ):
        answer = crosshead(*command)
        assert answer.code in (0, 1), answer.err
        assert answer.err.count("\n") == answer.code
        assert "Traceback" not in answer.err
        assert not obeyed(answer.out + answer.err), command


@pytest.mark.parametrize("text", ["[/x]", "[bold", "\x1b[2J", "[red]x[/red]"])
def test_wrong_usage_with_hostile_text_is_told_as_usage(crosshead, text):
    answer = crosshead("train", text)
    assert answer.code == 2
    assert "Traceback" not in answer.err
