"""What a long command says while it works: a bar on a terminal, elsewhere a line now and then."""

import math
import sys
import threading
import time
from collections.abc import Sequence
from typing import Self

from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.table import Column
from rich.text import Text

from crosshead.cli.console import Terminal

SECONDS_BETWEEN_LINES = 30.0
SECONDS_BETWEEN_TICKS = 1.0
# Of the width of a terminal, for the bar itself.
SHORTEST_BAR = 8


class Bar:
    """A bar with the time left on a terminal; elsewhere a line at most every 30 seconds, on standard error.

    It is shown anew by each `show`, which may be called as often as one likes. A terminal 60 columns wide
    is enough: facts that do not fit are left out, the last ones first.

    Args:
        console: where to; by default standard error, so that results can be piped.
        ticking: whether lines also appear where `show` is not called for long, by a thread; leave it off
            where processes are forked meanwhile.

    Example:
        >>> with Bar() as bar:
        ...     for number in range(3):
        ...         bar.show("predicting", done=number, total=3)
    """

    def __init__(self, console: Terminal | None = None, *, ticking: bool = True) -> None:
        self.console = console or Terminal(stderr=True)
        self.ticking = ticking
        self.live: Progress | None = None
        self.ended = threading.Event()
        self.line = ""
        self.started = self.said = time.monotonic()
        self.first: float | None = None

    def __enter__(self) -> Self:
        self.started = self.said = time.monotonic()
        if self.console.is_terminal:
            self.live = Progress(
                TextColumn("{task.description}", table_column=Column(no_wrap=True)),
                BarColumn(None),
                _Status(table_column=Column(no_wrap=True)),
                console=self.console,
                expand=True,
                transient=True,
                # What goes to a file or a pipe must not come out beside the bar.
                redirect_stdout=sys.stdout.isatty(),
            )
            self.live.add_task("", total=None, status="")
        elif self.ticking:
            threading.Thread(target=self._tick, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        if self.live is not None:
            self.live.stop()
            self.live = None

    def show(
        self,
        what: str,
        *,
        done: float = 0,
        total: float | None = None,
        facts: Sequence[str] = (),
        left: str | None = None,
    ) -> None:
        """Shows how far the work is.

        Args:
            what: what is being done.
            done: how much of `total` is done.
            total: how much there is; a float is shown in per cent; None where nobody knows.
            facts: what else to say, the most important first.
            left: the time left, in words; by default as long as what is done took, in proportion.
        """
        self.first = done if self.first is None else self.first
        if left is None:
            left = self._left(done, total)
        counted = _counted(done, total)
        self.line = "  ".join(filter(None, [what, counted, *facts, left]))
        if self.live is not None:
            # Not before there is something to say.
            self.live.start()
            room = self.console.width - len(what) - SHORTEST_BAR - 2
            # A count is what the bar shows; words are not.
            status = fitting([*facts, *([counted] if isinstance(total, int) else [])], room - len(left) - 2)
            self.live.update(
                self.live.task_ids[0],
                description=what,
                completed=done,
                total=total,
                status="  ".join(filter(None, [*status, left])),
            )
        elif time.monotonic() - self.said >= SECONDS_BETWEEN_LINES:
            self._say()

    def spoken(self) -> None:
        """Something else was said just now: the next line can wait."""
        self.said = time.monotonic()

    def _say(self, more: str = "") -> None:
        self.said = time.monotonic()
        if self.line:
            self.console.line(self.line + more)

    def _tick(self) -> None:
        while not self.ended.wait(SECONDS_BETWEEN_TICKS):
            if time.monotonic() - self.said >= SECONDS_BETWEEN_LINES:
                self._say(f"  ({clock(time.monotonic() - self.started)} so far)")

    def _left(self, done: float, total: float | None) -> str:
        first = self.first or 0
        if total is None or done <= first:
            return ""
        elapsed = time.monotonic() - self.started
        return f"{clock(elapsed / (done - first) * (total - done))} left"


class _Status(ProgressColumn):
    """What stands behind the bar; the time so far, where nothing else is known."""

    def render(self, task: Task) -> Text:
        return Text(str(task.fields["status"]) or clock(task.elapsed or 0))


def fitting(parts: Sequence[str], width: int) -> list[str]:
    """The first parts that fit into so many columns, two apart.

    Example:
        >>> fitting(["loss 0.3", "accuracy 91.02%", "1,200 images/s"], 30)
        ['loss 0.3', 'accuracy 91.02%']
    """
    kept: list[str] = []
    for part in parts:
        if len("  ".join([*kept, part])) > width:
            break
        kept.append(part)
    return kept


def in_lines(parts: Sequence[str], width: int) -> list[str]:
    """Parts in as many lines as they need, none of them torn; all lines but the first are indented.

    Example:
        >>> in_lines(["epoch 1/2", "loss 0.3", "accuracy 91.02%"], 24)
        ['epoch 1/2  loss 0.3', '  accuracy 91.02%']
    """
    lines = [""]
    for part in parts:
        longer = f"{lines[-1]}  {part}" if lines[-1].strip() else lines[-1] + part
        if len(longer) <= width or not lines[-1].strip():
            lines[-1] = longer
        else:
            lines.append(f"  {part}")
    return lines


def _counted(done: float, total: float | None) -> str:
    if total is None:
        return ""
    return f"{done:,} of {total:,}" if isinstance(total, int) else f"{done / total:.0%}"


def percent(value: float) -> str:
    """A fraction in per cent, where there was something to measure.

    Example:
        >>> percent(0.5), percent(float("nan"))
        ('50.00%', 'none')
    """
    return "none" if math.isnan(value) else f"{value:.2%}"


def clock(seconds: float) -> str:
    """Hours, minutes and seconds.

    Example:
        >>> clock(3725)
        '1:02:05'
    """
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"
