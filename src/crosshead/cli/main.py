"""The command line. Nothing here or in the commands' signatures imports torch: help answers at once."""

import errno
import logging
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any

from crosshead._extras import needs_extra
from crosshead._version import __version__
from crosshead.cli.bench import bench, bench_menu
from crosshead.cli.build import build
from crosshead.cli.console import VisibleFormatter, shown
from crosshead.cli.evaluate import evaluate
from crosshead.cli.explain import explain
from crosshead.cli.export import export
from crosshead.cli.flags import paragraphs, parse, summary_of
from crosshead.cli.info import info
from crosshead.cli.menu import Entry, Menu, hanging
from crosshead.cli.models import models
from crosshead.cli.predict import predict
from crosshead.cli.resume import resume
from crosshead.cli.rivals import rivals
from crosshead.cli.runs import runs
from crosshead.cli.signals import SIGNALS
from crosshead.cli.study import study, study_menu
from crosshead.cli.train import train, train_menu

ABOUT = "Interactive multi-head self-attention with linear complexity, and the iViT backbone."
COMMANDS: dict[str, Callable[..., object]] = {
    "train": train,
    "evaluate": evaluate,
    "predict": predict,
    "resume": resume,
    "explain": explain,
    "export": export,
    "runs": runs,
    "bench": bench,
    "study": study,
    "models": models,
    "rivals": rivals,
    "info": info,
    "build": build,
}
# Commands whose first argument chooses among requests; the arguments of the others are flags.
MENUS: dict[str, Callable[[Callable[[Any], object]], Menu]] = {
    "train": train_menu,
    "bench": bench_menu,
    "study": study_menu,
}
HEADINGS = {
    "Train and use": ("train", "evaluate", "predict", "explain", "export", "resume", "runs"),
    "Measure and compare": ("bench", "study", "models", "rivals"),
    "This machine": ("info", "build"),
}
BEGINNING = {
    "crosshead train digits": "train on real images that need no download: a minute on a CPU",
    "crosshead evaluate runs/digits-1": "measure what came out, on images that it never saw",
    "crosshead predict runs/digits-1 IMAGE": "say what it sees in your image",
    "crosshead runs": "list what was trained, with its scores",
    "crosshead train --help": "recipes for your own images: classes, objects, pixels, change",
}
AFTER = "`crosshead --help` lists all commands, and `crosshead COMMAND --help` the flags of one."
FLAGS = "Add --debug to any command to see where an error arose; --version tells the version."

EXPECTED = (ValueError, OSError, ImportError, NotImplementedError)


def main() -> None:
    """Runs one command and exits: 0 well, 1 with one line that says what was wrong, 2 for wrong usage.

    An interruption ends it with 130, and a request to end with 143.
    """
    arguments = sys.argv[1:]
    debug = "--debug" in arguments
    handler = logging.StreamHandler()
    handler.setFormatter(VisibleFormatter("%(levelname)s: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    try:
        with SIGNALS.watched(), needs_extra("train", "this command"):
            _run([argument for argument in arguments if argument != "--debug"])
            sys.stdout.flush()
    except BrokenPipeError:
        # The reader of the output has closed it; what is still buffered must not be written at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except BaseException as error:
        if debug:
            traceback.print_exc()
        if (code := SIGNALS.code(error)) is not None:
            sys.exit(code)
        if not isinstance(error, EXPECTED):
            raise
        print(shown(f"error: {one_line(error)}", sys.stderr), file=sys.stderr)
        sys.exit(1)


def _run(arguments: Sequence[str]) -> None:
    if not arguments:
        print("\n\n".join(_welcome()))
    elif list(arguments) == ["--version"]:
        print(f"crosshead {__version__}")
    else:
        _menu()(arguments, "crosshead")


def _menu() -> Menu:
    named = {name for names in HEADINGS.values() for name in names}
    headings = {**HEADINGS, "More": tuple(name for name in COMMANDS if name not in named)}
    return Menu(
        about=ABOUT,
        what="command",
        groups={
            heading: {name: summary_of(COMMANDS[name]) for name in names}
            for heading, names in headings.items()
            if names
        },
        entries={
            name: MENUS[name](command) if name in MENUS else _entry(command)
            for name, command in COMMANDS.items()
        },
        after=f"`crosshead COMMAND --help` shows the flags of one. {FLAGS}",
    )


def _entry(command: Callable[..., object]) -> Entry:
    return lambda arguments, prog: parse(command, arguments, prog=prog)


def _welcome() -> Sequence[str]:
    """What the program is, and how to begin."""
    column = max(map(len, BEGINNING)) + 4
    return (
        paragraphs(f"Crosshead {__version__}. {ABOUT}"),
        "\n".join(["To begin with:", *(hanging(f"  {do}", what, column) for do, what in BEGINNING.items())]),
        paragraphs(AFTER),
    )


def one_line(error: BaseException) -> str:
    """What went wrong and what to do about it."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        place = f" for {error.filename}" if error.filename else ""
        return f"the disk is full{place}: free some space, then `crosshead resume` the run; nothing is lost"
    return " ".join(str(error).split()) or type(error).__name__


if __name__ == "__main__":
    main()
