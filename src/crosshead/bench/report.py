"""Writing what was measured: tables that say at their head where they come from, each whole or not at all."""

import csv
import dataclasses
import io
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from crosshead.bench.operands import COTANGENT_SEED, INPUT_SEED, WEIGHT_SEED
from crosshead.measure.stamp import stamp
from crosshead.runs.folder import next_run, write_atomically


def free_folder(output: Path | None, name: str) -> Path:
    """The folder to write to: the one that was asked for, or the next free bench/NAME-NUMBER.

    Raises:
        ValueError: If there is something in it already.
    """
    if output is None:
        return next_run(Path("bench"), name).path
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise ValueError(f"{output} exists already: name another folder with --output")
    return output


def head_lines(arguments: Sequence[str], setting: str, **further: str) -> list[str]:
    """What a number needs beside it to be believed.

    Args:
        arguments: the command line after `crosshead`.
        setting: sizes, dtype, device.
        **further: more lines, by name.
    """
    found = stamp()
    machine, versions = found["hardware"], found["versions"]
    accelerators = ", ".join(machine["accelerators"])
    return [
        f"command: crosshead {shlex.join(arguments)}",
        f"date: {found['created']}",
        f"hardware: {machine['processor']}, {machine['cores']} cores"
        + (f", {accelerators}" if accelerators else ""),
        "versions: " + ", ".join(f"{name} {version}" for name, version in versions.items() if version),
        f"setting: {setting}, threads {machine['threads']}",
        f"seeds: inputs {INPUT_SEED}, cotangents {COTANGENT_SEED}, weights {WEIGHT_SEED}",
        *(f"{name}: {text}" for name, text in further.items()),
    ]


def write_table(path: Path, rows: Sequence[Any], head: Sequence[str]) -> None:
    """Writes dataclasses or dictionaries as CSV below head lines that start with `#`; nothing for no rows."""
    lines = [row if isinstance(row, Mapping) else dataclasses.asdict(row) for row in rows]
    if not lines:
        return
    text = io.StringIO(newline="")
    text.writelines(f"# {line}\n" for line in head)
    writer = csv.DictWriter(text, list(lines[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    write_atomically(path, text.getvalue().encode())
