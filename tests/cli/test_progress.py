import io
import re
import time

import pytest

from crosshead.cli import progress
from crosshead.cli.console import Terminal
from crosshead.cli.progress import Bar, in_lines


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(progress.time, "monotonic", found.monotonic)
    return found


def frames(file: io.StringIO) -> list[str]:
    """What a terminal was shown, each line once."""
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "\n", file.getvalue())
    return list(dict.fromkeys(line.rstrip() for line in re.split(r"[\r\n]+", text) if line.strip()))


@pytest.mark.parametrize("width", [60, 80, 120])
def test_on_a_terminal_all_stands_in_one_line_that_fits(width):
    file = io.StringIO()
    with Bar(Terminal(file=file, width=width, force_terminal=True, color_system=None)) as bar:
        assert bar.live is not None
        bar.show(
            "epoch 12/300", done=5, total=10.0, facts=["loss 0.312", "accuracy 93.21%"], left="1:00:05 left"
        )
        bar.live.refresh()
    (line,) = [frame for frame in frames(file) if "epoch 12/300" in frame]
    assert len(line) <= width
    assert "loss 0.312" in line
    assert line.endswith("1:00:05 left")
    assert ("accuracy 93.21%" in line) == (width > 60)


def test_elsewhere_there_is_a_line_every_thirty_seconds_at_most(clock):
    file = io.StringIO()
    with Bar(Terminal(file=file), ticking=False) as bar:
        for number in range(100):
            bar.show("predicting", done=number, total=100, facts=["a fact"])
            clock.now += 1.0
    assert file.getvalue().splitlines() == [
        "predicting  30 of 100  a fact  0:01:10 left",
        "predicting  60 of 100  a fact  0:00:40 left",
        "predicting  90 of 100  a fact  0:00:10 left",
    ]


def test_after_other_words_the_next_line_can_wait(clock):
    file = io.StringIO()
    with Bar(Terminal(file=file), ticking=False) as bar:
        clock.now += 29.0
        bar.spoken()
        clock.now += 29.0
        bar.show("predicting", done=1, total=2)
    assert file.getvalue() == ""


def test_short_work_says_nothing_elsewhere(capfd):
    with Bar() as bar:
        bar.show("predicting", done=1, total=2)
    assert capfd.readouterr() == ("", "")


def test_work_that_does_not_report_is_seen_to_go_on(monkeypatch):
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.01)
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_TICKS", 0.01)
    file = io.StringIO()
    with Bar(Terminal(file=file)) as bar:
        bar.show("checking")
        deadline = time.monotonic() + 10
        while "so far" not in file.getvalue():
            assert time.monotonic() < deadline
            time.sleep(0.01)
    assert re.match(r"checking  \(0:00:0\d so far\)\n", file.getvalue())


def test_of_what_has_no_end_the_time_so_far_is_shown():
    file = io.StringIO()
    with Bar(Terminal(file=file, width=60, force_terminal=True, color_system=None)) as bar:
        assert bar.live is not None
        bar.show("checking")
        bar.live.refresh()
    assert any(frame.startswith("checking") and frame.endswith("0:00:00") for frame in frames(file))


def test_no_part_of_a_line_is_torn():
    parts = ["epoch  1/24", "training loss 2.208", "accuracy 22.66%", "validation loss 1.911", "0:00:02 left"]
    lines = in_lines(parts, 60)
    assert lines == [
        "epoch  1/24  training loss 2.208  accuracy 22.66%",
        "  validation loss 1.911  0:00:02 left",
    ]
    assert in_lines(["a" * 80, "b"], 60) == ["a" * 80, "  b"]
