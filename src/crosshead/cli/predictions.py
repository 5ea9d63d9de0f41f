"""What predictions leave behind: lines on the terminal, files for each input, and tables of all of them."""

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from rich.table import Table

from crosshead.cli.console import Terminal
from crosshead.cli.progress import Bar
from crosshead.runs.trained import TrainedModel
from crosshead.tasks.files import write_atomically
from crosshead.tasks.result import Result
from crosshead.tasks.sources import NamedImage, find_sources
from crosshead.tasks.task import DataError
from crosshead.tasks.video import frame_rate, write_frames

# Of so many images each one's files are named, and its classes have a table.
FEW = 4


class Report:
    """Takes results one by one, shows and writes them.

    Args:
        model: whose results they are.
        out: folder of pictures and JSON files; None for none.
        tables: where tables of all results go: `csv`, `jsonl` and `coco`, each a file or None.
        as_json: print one JSON list at the end in place of lines.
    """

    def __init__(
        self, model: TrainedModel, *, out: Path | None, tables: dict[str, Path | None], as_json: bool
    ) -> None:
        self.model, self.out, self.as_json = model, out, as_json
        self.tables = {name: path for name, path in tables.items() if path is not None}
        self.terminal = Terminal()
        self.contents: list[dict[str, Any]] = []
        self.rows: list[dict[str, Any]] = []
        self.results: list[Result] = []

    def add(self, result: Result, *, few: bool) -> None:
        """Shows one result and writes its files.

        Args:
            result: of an image or a pair.
            few: whether there is room to say more than a line.
        """
        self._keep(result)
        written = [] if self.out is None else result.save(self.out)
        if self.as_json:
            return
        if few and not written:
            self._rank(result)
            return
        self.terminal.line(f"{result.source}: {result.summary}")
        for path in written if few else []:
            self.terminal.line(f"  {path}")

    def add_video(self, path: Path, results: Iterable[Result]) -> None:
        """Shows the results of a video's frames, and writes them as a video where files are asked for."""
        frames = 0

        def pictures() -> Iterator[Image.Image]:
            nonlocal frames
            size: tuple[int, int] | None = None
            for result in results:
                self._keep(result)
                frames += 1
                if self.out is not None:
                    picture = result.plot()
                    size = size or picture.size
                    # A legend may have a row more or less than that of the first frame.
                    yield picture.crop((0, 0, *size))

        if self.out is None:
            for _ in pictures():
                pass
        else:
            write_frames(self.out / f"{path.stem}.mp4", pictures(), rate=frame_rate(path))
        if not self.as_json:
            self.terminal.line(f"{path}: {frames} frames")
            if self.out is not None:
                self.terminal.line(f"  {self.out / path.stem}.mp4")

    def finish(self, *, few: bool) -> None:
        """Writes the tables of all results and says where everything is."""
        contents = {
            "csv": lambda: _csv(self.rows),
            "jsonl": lambda: "".join(f"{json.dumps(content)}\n" for content in self.contents),
            "coco": lambda: json.dumps(self.model.to_coco(self.results)) + "\n",
        }
        for name, path in self.tables.items():
            write_atomically(path, contents[name]().encode())
        if self.as_json:
            print(json.dumps(self.contents, indent=2))
            return
        if self.out is not None and not few:
            self.terminal.line(f"pictures and JSON files: {self.out}")
        for path in self.tables.values():
            self.terminal.line(f"written: {path}")

    def _keep(self, result: Result) -> None:
        """Of what is asked for alone: there may be a million."""
        if self.as_json or "jsonl" in self.tables:
            self.contents.append(result.to_dict())
        if "csv" in self.tables:
            self.rows += result.rows()
        if "coco" in self.tables:
            self.results.append(result)

    def _rank(self, result: Result) -> None:
        table = Table(title=result.source, title_justify="left")
        table.add_column("rank", justify="right")
        table.add_column("class")
        table.add_column("probability", justify="right")
        for row in result.rows():
            table.add_row(str(row["rank"]), row["class"], f"{row['probability']:.2%}")
        self.terminal.print(table)


def predict_files(
    paths: Sequence[Path],
    report: Report,
    *,
    options: dict[str, Any],
    skip: Callable[[DataError], object],
) -> None:
    """Gives files, folders, patterns and videos to a net, and the results to a report.

    Args:
        paths: as on the command line.
        report: takes the results.
        options: of `TrainedModel.predict_each`.
        skip: is told of what cannot be read.
    """
    model = report.model
    images: list[Any] = []
    videos: list[tuple[Path, Iterator[NamedImage]]] = []
    sources: Sequence[Any] = [tuple(paths)] if model.pairs else paths
    for source in sources:
        try:
            found = find_sources(source) if isinstance(source, Path) else source
        except DataError as error:
            skip(error)
            continue
        if isinstance(found, list):
            images += found
        elif isinstance(found, Iterator):
            videos.append((Path(source), found))
        else:
            images.append(found)
    few = len(images) <= FEW
    with Bar() as bar:
        for number, result in enumerate(model.predict_each(images, skip=skip, **options), 1):
            report.add(result, few=few)
            if not few:
                bar.show("predicting", done=number, total=len(images))
        for path, frames in videos:
            results = _counted(model.predict_each(frames, **options), bar, path.name)
            try:
                report.add_video(path, results)
            except DataError as error:
                skip(error)
    report.finish(few=few)


def _counted(results: Iterable[Result], bar: Bar, name: str) -> Iterator[Result]:
    for number, result in enumerate(results, 1):
        bar.show(name, facts=[f"frame {number:,}"])
        yield result


def _csv(rows: list[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
