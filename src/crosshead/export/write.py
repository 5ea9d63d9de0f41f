"""From a run to a file that has been read back and compared before it takes its place."""

import dataclasses
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torch import nn

from crosshead._version import __version__
from crosshead.export import check
from crosshead.export.describe import describe
from crosshead.export.loss import Loss, calibration_batches, measure_loss
from crosshead.export.onnx_file import onnx_with, to_onnx
from crosshead.export.package import package_with, to_package
from crosshead.export.precision import to_float16, to_int8
from crosshead.export.program import trace
from crosshead.runs.exported import ENDINGS, FORMAT, read_exported
from crosshead.runs.folder import RunError, RunFolder, json_text, read_json, write_atomically, write_json
from crosshead.runs.load import load_run
from crosshead.runs.record import RunRecord
from crosshead.tasks.interface import Interface
from crosshead.tasks.task import task_of

Precision = Literal["float32", "float16", "int8"]
# A file of ONNX is one message of Protocol Buffers, which holds no more.
LARGEST = 2**31


@dataclass(frozen=True, kw_only=True)
class Exported:
    """A file that was written.

    Attributes:
        path: the file.
        task: of the run.
        described: the JSON beside it.
        interface: how it is called.
        agreement: with PyTorch.
        milliseconds: of one image, `pytorch` and `file`.
        loss: of metrics, where it was measured.
    """

    path: Path
    task: str
    described: Path
    interface: Interface
    agreement: check.Agreement
    milliseconds: dict[str, float]
    loss: Loss | None


def export_run(
    run: RunFolder,
    *,
    to: Path | None = None,
    best: bool = False,
    precision: Precision = "float32",
    evaluate: bool = True,
    data_dir: Path | None = None,
    tell: Callable[[str], None] = lambda what: None,
) -> Exported:
    """Writes the net of a run into a file that other programs run, and a JSON file beside it.

    Both are written once the file has been read back and compared with PyTorch; else nothing is.

    Args:
        run: the run.
        to: the file, which ends in .onnx or .pt2; by default model.onnx in the run folder.
        best: take the epoch that did best on the validation set in place of the last.
        precision: of weights and arithmetic; other than float32 in ONNX files alone.
        evaluate: whether a smaller precision is measured on the test set of the run.
        data_dir: where the data are now, if elsewhere than in training.
        tell: is told what is being done.

    Raises:
        RunError: if there is no such run, or the file does not agree with it.
        ValueError: if nets of its task cannot be exported.
        DataError: if a smaller precision needs data that are not as they should be.
    """
    to = run.path / "model.onnx" if to is None else to
    _require_ending(to, precision)
    described = _free_neighbour(to)
    record, net = load_run(run, best=best)
    _require_small(run, net)
    weights = "best" if best else "last"
    task = task_of(record.recipe.task)
    net = task.to_export(net)
    tell("tracing")
    interface = describe(record, net)
    _require_form(interface, to, precision)
    content = _made(record, net, interface, to, precision, data_dir=data_dir, tell=tell)
    metadata = {
        "format": FORMAT,
        "crosshead": __version__,
        "task": record.recipe.task,
        "weights": weights,
        "precision": precision,
        "net": interface.as_json(),
        "classes": list(record.meta.classes),
        "run": record.as_json(),
    }
    with tempfile.TemporaryDirectory() as folder:
        draft = Path(folder) / f"model{to.suffix.lower()}"
        draft.write_bytes(_with(content, metadata, to))
        _, read = read_exported(draft)
        tell("comparing with PyTorch")
        agreement = check.check(net, read, interface, exact=precision == "float32")
        milliseconds = check.milliseconds(net, read, interface)
        loss = None
        if precision != "float32" and evaluate:
            tell("measuring on the test set")
            loss = measure_loss(run, record, net, read, weights=weights, data_dir=data_dir)
    metadata |= {
        "check": dataclasses.asdict(agreement),
        "milliseconds": milliseconds,
        "evaluation": None if loss is None else loss.as_json(),
    }
    write_atomically(to, _with(content, metadata, to))
    write_json(described, metadata)
    return Exported(
        path=to,
        task=record.recipe.task,
        described=described,
        interface=interface,
        agreement=agreement,
        milliseconds=milliseconds,
        loss=loss,
    )


def _made(
    record: RunRecord,
    net: nn.Module,
    interface: Interface,
    to: Path,
    precision: Precision,
    *,
    data_dir: Path | None,
    tell: Callable[[str], None],
) -> bytes:
    """The file without metadata."""
    # What may be missing is found out before a minute of tracing.
    batches = (
        calibration_batches(record, data_dir=data_dir, inputs=len(interface.inputs))
        if precision == "int8"
        else []
    )
    program = trace(net, interface)
    if to.suffix.lower() == ".pt2":
        tell("compiling")
        return to_package(program)
    tell("translating into ONNX")
    content = to_onnx(program, interface)
    if precision == "float16":
        return to_float16(content)
    if precision == "int8":
        tell("quantising")
        return to_int8(content, interface, batches)
    return content


def _with(content: bytes, metadata: dict[str, Any], to: Path) -> bytes:
    add = package_with if to.suffix.lower() == ".pt2" else onnx_with
    return add(content, json_text(metadata))


def _require_ending(to: Path, precision: Precision) -> None:
    ending = to.suffix.lower()
    if ending not in ENDINGS:
        raise RunError(f"{to} must end in .onnx, which ONNX Runtime runs, or in .pt2, which PyTorch runs")
    if to.is_dir():
        raise RunError(f"{to} is a folder: name a file with --to")
    if ending == ".pt2" and precision != "float32":
        raise RunError(f"precision {precision} has no form in a pt2 package: name an .onnx file with --to")


def _require_form(interface: Interface, to: Path, precision: Precision) -> None:
    if interface.objects is not None and (to.suffix.lower() != ".onnx" or precision != "float32"):
        raise RunError(
            f"{to} cannot be written: a detector is exported as an ONNX file in float32 alone; name an .onnx "
            "file with --to, and leave --precision out"
        )


def _free_neighbour(to: Path) -> Path:
    """The JSON file beside, which must not be anybody else's."""
    path = to.with_suffix(".json")
    if path.exists():
        ours = False
        if path.is_file():
            try:
                ours = "format" in read_json(path, remedy="")
            except RunError:
                ours = False
        if not ours:
            raise RunError(
                f"{path} is there already and was not written by an export: name another file with --to"
            )
    return path


def _require_small(run: RunFolder, net: nn.Module) -> None:
    size = sum(each.numel() * each.element_size() for each in [*net.parameters(), *net.buffers()])
    if size >= LARGEST:
        raise RunError(
            f"{run.path} has {size / 1e9:.1f} GB of weights, and an exported file holds 2.1 GB at most: "
            "use the run itself by `crosshead predict`, or train a smaller model"
        )
