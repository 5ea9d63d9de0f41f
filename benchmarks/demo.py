"""Crosshead at work in about a minute: trains on digits, evaluates, predicts one image, shows the pictures.

Run by `make demo`. It prints each command before it runs it, so that they can be typed again.
"""

import shutil
import subprocess
import sys
import time
from pathlib import Path

from crosshead.tasks.classify.data import load_digits

RUN = Path("runs/demo")


def crosshead(*arguments: str | Path) -> None:
    """Prints a command and runs it; ends the demo where it fails."""
    words = [str(argument) for argument in arguments]
    print(f"\n$ {' '.join(['crosshead', *words])}", flush=True)
    status = subprocess.run([sys.executable, "-m", "crosshead.cli.main", *words], check=False).returncode
    if status:
        sys.exit(status)


def main() -> None:
    started = time.perf_counter()
    shutil.rmtree(RUN, ignore_errors=True)
    crosshead("train", "digits", "--out", RUN)
    crosshead("evaluate", RUN)
    image, label = load_digits().test[0]
    picture = RUN / f"a-{label}.png"
    image.save(picture)
    crosshead("predict", RUN, picture, "--top", "3")
    print(f"\nDone in {time.perf_counter() - started:.0f} seconds. Look at")
    print(f"  {RUN / 'curves.png'}     how the training went")
    print(f"  {RUN / 'confusion.png'}  which digits are taken for which")
    print(f"  {picture}        the image whose digit was asked for")
    print("and go on with `crosshead --help` in .venv/bin.")


if __name__ == "__main__":
    main()
