"""What the commands share when they speak to a terminal.

Class names, file names and messages of libraries come from anywhere. Whatever is shown passes here, once:
control characters become visible, and square brackets are text.
"""

import logging
import shutil
import sys
import textwrap
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from rich.console import Console
from rich.text import Text


def visible(text: str) -> str:
    """The text without anything that a terminal obeys; line breaks and tabs stay.

    Example:
        >>> visible("cat\\x1b[2J\\x07")
        'cat\\\\x1b[2J\\\\x07'
    """
    return "".join(
        character if character.isprintable() or character in "\n\t" else ascii(character)[1:-1]
        for character in text
    )


def wrapped(text: str, width: int) -> str:
    """A line between words, where a terminal would break it anywhere; what is longer, as a path, stays whole.

    Example:
        >>> wrapped("curves: runs/digits-1/curves.png", 16)
        'curves:\\nruns/digits-1/curves.png'
    """
    lines = (
        textwrap.wrap(line, width, break_long_words=False, break_on_hyphens=False, drop_whitespace=True)
        if len(line) > width
        else [line]
        for line in text.split("\n")
    )
    return "\n".join(part for parts in lines for part in parts)


class Terminal(Console):
    """rich's console for text that is not trusted: lines and cells of tables are shown as they are."""

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, highlight=False, emoji=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """Called by rich for each text that it shows."""
        return super().render_str(visible(text), **{**options, "markup": False, "emoji": False})

    def line(self, text: str | int = 1) -> None:
        """One line, however long; rich itself asks for a number of empty ones."""
        if isinstance(text, int):
            super().line(text)
        else:
            text = visible(text)
            self.print(wrapped(text, self.width) if self.is_terminal else text, soft_wrap=True)


class VisibleFormatter(logging.Formatter):
    """Log records without anything that a terminal obeys."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record."""
        return visible(super().format(record))


def say(*lines: str) -> None:
    """Prints lines, from one process of many."""
    from lightning.pytorch.utilities.rank_zero import rank_zero_only

    if rank_zero_only.rank == 0:
        for line in lines:
            print(shown(line, sys.stdout), flush=True)


def shown(line: str, file: TextIO) -> str:
    """A line as it is printed to a file: on a terminal broken between words, and whole elsewhere."""
    text = visible(line)
    return wrapped(text, shutil.get_terminal_size().columns) if file.isatty() else text


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps Lightning's advice and advertisements from people who did not choose Lightning."""
    from lightning.fabric.utilities.warnings import PossibleUserWarning

    # The warning about exchanged attention is for those who do not go on to train or load weights.
    levels = {"lightning.pytorch": "WARNING", "lightning.fabric": "WARNING", "crosshead.vision.swap": "ERROR"}
    before = {name: logging.getLogger(name).level for name in levels}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PossibleUserWarning)
        # A machine that is shared, or a container, has fewer cores than it seems to; the user has chosen.
        warnings.filterwarnings("ignore", message="This DataLoader will create")
        warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec.*")
        warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides.*")
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
        try:
            yield
        finally:
            for name, level in before.items():
                logging.getLogger(name).setLevel(level)
