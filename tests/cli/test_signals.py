import os
import signal
import sys
import time

import pytest

from crosshead.cli.signals import Signals

CASES = [(signal.SIGINT, KeyboardInterrupt, 130), (signal.SIGTERM, SystemExit, 143)]


def send(number: int) -> None:
    """A signal to this process, and time for it to arrive."""
    os.kill(os.getpid(), number)
    time.sleep(0.05)


def receive(signals: Signals, number: int) -> None:
    with signals.watched():
        send(number)
        pytest.fail("the signal did not arrive")


@pytest.fixture(autouse=True)
def hooks(monkeypatch):
    """What a test may change is put back."""
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD)}
    yield
    assert {number: signal.getsignal(number) for number in before} == before


@pytest.mark.parametrize(("number", "error", "code"), CASES)
def test_a_signal_ends_a_command_with_its_code_whatever_follows(number, error, code):
    signals = Signals()
    with pytest.raises(error) as raised:
        receive(signals, number)
    assert signals.code(raised.value) == code
    assert signals.code(RuntimeError("DataLoader worker (pid 1) exited unexpectedly")) == code
    assert signals.code(AttributeError("half built")) == code


def test_without_a_signal_errors_are_what_they_are():
    signals = Signals()
    with signals.watched():
        assert signals.code(RuntimeError("out of memory")) is None
        assert signals.code(SystemExit(1)) is None
        assert signals.code(RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed.")) is None
        # Of a group of processes a loader may be told first.
        assert signals.code(RuntimeError("DataLoader worker (pid 7) is killed by signal: Terminated.")) == 143
        assert signals.code(KeyboardInterrupt()) == 130


def test_only_the_first_signal_interrupts():
    signals = Signals()
    with signals.watched():
        with pytest.raises(SystemExit):
            send(signal.SIGTERM)
        send(signal.SIGTERM)
        send(signal.SIGINT)
    assert signals.code(SystemExit(1)) == 143


def test_an_interruption_that_python_cannot_raise_is_sent_again():
    class Closing:
        def __del__(self) -> None:
            send(signal.SIGINT)

    signals = Signals()
    with signals.watched(), pytest.raises(KeyboardInterrupt):  # noqa: PT012
        Closing()
        time.sleep(5)
    assert signals.received == signal.SIGINT


def test_a_child_leaves_interruptions_to_its_parent_and_can_be_ended():
    signals = Signals()
    with signals.watched():
        child = os.fork()
        if child == 0:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.1)
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)
            os._exit(1)
        _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGTERM
    assert signals.received is None
