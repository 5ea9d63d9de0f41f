"""Arrays that are costly to make, kept in a file from one process to the next."""

import contextlib
import hashlib
import json
import os
import re
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from crosshead.tasks.task import DataError


def cached_arrays(
    make: Callable[[], dict[str, np.ndarray]],
    *,
    cache_dir: str | Path | None,
    name: str,
    parameters: Mapping[str, Any],
    names: Sequence[str],
) -> dict[str, np.ndarray]:
    """Arrays that are costly to make: read from the .npz file that holds them, else made and kept.

    The file is named after `name` and a checksum of `parameters`. It appears whole or not at all, however the
    process ends.

    Args:
        make: gives the arrays; a function of `parameters` alone.
        cache_dir: where the file lies; without one, the arrays are made and nothing is kept.
        name: what the arrays are, for the reader of the folder: letters, digits, "-".
        parameters: everything the arrays depend on, as JSON can write it.
        names: the names of the arrays.

    Returns:
        The arrays by their names.

    Raises:
        ValueError: if `name` has other characters.
        DataError: if the file is damaged, or cannot be read or written.

    Example:
        >>> import tempfile
        >>> folder = tempfile.mkdtemp()
        >>> keep = {"cache_dir": folder, "name": "set", "parameters": {"count": 3}, "names": ["squares"]}
        >>> made = cached_arrays(lambda: {"squares": np.arange(3) ** 2}, **keep)
        >>> cached_arrays(lambda: {}, **keep)["squares"]
        array([0, 1, 4])
    """
    if not re.fullmatch(r"[A-Za-z0-9-]+", name):
        raise ValueError(f"name is {name!r}; give one of letters, digits and '-'")
    if cache_dir is None:
        return make()
    key = json.dumps(parameters, sort_keys=True)
    path = Path(cache_dir).expanduser() / f"{name}-{hashlib.sha256(key.encode()).hexdigest()[:16]}.npz"
    if not path.exists():
        arrays = make()
        _write(path, arrays)
        return arrays
    return _read(path, names)


def _read(path: Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    try:
        with path.open("rb") as file, np.lib.npyio.NpzFile(file, allow_pickle=False) as content:
            return {name: content[name] for name in names}
    except (ValueError, EOFError, KeyError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(
            f"{path}: damaged cache of generated data ({error}); delete it, and it is made again"
        ) from error
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror or error}); delete it or choose another cache_dir"
        ) from error


def _write(path: Path, arrays: dict[str, np.ndarray]) -> None:
    # Two processes that make the same file do not write into each other's.
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            np.savez_compressed(file, **arrays)  # pyright: ignore[reportArgumentType]
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        raise DataError(
            f"{path}: cannot be written ({error.strerror or error}); make room or choose another cache_dir"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
