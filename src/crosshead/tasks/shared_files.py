import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path


def shared_files(train: Sequence[Path], test: Sequence[Path]) -> Iterator[str]:
    """List the files of a held-out split that are in the training split too, by their content.

    Args:
        train: Files of the training split; all can be read.
        test: Files of the held-out split; all can be read.

    Yields:
        A line for each file that is in both.

    Example:
        >>> from tempfile import mkdtemp
        >>> root = Path(mkdtemp())
        >>> for name in "a", "b":
        ...     _ = (root / name).write_text("the same")
        >>> len(list(shared_files([root / "a"], [root / "b"])))
        1
    """
    seen = {_digest(path): path for path in train}
    for path in test:
        first = seen.get(_digest(path))
        if first == path:
            yield f"{path}: in both the training and the test split; take it out of one"
        elif first is not None:
            yield f"{path}: byte for byte the same as {first} of the training split; leave one of them out"


def _digest(path: Path) -> bytes:
    return hashlib.blake2b(path.read_bytes(), digest_size=16).digest()
