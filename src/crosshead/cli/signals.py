"""SIGINT and SIGTERM end a command once and quietly, whatever its loader processes have to say about it.

A signal from a terminal or a scheduler reaches the whole group of processes. Loaders die of it, torch notices
and raises at any place, tracebacks follow: all that is a consequence, and none of it is news.
"""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}
SECONDS_UNTIL_SENT_AGAIN = 0.1


class Signals:
    """Turns the first signal into an exception, and lets the later ones pass.

    Attributes:
        received: the signal that ends the command.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self.process = os.getpid()

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Looks after the signals of this process; only the main thread of a program may."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        self.received, self.process = None, os.getpid()
        child = getattr(signal, "SIGCHLD", None)
        before = {number: signal.getsignal(number) for number in (*CODES, *([child] if child else []))}
        show, sys.unraisablehook = sys.unraisablehook, self._lost
        self.show = show
        for number in CODES:
            signal.signal(number, self._received)
        try:
            yield
        finally:
            if self.received is None:
                sys.unraisablehook = show
            for number, handler in before.items():
                signal.signal(number, handler if handler is not None else signal.SIG_DFL)

    def code(self, error: BaseException) -> int | None:
        """The exit code of a command that an error ends; None where that was no interruption.

        Whatever is raised after a signal follows from it, and a loader may have died of it first.
        """
        if self.received is not None:
            return CODES[self.received]
        if isinstance(error, KeyboardInterrupt):
            return CODES[signal.SIGINT]
        found = str(error)
        return CODES[signal.SIGTERM] if "DataLoader worker" in found and "Terminated" in found else None

    def _received(self, number: int, _frame: FrameType | None) -> None:
        if os.getpid() != self.process:
            # A loader process, which has inherited this. It ends with the command that a key has interrupted.
            if number == signal.SIGTERM:
                signal.signal(number, signal.SIG_DFL)
                os.kill(os.getpid(), number)
            return
        if self.received is not None:
            return
        self.received = signal.Signals(number)
        if hasattr(signal, "SIGCHLD"):
            # torch raises here where a loader has died.
            signal.signal(signal.SIGCHLD, lambda *_: None)
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(CODES[signal.SIGTERM])

    def _lost(self, problem: Any) -> None:
        """What is raised while an object is taken apart cannot go up: a signal is sent again."""
        if self.received is None:
            # A loader may have died of the signal before it comes here.
            if "DataLoader worker" not in str(problem.exc_value):
                self.show(problem)
        elif isinstance(problem.exc_value, KeyboardInterrupt | SystemExit):
            again, self.received = self.received, None
            timer = threading.Timer(SECONDS_UNTIL_SENT_AGAIN, os.kill, (self.process, again))
            timer.daemon = True
            timer.start()


SIGNALS = Signals()
