"""Weights of finished and unfinished runs: into the same model, or into another one as a start."""

import dataclasses
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from crosshead.runs.checkpoints import read_checkpoint, require_same_tensors
from crosshead.runs.folder import RunError, RunFolder, read_json
from crosshead.runs.record import RunRecord, as_tuples, read_record
from crosshead.tasks.task import task_of


def load_run(run: RunFolder, *, best: bool = False) -> tuple[RunRecord, nn.Module]:
    """The record of a run and its model with its weights, in evaluation mode.

    Args:
        run: the run.
        best: take the epoch that did best on the validation set in place of the last one.

    Raises:
        RunError: if there is no run, it has no weights yet, or they are damaged or of another architecture.
    """
    record = read_record(run)
    if best:
        path = run.best
        if run.weights.exists() and not path.exists():
            raise RunError(
                f"{run.path} has no best epoch: it was trained without a validation set, leave --best out"
            )
        state = {
            name.removeprefix("model."): value for name, value in read_checkpoint(path)["state_dict"].items()
        }
    else:
        path = run.weights
        state = read_weights(run.path)
    recipe = dataclasses.replace(record.recipe, pretrained=False)
    model = task_of(recipe.task).build(recipe, record.meta)
    require_same_tensors(state, model.state_dict(), path=path, model=record.recipe.model)
    model.load_state_dict(state)
    return record, model.eval()


def to_device(model: nn.Module, accelerator: str) -> nn.Module:
    """The model on a device.

    Args:
        model: the model.
        accelerator: cpu, cuda, mps, or auto for cuda where there is one.

    Raises:
        RunError: if this machine has no such device.
    """
    if accelerator == "auto":
        accelerator = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return model.to(torch.device(accelerator))
    except (RuntimeError, AssertionError) as error:
        reason = " ".join(str(error).split())
        raise RunError(f"accelerator={accelerator} cannot be used: {reason}") from None


def weights_file(path: Path) -> Path:
    """The safetensors file of a run folder, of its model folder, or `path` itself.

    Raises:
        RunError: if there is none.
    """
    candidates = [RunFolder(path).weights, path / RunFolder(path).weights.name] if path.is_dir() else [path]
    file = next((candidate for candidate in candidates if candidate.is_file()), None)
    if file is not None:
        return file
    if RunFolder(path).recipe.is_file():
        raise RunError(f"{path} has no weights yet: let it finish an epoch by `crosshead resume {path}`")
    raise RunError(f"{path} holds no weights: name a run folder, its model folder or a safetensors file")


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a run folder, of its model folder, or of a safetensors file.

    Raises:
        RunError: if there are none, or the file is damaged.
    """
    file = weights_file(path)
    try:
        return load_file(file)
    except SafetensorError as error:
        raise RunError(
            f"{file} is damaged or no safetensors file ({error}): restore it from a copy"
        ) from None


def read_architecture(path: Path) -> tuple[str, dict[str, Any]] | None:
    """timm's name and the arguments of the model, or the backbone, that a run or a model folder holds.

    Returns:
        None where nothing beside the weights says so.

    Raises:
        RunError: if what is there cannot be read.
    """
    file = weights_file(path).with_name(RunFolder(path).config.name)
    if not file.is_file():
        return None
    config = read_json(file, remedy="restore it from a copy, or name the model with --model")
    architecture, arguments = config.get("architecture"), config.get("model_args") or {}
    if not isinstance(architecture, str) or not isinstance(arguments, dict):
        return None
    return architecture, as_tuples(arguments)


@dataclass(frozen=True, kw_only=True)
class StartReport:
    """What became of the weights that a training was to start from.

    Attributes:
        path: where they came from.
        matched: tensors taken over.
        missing: tensors of the model that the source lacks; they keep their fresh values.
        unexpected: tensors of the source that the model lacks.
        reshaped: tensors whose shapes differ, as `name: shape there, shape here`; they stay fresh as well.
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

    Backbones are found wherever they stand: a classifier's weights fit into the backbone of a detector, and
    those of a detector into the backbone of a segmentation.

    Args:
        model: the model, whose weights are changed.
        path: a run folder, its model folder or a safetensors file.

    Raises:
        RunError: if nothing fits.
    """
    source = {backbone_name(name): tensor for name, tensor in read_weights(path).items()}
    target = {backbone_name(name): (name, tensor) for name, tensor in model.state_dict().items()}
    common = source.keys() & target.keys()
    matched = {name for name in common if source[name].shape == target[name][1].shape}
    if not matched:
        raise RunError(f"{path} shares no tensor with the model: choose the --model that it holds")
    with torch.no_grad():
        model.load_state_dict({target[name][0]: source[name] for name in matched}, strict=False)
    return StartReport(
        path=str(path),
        matched=tuple(sorted(matched)),
        missing=tuple(sorted(target.keys() - source.keys())),
        unexpected=tuple(sorted(source.keys() - target.keys())),
        reshaped=tuple(
            f"{name}: {tuple(source[name].shape)} there, {tuple(target[name][1].shape)} here"
            for name in sorted(common - matched)
        ),
    )


# Where nets of other tasks keep a timm model.
_BACKBONES = ("net.encoder.model.", "encoder.model.", "backbone.body.", "backbone.")


def backbone_name(name: str) -> str:
    """The name that a tensor has in a classifier, where it is one of a backbone; otherwise its own.

    timm writes `stages_0` for `stages.0` where a model gives its features.

    Example:
        >>> backbone_name("backbone.body.stages_0.blocks.1.norm.weight"), backbone_name("decoder.weight")
        ('stages.0.blocks.1.norm.weight', 'decoder.weight')
    """
    prefix = next((prefix for prefix in _BACKBONES if name.startswith(prefix)), None)
    if prefix is None:
        return name
    return re.sub(r"^(\w+?)_(\d+)\.", r"\1.\2.", name.removeprefix(prefix))
