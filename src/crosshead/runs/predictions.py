"""Predictions on disk: a picture, maps and a JSON file for each input."""

import json
from pathlib import Path

from crosshead.runs.folder import write_atomically
from crosshead.tasks.task import Prediction


def write_prediction(folder: Path, prediction: Prediction) -> list[Path]:
    """Writes the files of a prediction; what another input of the same name left there is kept.

    Args:
        folder: where to; made where it is missing.
        prediction: what to write.

    Returns:
        The files, the JSON file last.
    """
    content = (json.dumps(prediction.content, indent=2) + "\n").encode()
    files = {**prediction.files, ".json": content}
    stem, number = prediction.name, 1
    while any((folder / f"{stem}{end}").exists() for end in files) and not _same_input(
        folder / f"{stem}.json", prediction
    ):
        number += 1
        stem = f"{prediction.name}-{number}"
    written = [folder / f"{stem}{end}" for end in files]
    for path, data in zip(written, files.values(), strict=True):
        write_atomically(path, data)
    return written


def _same_input(path: Path, prediction: Prediction) -> bool:
    """Whether a JSON file is of the very same image, and may therefore be replaced."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))["image"] == prediction.content["image"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
