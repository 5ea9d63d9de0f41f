"""`crosshead rivals` prints what every mechanism costs, can take and comes from."""

import subprocess
import sys

import pytest

from crosshead.rivals import MECHANISMS
from crosshead.rivals.registry import INTERACTIVE

FACTS = {"interactive": INTERACTIVE} | {name: rival.mechanism for name, rival in MECHANISMS.items()}


@pytest.fixture
def printed(crosshead, monkeypatch) -> str:
    monkeypatch.setenv("COLUMNS", "100")
    answer = crosshead("rivals")
    assert answer.code == 0
    assert answer.err == ""
    return answer.out


def rows(printed: str) -> list[list[str]]:
    """The cells of both tables, lines that continue a row joined to it."""
    found: list[list[str]] = []
    for line in printed.splitlines():
        cells = [cell.strip() for cell in line.split("│")[1:-1]]
        if cells and cells[0]:
            found.append(cells)
        elif cells:
            found[-1] = [f"{above} {cell}".strip() for above, cell in zip(found[-1], cells, strict=True)]
    return found


def test_the_first_table_tells_cost_and_abilities_ours_first(printed):
    for row, (name, mechanism) in zip(rows(printed), FACTS.items(), strict=False):
        can = mechanism.capabilities
        answers = [mechanism.heads_talk, can.key_mask, can.any_grid, can.any_length, can.linear]
        assert row == [name, mechanism.complexity, *("yes" if answer else "no" for answer in answers)]


def test_the_second_table_tells_title_source_and_paper(printed):
    for row, (name, mechanism) in zip(rows(printed)[len(FACTS) :], FACTS.items(), strict=True):
        told = [cell.replace(" ", "") for cell in row[1:]]
        expected = [mechanism.title, mechanism.source, mechanism.paper]
        assert row[0] == name
        # A word longer than its column goes on in the next line.
        assert told == [fact.replace(" ", "") for fact in expected]


@pytest.mark.parametrize("columns", [80, 100])
def test_no_line_is_wider_than_the_terminal_and_no_word_is_cut(crosshead, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    out = crosshead("rivals").out
    assert max(map(len, out.splitlines())) <= columns
    assert "…" not in out


def test_what_is_said_of_ours_is_so():
    from crosshead import InteractiveAttention

    assert INTERACTIVE.source.split()[-1] == InteractiveAttention.__name__
    assert "interactive" not in MECHANISMS


def test_its_signature_costs_no_torch():
    check = "import sys, crosshead.cli.rivals; sys.exit('torch' in sys.modules or 'rich' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
