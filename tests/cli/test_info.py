from importlib.metadata import version

import pytest
import torch

from crosshead.attention.impl.fused.cpu import build


def cells_of(out: str) -> list[list[str]]:
    """The cells of every line of a table."""
    return [[cell.strip() for cell in line.split("│")[1:-1]] for line in out.splitlines() if "│" in line]


def test_versions_and_machine_are_told(crosshead):
    answer = crosshead("info")
    assert answer.code == 0
    assert answer.err == ""
    rows = {cells[0]: cells[1] for cells in cells_of(answer.out)}
    assert rows["torch"] == version("torch")
    assert rows["timm"] == version("timm")
    assert int(rows["cores"]) > 0


@pytest.mark.parametrize(
    ("missing", "ready", "says"),
    [
        (None, "yes", "C++, float32 and bfloat16"),
        ("run `crosshead build`", "no", "run `crosshead build`"),
        ("run `chmod go-w '/my [red]cache'`", "no", "run `chmod go-w '/my [red]cache'`"),
    ],
)
def test_which_implementations_are_ready_and_what_would_make_them_so(
    crosshead, monkeypatch, missing, ready, says
):
    monkeypatch.setattr(build, "_missing", missing)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    cells = cells_of(crosshead("info").out)
    rows = {row[0]: row[1] for row in cells}
    assert [rows[name] for name in ("reference", "streamed", "auto")] == ["yes"] * 3
    assert (rows["fused on cpu"], rows["fused on cuda"]) == (ready, "no")
    told = " ".join(row[2] for row in cells if len(row) == 3)
    assert says in told
    assert "no NVIDIA GPU" in told
