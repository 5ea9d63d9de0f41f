import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from crosshead.runs import engine
from crosshead.runs.folder import RunError, RunFolder
from crosshead.runs.lock import claimed, is_locked, locked
from crosshead.runs.record import read_record

HOLD = """
import multiprocessing, sys, time
from pathlib import Path
from crosshead.runs.folder import RunFolder
from crosshead.runs.lock import locked
with locked(RunFolder(Path(sys.argv[1]))):
    # A loader process, which outlives its run by seconds.
    child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
    child.start()
    print(child.pid, flush=True)
    time.sleep(60)
"""


def names(run: RunFolder) -> set[str]:
    return {path.name for path in run.path.iterdir()}


def begin_and_fail(run: RunFolder, error: type[BaseException], *, begun: bool) -> None:
    with claimed(run, begun=lambda: begun):
        run.recipe.write_text("{}")
        raise error


def test_a_folder_is_locked_while_it_is_held_and_nothing_stays(tmp_path):
    run = RunFolder(tmp_path / "runs" / "one")
    with locked(run):
        assert is_locked(run)
        message = rf"^{run.path} is being trained into by process {os.getpid()} on "
        with pytest.raises(RunError, match=message), locked(run):
            pass
        assert is_locked(run)
    assert not is_locked(run)
    assert names(run) == set()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_the_lock_of_a_killed_process_is_gone_although_its_children_live_on(tmp_path):
    run = RunFolder(tmp_path)
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    child = int(holder.stdout.readline())
    try:
        with pytest.raises(RunError, match="is being trained into by process"), locked(run):
            pass
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        os.kill(child, 0)
        deadline = time.monotonic() + 5
        while is_locked(run):
            assert time.monotonic() < deadline
        with locked(run):
            pass
    finally:
        os.kill(child, signal.SIGKILL)
        holder.stdout.close()


def test_a_lock_file_that_nobody_holds_means_nothing(tmp_path):
    run = RunFolder(tmp_path)
    run.lock.write_text("1234 on elsewhere\n")
    assert run.is_empty
    assert not is_locked(run)
    with claimed(run, begun=lambda: True):
        run.recipe.write_text("{}")
    assert names(run) == {"recipe.json"}


def test_who_asks_keeps_nobody_from_training_and_is_taken_for_no_training(tmp_path):
    fcntl = pytest.importorskip("fcntl")
    run = RunFolder(tmp_path)
    run.lock.touch()
    other = os.open(run.lock, os.O_RDONLY)
    fcntl.flock(other, fcntl.LOCK_SH)  # as another process asks
    assert not is_locked(run)
    has_asked = threading.Timer(0.1, os.close, [other])
    has_asked.start()
    with locked(run):
        assert is_locked(run)
    has_asked.join()


@pytest.mark.parametrize("made_before", ["", "runs", "runs/one"])
def test_a_training_that_cannot_begin_leaves_what_was_there_before(tmp_path, made_before):
    (tmp_path / made_before).mkdir(parents=True, exist_ok=True)
    before = set(tmp_path.rglob("*"))
    run = RunFolder(tmp_path / "runs" / "one")
    with pytest.raises(ConnectionError):
        begin_and_fail(run, ConnectionError, begun=False)
    assert set(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(("begun", "error"), [(True, ConnectionError), (False, KeyboardInterrupt)])
def test_what_has_begun_or_was_interrupted_stays(tmp_path, begun, error):
    run = RunFolder(tmp_path / "one")
    with pytest.raises(error):
        begin_and_fail(run, error, begun=begun)
    assert names(run) == {"recipe.json"}


def test_a_folder_that_another_training_has_taken_meanwhile_is_refused_and_left_alone(tmp_path):
    run = RunFolder(tmp_path)
    run.recipe.write_text("{}")
    with pytest.raises(RunError, match="exists already"), claimed(run, begun=lambda: False):
        pass
    assert names(run) == {"recipe.json"}


def test_two_trainings_into_one_folder_are_refused(tiny, copied, tmp_path):
    before = {path: path.stat().st_mtime_ns for path in copied.path.rglob("*")}
    with locked(copied), pytest.raises(RunError, match=rf"^{copied.path} is being trained into by process"):
        engine.resume(copied, read_record(copied))
    assert {path: path.stat().st_mtime_ns for path in copied.path.rglob("*") if path.is_file()}.items() <= (
        before.items()
    )
    with locked(RunFolder(tmp_path / "new")), pytest.raises(RunError, match="is being trained into"):
        engine.train("digits", tiny, RunFolder(tmp_path / "new"))
