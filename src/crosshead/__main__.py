"""`crosshead`, and `python -m crosshead`: the command line, or the line that says what it lacks."""

import sys

from crosshead._extras import needs_extra


def main() -> None:
    """Runs the command line; exits with 1 and one line where its packages are not installed."""
    try:
        with needs_extra("train", "the command line"):
            from crosshead.cli.main import main as run
    except ImportError as error:
        sys.exit(f"error: {error}")
    run()


if __name__ == "__main__":
    main()
