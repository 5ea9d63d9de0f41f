"""What of the cache may be loaded, and how a library is put there.

Loading a library runs it, and one that was cut short ends the process with SIGBUS. So a library is loaded
only from a folder in which nobody but this user and root can put, change or exchange anything, and only if
it has the size and the SHA-256 that were noted beside it when it was built. Nobody is left who could exchange
a file between the check and the loading: the path that was checked is the one to load.
"""

import errno
import hashlib
import os
import shlex
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

REBUILD = "run `crosshead build`"
OTHER_FOLDER = "name a folder of your own in the environment variable CROSSHEAD_CACHE"
LINKS_FOLLOWED = 40  # as many as Linux follows


class Refused(OSError):
    """A folder or a file of the cache that is not to be used; the message says why, and what to do."""


def checked(path: Path) -> Path:
    """Makes sure that a library is the one that this user, or root, has built.

    Args:
        path: where it is kept; links to its folder are followed.

    Returns:
        The path to load, free of links.

    Raises:
        Refused: if it is not there or damaged, or if others could have put or changed it.
    """
    try:
        library = _own_folder(path.parent) / path.name
        _require_own_file(library)
        # The size first, so that a huge file is not read.
        noted, size = _noted(library), library.stat().st_size
        if not noted.endswith(f" {size}\n".encode()) or noted != _checksum(library):
            raise Refused(f"{library} is damaged or was not built to the end: {REBUILD}")
    except FileNotFoundError:
        raise Refused(f"it is not built: {REBUILD} (about ten seconds)") from None
    except Refused:
        raise
    except OSError as error:
        raise Refused(f"{path} cannot be read ({error.strerror}): {OTHER_FOLDER}") from error
    return library


def make_folder(folder: Path) -> None:
    """Makes a folder to keep libraries in, and its parents, for this user alone; or checks the one there is.

    Raises:
        Refused: if others may write to it or could exchange it.
        OSError: if it cannot be made.
    """
    _own_folder(folder, make=True)


def keep(compiled: Path, library: Path) -> None:
    """Puts a library in its place, and its checksum beside it.

    Both are on the disk before either appears. Killed between the two, the new checksum stands beside the old
    library or beside none, and `checked` refuses that.

    Args:
        compiled: the library, in the file system of its place.
        library: its place.

    Raises:
        Refused: if a folder lies there.
    """
    for place in (library, checksum_file(library)):
        if place.is_dir() and not place.is_symlink():
            raise Refused(f"{place} is not a regular file: remove it, then {REBUILD}")
    noted = checksum_file(compiled)
    noted.touch()
    for file in (compiled, noted):
        file.chmod(0o600)  # whatever the umask took away or left
    noted.write_bytes(_checksum(compiled))
    for file in (compiled, noted):
        with file.open("rb") as written:
            os.fsync(written.fileno())
    noted.replace(checksum_file(library))
    compiled.replace(library)


def checksum_file(library: Path) -> Path:
    """Where the SHA-256 and the size of a library are noted."""
    return library.with_name(f"{library.name}.sha256")


def _checksum(library: Path) -> bytes:
    with library.open("rb") as file:
        return f"{hashlib.file_digest(file, 'sha256').hexdigest()} {file.tell()}\n".encode()


def _noted(library: Path) -> bytes:
    """What the checksum file says, or nothing if there is none."""
    path = checksum_file(library)
    if not os.path.lexists(path):
        return b""
    _require_own_file(path)
    with path.open("rb") as file:
        return file.read(100)


def _require_own_file(path: Path) -> None:
    if not stat.S_ISREG(path.lstat().st_mode):
        raise Refused(f"{path} is not a regular file: remove it, then {REBUILD}")
    _require_owner(path, {0, os.geteuid()}, remedy=REBUILD)
    _require_closed(path, remedy=REBUILD)


def _own_folder(folder: Path, *, make: bool = False) -> Path:
    """The folder, free of links, if nobody else can write to it or exchange it."""
    user, place = os.geteuid(), folder
    # The owner of the root folder is root, who looks like nobody from inside a user namespace.
    trusted = {0, user, Path("/").stat().st_uid}
    for place in _way(folder):
        if make and not os.path.lexists(place):
            with suppress(FileExistsError):
                place.mkdir(0o700)
                place.chmod(0o700)  # whatever the umask took away
        _require_owner(place, trusted, remedy=_for_folder("chown", user, place))
        # Whoever may write to a folder can rename what it holds and put something else in its place; in a
        # sticky one, such as /tmp, only the owners of folder and content can.
        if not place.is_symlink() and not place.stat().st_mode & stat.S_ISVTX:
            _require_closed(place, remedy=_for_folder("chmod", "go-w", place))
    if not place.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(place))
    _require_owner(place, {0, user}, remedy=_for_folder("chown", user, place))
    _require_closed(place, remedy=_for_folder("chmod", "go-w", place))
    return place


def _for_folder(command: str, argument: object, folder: Path) -> str:
    return f"run `{command} {argument} {shlex.quote(str(folder))}` if it should be yours, or {OTHER_FOLDER}"


def _require_owner(place: Path, owners: set[int], *, remedy: str) -> None:
    owner = place.lstat().st_uid
    if owner not in owners:
        raise Refused(f"{place} belongs to user {owner}, and this is user {os.geteuid()}: {remedy}")


def _require_closed(place: Path, *, remedy: str) -> None:
    # Where there are access control lists, the bits of the group are the most that any of them grants.
    if place.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise Refused(f"others than its owner may write to {place}: {remedy}")


def _way(folder: Path) -> Iterator[Path]:
    """Every folder and link on the way to a folder, which comes last; each is followed after it was given."""
    place, ahead, links = Path("/"), list(folder.absolute().parts[:0:-1]), 0
    while True:
        yield place
        if place.is_symlink():
            links += 1
            if links > LINKS_FOLLOWED:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(folder))
            ahead += reversed(place.readlink().parts)
            place = place.parent
        elif ahead:
            step = ahead.pop()
            place = place.parent if step == ".." else place / step
        else:
            return
