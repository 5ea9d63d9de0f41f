"""Writes that are either complete or did not happen."""

import os
from pathlib import Path


def partial(path: Path) -> Path:
    """Where `write_atomically` writes the content of `path` first; a later write takes the same place."""
    return path.with_name(f".{path.name}.partial")


def write_atomically(path: Path, content: bytes) -> None:
    """Writes a neighbouring file, then puts it in the place of `path` in one step.

    Killed at any moment, `path` holds the old content or the new, never a part.

    Args:
        path: the file; its folder is made where it is missing.
        content: what it is to hold.

    Raises:
        OSError: if the folder or the file cannot be written; the old content is still there then.

    Example:
        >>> from tempfile import mkdtemp
        >>> path = Path(mkdtemp(), "new", "note.txt")
        >>> write_atomically(path, b"hello")
        >>> path.read_text(), [each.name for each in path.parent.iterdir()]
        ('hello', ['note.txt'])
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = partial(path)
    try:
        with beside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
