"""Commands that one chooses from: the page that lists them, and what to say of a slip of the pen."""

import difflib
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from crosshead.cli.console import shown
from crosshead.cli.flags import description_of, form_of, paragraphs, parse, summary_of

# What is run with the rest of the command line, and the command as help names it.
Entry = Callable[[Sequence[str], str], object]


@dataclass(frozen=True, kw_only=True)
class Menu:
    """What the next word of a command line chooses from.

    Attributes:
        about: what the menu is for, in words.
        what: what is chosen, in the singular.
        groups: under each heading the names, and what each is in a line.
        entries: what each name runs.
        after: what the page ends with.
    """

    about: str
    what: str
    groups: Mapping[str, Mapping[str, str]]
    entries: Mapping[str, Entry]
    after: str = ""

    def __call__(self, arguments: Sequence[str], prog: str) -> None:
        """Runs what the first argument names; shows the page where help is asked for.

        Raises:
            SystemExit: with 2, if there is no such name, or none at all.
        """
        first = arguments[0] if arguments else None
        if first in ("-h", "--help"):
            print("\n\n".join(self.page(prog)))
        elif first is not None and first in self.entries:
            self.entries[first](arguments[1:], f"{prog} {first}")
        else:
            _refuse(first, prog, what=self.what, names=self.entries)

    def page(self, prog: str) -> Iterable[str]:
        """The paragraphs of the page."""
        yield paragraphs(self.about)
        yield f"usage: {prog} {self.what.upper()} [FLAGS]"
        column = max(map(len, self.entries)) + 4
        for heading, lines in self.groups.items():
            rows = (hanging(f"  {name}", line, column) for name, line in lines.items())
            yield "\n".join([*([f"{heading}:"] if heading else []), *rows])
        if self.after:
            yield paragraphs(self.after)


def hanging(name: str, text: str, column: int) -> str:
    """A name, and beside it a text that is wrapped to the terminal within its column."""
    wrapped = paragraphs(text, indent=" " * column)
    return f"{name:{column}}{wrapped[column:]}"


def menu_of(kinds: Mapping[str, type], run: Callable[[Any], object], *, about: str, what: str) -> Menu:
    """A menu of dataclasses of options.

    Args:
        kinds: the dataclasses by name.
        run: is given what the command line says.
        about: what the menu is for.
        what: what is chosen, in the singular.
    """

    def entry(kind: type) -> Entry:
        def call(arguments: Sequence[str], prog: str) -> object:
            form, made = form_of(kind)
            return run(made(parse(form, arguments, prog=prog, about=description_of(kind))))

        return call

    return Menu(
        about=about,
        what=what,
        groups={"": {name: summary_of(kind) for name, kind in kinds.items()}},
        entries={name: entry(kind) for name, kind in kinds.items()},
    )


def _refuse(word: str | None, prog: str, *, what: str, names: Iterable[str]) -> NoReturn:
    """Says in one line what was wrong with a word, and which one may have been meant."""
    names = list(names)
    listed = f"choose from {', '.join(names)}" if len(names) < 8 else f"`{prog} --help` lists them"
    if word is None or word.startswith("-"):
        found = "is missing" if word is None else f"must come before {word}"
        told = f"{prog}: a {what} {found}: {listed}"
    else:
        similar = difflib.get_close_matches(word, names, n=1, cutoff=0.5)
        told = f"{prog}: {word!r} is no {what}: {f'did you mean {similar[0]}?' if similar else listed}"
    print(shown(f"error: {told}", sys.stderr), file=sys.stderr)
    sys.exit(2)
