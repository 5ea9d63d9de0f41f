"""Weights of finished and unfinished runs: into the same model, or into another one as a start."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from crosshead.runs.checkpoints import read_checkpoint, require_same_tensors
from crosshead.runs.folder import RunError, RunFolder
from crosshead.runs.model import build_model
from crosshead.runs.record import RunRecord, read_record


def load_run(run: RunFolder, *, best: bool = False) -> tuple[RunRecord, nn.Module]:
    """The record of a run and its model with its weights, in evaluation mode.

    Args:
        run: The run.
        best: Take the epoch with the best test accuracy in place of the last one.

    Raises:
        RunError: If there is no run, it has no weights yet, or they are damaged or of another architecture.
    """
    record = read_record(run)
    if best:
        path = run.best
        state = {
            name.removeprefix("model."): value for name, value in read_checkpoint(path)["state_dict"].items()
        }
    else:
        path = run.weights
        state = read_weights(run.path)
    model = build_model(dataclasses.replace(record.recipe, pretrained=False), record.images)
    require_same_tensors(state, model.state_dict(), path=path, model=record.recipe.model)
    model.load_state_dict(state)
    return record, model.eval()


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a run folder, of its model folder, or of a safetensors file.

    Raises:
        RunError: If there are none, or the file is damaged.
    """
    candidates = [RunFolder(path).weights, path / RunFolder(path).weights.name] if path.is_dir() else [path]
    file = next((candidate for candidate in candidates if candidate.is_file()), None)
    if file is None:
        if RunFolder(path).recipe.is_file():
            raise RunError(f"{path} has no weights yet: let it finish an epoch by `crosshead resume {path}`")
        raise RunError(f"{path} holds no weights: name a run folder, its model folder or a safetensors file")
    try:
        return load_file(file)
    except SafetensorError as error:
        raise RunError(
            f"{file} is damaged or no safetensors file ({error}): restore it from a copy"
        ) from None


@dataclass(frozen=True, kw_only=True)
class StartReport:
    """What became of the weights that a training was to start from.

    Attributes:
        path: Where they came from.
        matched: Tensors taken over.
        missing: Tensors of the model that the source lacks; they keep their fresh values.
        unexpected: Tensors of the source that the model lacks.
        reshaped: Tensors whose shapes differ, as `name: shape there, shape here`; they stay fresh as well.
    """

    path: str
    matched: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    reshaped: tuple[str, ...]

    def lines(self) -> list[str]:
        """The report in words.

        Example:
            >>> StartReport(path="a", matched=("w",), missing=(), unexpected=("c", "b"), reshaped=()).lines()
            ['started from a: 1 tensor matched', '2 unexpected: b, c']
        """
        count = len(self.matched)
        lines = [f"started from {self.path}: {count} tensor{'s' if count != 1 else ''} matched"]
        for what, names in (
            ("missing there, initialised afresh", self.missing),
            ("of another shape, initialised afresh", self.reshaped),
            ("unexpected", self.unexpected),
        ):
            if names:
                shown = ", ".join(sorted(names)[:6]) + (", ..." if len(names) > 6 else "")
                lines.append(f"{len(names)} {what}: {shown}")
        return lines


def start_from(model: nn.Module, path: Path) -> StartReport:
    """Takes over whatever fits by name and shape, and says what did not.

    Args:
        model: The model, whose weights are changed.
        path: A run folder, its model folder or a safetensors file.

    Raises:
        RunError: If nothing fits.
    """
    source, target = read_weights(path), model.state_dict()
    common = source.keys() & target.keys()
    matched = {name for name in common if source[name].shape == target[name].shape}
    if not matched:
        raise RunError(f"{path} shares no tensor with the model: choose the --model that it holds")
    with torch.no_grad():
        model.load_state_dict({name: source[name] for name in matched}, strict=False)
    return StartReport(
        path=str(path),
        matched=tuple(sorted(matched)),
        missing=tuple(sorted(target.keys() - source.keys())),
        unexpected=tuple(sorted(source.keys() - target.keys())),
        reshaped=tuple(
            f"{name}: {tuple(source[name].shape)} there, {tuple(target[name].shape)} here"
            for name in sorted(common - matched)
        ),
    )
