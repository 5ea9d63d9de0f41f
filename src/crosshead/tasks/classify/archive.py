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
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from crosshead.tasks.task import DataError

SUFFIXES = (".tar.xz", ".tar.gz", ".tgz", ".zip")


def extract_archive(path: Path, *, cache_dir: str | Path | None = None) -> Path:
    """Unpack an archive of data into a cache folder, once.

    The folder is named after the archive and its checksum, so an archive that has changed is unpacked anew.
    It appears whole or not at all, however the process ends.

    Args:
        path: The archive: .tar.xz, .tar.gz, .tgz or .zip.
        cache_dir: Where to unpack; by default crosshead/ in $XDG_CACHE_HOME, or in ~/.cache where that is not
            set.

    Returns:
        The folder with the content.

    Raises:
        DataError: When the archive is missing, damaged, or holds anything but files and folders inside of it
            (links, devices, paths with ".."); when the cache folder cannot be written.

    Example:
        >>> root = Path(tempfile.mkdtemp())
        >>> with zipfile.ZipFile(root / "set.zip", "w") as file:
        ...     file.writestr("train/cat/note.txt", "a cat")
        >>> folder = extract_archive(root / "set.zip", cache_dir=root / "cache")
        >>> (folder / "train" / "cat" / "note.txt").read_text()
        'a cat'
    """
    cache = _cache_folder() if cache_dir is None else Path(cache_dir).expanduser()
    unfinished = None
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()[:16]
        target = cache / f"{path.name.partition('.')[0]}-{digest}"
        if target.is_dir():
            return target
        cache.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(prefix=".unpacking-", dir=cache))
        for name, content in _members(path):
            place = unfinished / _inside(path, name)
            place.parent.mkdir(parents=True, exist_ok=True)
            with content, place.open("wb") as copy:
                shutil.copyfileobj(content, copy)
        # Another process may have been quicker: its folder holds the same.
        if not target.is_dir():
            unfinished.rename(target)
        return target
    except (
        *(tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, lzma.LZMAError, zlib.error),
        *(EOFError, RuntimeError),
    ) as error:
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


def _cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "crosshead"


def _members(path: Path) -> Iterator[tuple[str, IO[bytes]]]:
    """The files of an archive, in its own order: compressed tar files can only be read forwards."""
    if path.name.lower().endswith(".zip"):
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                kind = stat.S_IFMT(member.external_attr >> 16)
                if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                    raise _refused(path, member.filename, "is a link or device")
                if not member.is_dir():
                    yield member.filename, archive.open(member)
    else:
        unzip = lzma.open if path.name.lower().endswith(".xz") else gzip.open
        with unzip(path) as stream, tarfile.open(fileobj=stream, mode="r:") as archive:
            for member in archive:
                if not member.isreg() and not member.isdir():
                    raise _refused(path, member.name, "is a link or device")
                content = archive.extractfile(member)
                if content is not None:
                    yield member.name, content
            # The checksum comes last, after what the tar format takes for its end.
            while stream.read(1 << 20):
                pass


def _inside(path: Path, name: str) -> PurePosixPath:
    place = PurePosixPath(name)
    # Backslashes and drive letters are paths elsewhere.
    if place.is_absolute() or ".." in place.parts or any(letter in name for letter in "\\:\0"):
        raise _refused(path, name, "points outside of it")
    return place


def _refused(path: Path, name: str, reason: str) -> DataError:
    return DataError(
        f"{path}: its member {name!r} {reason}; get the archive from its publisher, or unpack it by hand"
    )
