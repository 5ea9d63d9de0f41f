"""A run folder belongs to one training at a time, and a new one to a training that can begin."""

import contextlib
import os
import platform
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from crosshead.runs.folder import RunError, RunFolder

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

# How long who asks for a lock may keep it from who wants it: an instant, unless the machine is busy.
PATIENCE, PAUSE = 0.5, 0.01

_held: set[int] = set()


@contextmanager
def locked(run: RunFolder) -> Iterator[None]:
    """Keeps other processes from training into a run folder.

    The system holds the lock on the open file `.lock`, so it is gone when the process is, however it died;
    the file alone means nothing. File systems that know no locks, and Windows, go without.

    Args:
        run: whose folder is made if it is missing.

    Raises:
        RunError: if another process trains there.
    """
    run.path.mkdir(parents=True, exist_ok=True)
    if fcntl is None:
        yield
        return
    file = _take(run)
    _held.add(file)
    try:
        yield
    finally:
        _held.discard(file)
        run.lock.unlink(missing_ok=True)
        os.close(file)


@contextmanager
def claimed(run: RunFolder, *, begun: Callable[[], bool]) -> Iterator[None]:
    """Makes and locks the folder of a new training, and takes it away again where that could not begin.

    Args:
        run: where nothing is yet.
        begun: asked after an error, whether there is anything to go on with; an interruption is no error.

    Raises:
        RunError: if something is there already, or another process trains there.
    """
    missing = [path for path in (run.path, *run.path.parents) if not path.exists()]
    with locked(run):
        # Another training may have come, and gone, while the data of this one were loaded.
        run.require_free()
        try:
            yield
        except Exception:
            if not begun():
                shutil.rmtree(run.path, ignore_errors=True)
                if run.path not in missing:
                    run.path.mkdir(exist_ok=True)
                for parent in missing[1:]:
                    with contextlib.suppress(OSError):
                        parent.rmdir()
            raise


def is_locked(run: RunFolder) -> bool:
    """Whether a process trains into the folder now, as far as the file system can tell.

    The question takes the lock for an instant, together with others who ask. A training that starts just then
    waits for it.
    """
    if fcntl is None:
        return False
    try:
        file = os.open(run.lock, os.O_RDONLY)
    except OSError:
        return False
    try:
        return not _lock(file, fcntl.LOCK_SH)
    finally:
        os.close(file)


def _take(run: RunFolder) -> int:
    """The open file, locked where that can be done."""
    assert fcntl is not None
    deadline = time.monotonic() + PATIENCE
    while True:
        file = os.open(run.lock, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            while not (taken := _lock(file, fcntl.LOCK_EX)) and time.monotonic() < deadline:
                time.sleep(PAUSE)
            if not taken:
                holder = os.read(file, 200).decode(errors="replace").strip()
                raise RunError(
                    f"{run.path} is being trained into{holder and f' by process {holder}'}: wait until that "
                    "has ended, or name another folder with --out"
                )
            # Its last holder may have removed the file between our opening and our locking it.
            if _is_same(file, run.lock):
                os.ftruncate(file, 0)
                os.write(file, f"{os.getpid()} on {platform.node()}\n".encode())
                return file
        except BaseException:
            os.close(file)
            raise
        os.close(file)


def _lock(file: int, kind: int) -> bool:
    """Whether the lock is ours now, or the file system knows none."""
    assert fcntl is not None
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def _is_same(file: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False


def _let_go() -> None:
    """Loader processes inherit the open file, and would hold the lock beyond the death of the run."""
    for file in _held:
        with contextlib.suppress(OSError):
            os.close(file)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)
