"""What is said where a package is missing that an extra of the installation brings."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def needs_extra(extra: str, what: str) -> Iterator[None]:
    """Names the extra to install where an import fails because a package is not there.

    Args:
        extra: the extra that brings the package.
        what: what needs it, in words.

    Raises:
        ImportError: if a package is not installed.

    Example:
        >>> with needs_extra("train", "the example"):
        ...     import no_such_package
        Traceback (most recent call last):
            ...
        ImportError: the example needs no_such_package, which is not installed: pip install 'crosshead[train]'
    """
    try:
        yield
    except ModuleNotFoundError as error:
        # Libraries raise it too, in words of their own and without a name.
        package = (error.name or "").partition(".")[0]
        if package in ("", "crosshead"):
            raise
        raise ImportError(
            f"{what} needs {package}, which is not installed: pip install 'crosshead[{extra}]'"
        ) from error
