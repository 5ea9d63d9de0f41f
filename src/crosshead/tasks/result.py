"""What a net makes of one input: a typed value that can be looked at, told as JSON, and saved."""

import io
import json
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from crosshead.tasks.files import write_atomically


@dataclass(frozen=True, kw_only=True)
class Result(ABC):
    """What a net makes of one input. Each task adds what it has found.

    Attributes:
        name: stem of the files that `save` writes.
        source: the file that it was made of, or a name for what came from memory.
    """

    name: str
    source: str

    @property
    @abstractmethod
    def summary(self) -> str:
        """The result in a line."""

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """The result as numbers, texts and lists, as `to_json` writes them; `image` is the source."""

    @abstractmethod
    def rows(self) -> list[dict[str, Any]]:
        """The result as rows of a table, one for each thing found; `image` is the source."""

    @abstractmethod
    def plot(self) -> Image.Image:
        """A picture to look at, RGB."""

    def maps(self) -> dict[str, Image.Image]:
        """What is exact in pixels and no picture, by the ending of its file name, such as `.labels.png`."""
        return {}

    def to_json(self) -> str:
        """The result as a JSON object, indented."""
        return json.dumps(self.to_dict(), indent=2)

    def save(self, folder: str | Path) -> list[Path]:
        """Writes the picture, the maps and a JSON file; what another input of the same name left is kept.

        Args:
            folder: where to; made where it is missing.

        Returns:
            The files, the JSON file last. Each is written whole or not at all.

        Raises:
            OSError: if a file cannot be written.
        """
        images = {".png": self.plot(), **self.maps()}
        files = {end: png(image) for end, image in images.items()} | {
            ".json": (self.to_json() + "\n").encode()
        }
        folder, stem, number = Path(folder), self.name, 1
        while any((folder / f"{stem}{end}").exists() for end in files) and not self._is_of(
            folder / f"{stem}.json"
        ):
            number += 1
            stem = f"{self.name}-{number}"
        written = [folder / f"{stem}{end}" for end in files]
        for path, content in zip(written, files.values(), strict=True):
            write_atomically(path, content)
        return written

    def _is_of(self, path: Path) -> bool:
        """Whether a JSON file is of the very same input, and may therefore be replaced."""
        try:
            return json.loads(path.read_text(encoding="utf-8"))["image"] == self.source
        except (OSError, ValueError, KeyError, TypeError):
            return False


@dataclass(frozen=True, kw_only=True)
class PixelResult(Result):
    """A class for each pixel of one input."""

    @property
    @abstractmethod
    def fractions(self) -> dict[str, float]:
        """The fraction of the pixels that each class has."""

    def rows(self) -> list[dict[str, Any]]:
        """A row for each class: `image`, `class`, `fraction`."""
        return [
            {"image": self.source, "class": name, "fraction": fraction}
            for name, fraction in self.fractions.items()
        ]


def png(image: Image.Image) -> bytes:
    """An image as a PNG file."""
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()
