"""The run folder: where everything lies, and JSON that is either complete or was not written."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crosshead.tasks.files import partial, write_atomically


class RunError(ValueError):
    """Something about a run that its user can mend; the message is one line and says how."""


@dataclass(frozen=True)
class RunFolder:
    """The layout of a run. Nothing is read or created by making one.

    Example:
        >>> RunFolder(Path("runs/digits-1")).weights.as_posix()
        'runs/digits-1/model/model.safetensors'
    """

    path: Path

    @property
    def recipe(self) -> Path:
        """Every choice, the classes, the normalisation, versions and hardware."""
        return self.path / "recipe.json"

    @property
    def metrics(self) -> Path:
        """One row for each finished epoch."""
        return self.path / "metrics.csv"

    @property
    def curves(self) -> Path:
        """Loss, scores and learning rate, drawn."""
        return self.path / "curves.png"

    @property
    def last(self) -> Path:
        """Everything that resuming needs, as of the last finished epoch."""
        return self.path / "checkpoints" / "last.ckpt"

    @property
    def best(self) -> Path:
        """The same, as of the epoch that did best on the validation set; there is none without such a set."""
        return self.path / "checkpoints" / "best.ckpt"

    @property
    def model(self) -> Path:
        """The weights of the last finished epoch. After `import crosshead.vision`, those of a classifier are
        read by `timm.create_model("local-dir:RUN/model", pretrained=True)`."""
        return self.path / "model"

    @property
    def weights(self) -> Path:
        """The weights in `model`."""
        return self.model / "model.safetensors"

    @property
    def config(self) -> Path:
        """The architecture in `model`."""
        return self.model / "config.json"

    @property
    def evaluation(self) -> Path:
        """The figures of the last evaluation."""
        return self.path / "evaluation.json"

    @property
    def predictions(self) -> Path:
        """Where predictions go that are not sent elsewhere."""
        return self.path / "predictions"

    @property
    def explained(self) -> Path:
        """Where pages go that show the inside of the net, and are not sent elsewhere."""
        return self.path / "explained"

    @property
    def lock(self) -> Path:
        """Held by the process that trains into the folder."""
        return self.path / ".lock"

    @property
    def is_empty(self) -> bool:
        """Whether the folder holds nothing, or only what a training left that was killed as it began."""
        return self.path.is_dir() and {path.name for path in self.path.iterdir()} <= {
            partial(self.recipe).name,
            self.lock.name,
        }

    def require_free(self) -> None:
        """Makes sure that a new run may be put here.

        Raises:
            RunError: if there is something already.
        """
        if self.path.exists() and not self.is_empty:
            raise RunError(
                f"{self.path} exists already: continue it by `crosshead resume {self.path}`, "
                "or name another folder with --out"
            )


def next_run(parent: Path, name: str) -> RunFolder:
    """The first of `parent/name-1`, `parent/name-2`, ... that is free."""
    number = 1
    while (parent / f"{name}-{number}").exists():
        number += 1
    return RunFolder(parent / f"{name}-{number}")


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Writes indented JSON atomically: see `json_text`."""
    write_atomically(path, (json_text(content) + "\n").encode())


def json_text(content: dict[str, Any]) -> str:
    """Indented JSON; numbers that are not finite, which JSON has no words for, as null.

    Example:
        >>> print(json_text({"loss": math.nan, "folder": Path("runs")}))
        {
          "loss": null,
          "folder": "runs"
        }
    """
    return json.dumps(_finite(content), indent=2, default=str, allow_nan=False)


def read_json(path: Path, *, remedy: str) -> dict[str, Any]:
    """Reads a JSON object.

    Raises:
        RunError: if there is none, or it is damaged; `remedy` ends the message.
    """
    # A pipe would be waited for, and nobody writes to it.
    if not path.is_file():
        raise RunError(f"{path} {'is not a file' if path.exists() else 'does not exist'}: {remedy}")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(f"{path} cannot be read ({error}): {remedy}") from None
    if not isinstance(content, dict):
        raise RunError(f"{path} does not hold a JSON object: {remedy}")
    return content


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
