"""The command line. Nothing here or in the commands' signatures imports torch: help answers at once."""

import errno
import logging
import os
import sys
import traceback
from collections.abc import Callable

import tyro

from crosshead._version import __version__
from crosshead.cli.arguments import REGISTRY
from crosshead.cli.bench import bench
from crosshead.cli.build import build
from crosshead.cli.console import VisibleFormatter, visible
from crosshead.cli.evaluate import evaluate
from crosshead.cli.export import export
from crosshead.cli.info import info
from crosshead.cli.models import models
from crosshead.cli.predict import predict
from crosshead.cli.resume import resume
from crosshead.cli.rivals import rivals
from crosshead.cli.study import study
from crosshead.cli.train import train

COMMANDS: dict[str, Callable[..., object]] = {
    "train": train,
    "evaluate": evaluate,
    "predict": predict,
    "resume": resume,
    "export": export,
    "bench": bench,
    "study": study,
    "models": models,
    "rivals": rivals,
    "info": info,
    "build": build,
}
DESCRIPTION = """Interactive multi-head self-attention with linear complexity, and the iViT backbone.

Add --debug to any command to see where an error arose; --version tells the version."""

EXPECTED = (ValueError, OSError, ImportError, NotImplementedError)


def main() -> None:
    """Runs one command and exits: 0 well, 1 with one line that says what was wrong, 2 for wrong usage."""
    arguments = sys.argv[1:]
    if arguments == ["--version"]:
        print(f"crosshead {__version__}")
        return
    debug = "--debug" in arguments
    handler = logging.StreamHandler()
    handler.setFormatter(VisibleFormatter("%(levelname)s: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    try:
        tyro.extras.subcommand_cli_from_dict(
            COMMANDS,
            prog="crosshead",
            description=DESCRIPTION,
            args=[argument for argument in arguments if argument != "--debug"],
            registry=REGISTRY,
            config=(tyro.conf.AvoidSubcommands, tyro.conf.OmitArgPrefixes),
        )
        sys.stdout.flush()
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        # The reader of the output has closed it; what is still buffered must not be written at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except EXPECTED as error:
        if debug:
            traceback.print_exc()
        print(f"error: {visible(one_line(error))}", file=sys.stderr)
        sys.exit(1)


def one_line(error: BaseException) -> str:
    """What went wrong and what to do about it."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        place = f" for {error.filename}" if error.filename else ""
        return f"the disk is full{place}: free some space, then `crosshead resume` the run; nothing is lost"
    return " ".join(str(error).split()) or type(error).__name__


if __name__ == "__main__":
    main()
