"""The page that shows the inside of the trained model in the package, as a picture for the docs.

    python benchmarks/inside.py DIR

DIR holds Fashion-MNIST. Explains the first test image, opens the page in chromium, and writes
benchmarks/results/inside_page.png.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image

import crosshead
from crosshead.explain.write import write_explanation
from crosshead.tasks.classify.data import load_fashion_mnist

RESULT = Path(__file__).parent / "results/inside_page.png"
WIDTH, HEIGHT = 1240, 1250
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def main(folder: Path) -> None:
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        raise SystemExit("no chromium is installed")
    items: Any = load_fashion_mnist(folder).test
    model = crosshead.load("swapped_vit.fashion_mnist", accelerator="cpu")
    with tempfile.TemporaryDirectory() as place:
        image = Path(place) / "ankle boot.png"
        items[0][0].save(image)
        (page,) = write_explanation(model, image, Path(place), with_sheets=False)
        flags = ["--headless", "--disable-gpu", "--no-sandbox", f"--user-data-dir={place}/profile"]
        flags += ["--hide-scrollbars", f"--window-size={WIDTH},{HEIGHT}", "--virtual-time-budget=8000"]
        shot = Path(place) / "page.png"
        command = [browser, *flags, f"--screenshot={shot}", page.as_uri()]
        subprocess.run(command, check=True, capture_output=True)
        Image.open(shot).convert("P", palette=Image.Palette.ADAPTIVE, colors=200).save(RESULT, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
