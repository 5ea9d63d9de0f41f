"""Archives of data, unpacked safely: plain files and folders alone, and none outside of its place."""

import gzip
import hashlib
import lzma
import os
import shutil
import stat
import tarfile
import tempfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from crosshead.tasks.task import DataError

SUFFIXES = (".tar.xz", ".tar.gz", ".tgz", ".zip")
_DAMAGE = (
    *(tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, lzma.LZMAError, zlib.error),
    *(EOFError, RuntimeError),
)


def extract_archive(path: Path, *, cache_dir: str | Path | None = None) -> Path:
    """Unpacks an archive of data into a cache folder, once.

    The folder is named after the archive and its checksum, so an archive that has changed is unpacked anew.
    It appears whole or not at all, however the process ends.

    Args:
        path: the archive: .tar.xz, .tar.gz, .tgz or .zip.
        cache_dir: where to unpack; by default crosshead/ in $XDG_CACHE_HOME, or in ~/.cache where that is not
            set.

    Returns:
        The folder with the content.

    Raises:
        DataError: if the archive is missing, damaged, or holds anything but files and folders inside of it
            (links, devices, paths with ".."); if the cache folder cannot be written.

    Example:
        >>> root = Path(tempfile.mkdtemp())
        >>> with zipfile.ZipFile(root / "set.zip", "w") as file:
        ...     file.writestr("train/cat/note.txt", "a cat")
        >>> folder = extract_archive(root / "set.zip", cache_dir=root / "cache")
        >>> (folder / "train" / "cat" / "note.txt").read_text()
        'a cat'
    """
    if cache_dir is None:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "crosshead"
    else:
        cache = Path(cache_dir).expanduser()
    unfinished = None
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()[:16]
        target = cache / f"{path.name.partition('.')[0]}-{digest}"
        if target.is_dir():
            return target
        cache.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(prefix=".unpacking-", dir=cache))
        _unpack(path, unfinished)
        # Another process may have been quicker: its folder holds the same.
        if not target.is_dir():
            unfinished.rename(target)
        return target
    except _DAMAGE as error:
        reason = str(error).partition("\n")[0]
        raise DataError(f"{path}: damaged or truncated archive ({reason}); get the file again") from error
    except OSError as error:
        raise DataError(
            f"{path}: cannot be unpacked into {cache} ({error.strerror or error}); "
            "check both, make room, or choose another folder (cache_dir)"
        ) from error
    finally:
        if unfinished is not None:
            shutil.rmtree(unfinished, ignore_errors=True)


def _unpack(path: Path, target: Path) -> None:
    if path.name.lower().endswith(".zip"):
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                kind = stat.S_IFMT(entry.external_attr >> 16)
                _check(path, entry.filename, plain=kind in (0, stat.S_IFREG, stat.S_IFDIR))
            archive.extractall(target)
        return

    def checked(member: tarfile.TarInfo, place: str) -> tarfile.TarInfo | None:
        _check(path, member.name, plain=member.isreg() or member.isdir())
        return tarfile.data_filter(member, place)

    unzip = lzma.open if path.name.lower().endswith(".xz") else gzip.open
    with unzip(path) as stream, tarfile.open(fileobj=stream, mode="r:") as archive:
        archive.extractall(target, filter=checked)
        # The checksum comes last, after what the tar format takes for its end.
        while stream.read(1 << 20):
            pass


def _check(path: Path, name: str, *, plain: bool) -> None:
    """Refuses more than tarfile's data filter: any link, and what only Windows takes for a path elsewhere."""
    place = PurePosixPath(name)
    if not plain:
        reason = "is a link or device"
    elif place.is_absolute() or ".." in place.parts or any(letter in name for letter in "\\:\0"):
        reason = "points outside of it"
    else:
        return
    raise DataError(
        f"{path}: its member {name!r} {reason}; get the archive from its publisher, or unpack it by hand"
    )
