"""Exported files, read back as nets: ONNX files by ONNX Runtime, pt2 packages by AOTInductor."""

import json
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from crosshead.runs.folder import RunError
from crosshead.runs.record import RunRecord, record_of
from crosshead.tasks.interface import Interface

# Raised where the metadata change in a way that older readers would misread.
FORMAT = 1
# The name of the metadata in an ONNX file.
KEY = "crosshead"
# And their place in a pt2 package, below its one folder.
ENTRY = "extra/crosshead.json"
# Where torch has put the model, likewise.
COMPILED = "data/aotinductor/"
ENDINGS = (".onnx", ".pt2")
LARGEST_METADATA = 2**26
REMEDY = "export the run again by `crosshead export`"

Run = Callable[[Sequence[Tensor]], list[Tensor]]


class ExportedNet(nn.Module):
    """An exported net, called as the net of the run that it was made of. It runs on the CPU.

    Args:
        run: from the inputs to the outputs, on the CPU.
        interface: what goes in and what comes out.
        metadata: everything that the file says of itself.

    Attributes:
        num_prefix_tokens: of a ViT, how many tokens come before those of the patches.
    """

    def __init__(self, run: Run, *, interface: Interface, metadata: dict[str, Any]) -> None:
        super().__init__()
        self.run, self.interface, self.metadata = run, interface, metadata
        self.num_prefix_tokens = interface.prefix_tokens
        # Whoever calls a net asks its parameters for the device.
        self.place = nn.Parameter(torch.empty(0), requires_grad=False)

    def forward(self, *images: Tensor) -> Tensor:
        """What the net of the run gives, on the device of the images.

        Raises:
            RunError: if there are more or fewer images than inputs, one has another shape, or the file
                does not run with them.
        """
        return self.outputs(*images)[0]

    def outputs(self, *inputs: Tensor) -> list[Tensor]:
        """All that comes out, on the device of the first input.

        Raises:
            RunError: as `forward` does.
        """
        names = self.interface.input_names
        if len(inputs) != len(names):
            raise RunError(f"the net takes {len(names)} inputs, {', '.join(names)}; got {len(inputs)}")
        images = inputs[: len(self.interface.inputs)]
        for number, given in enumerate(images):
            if (reason := self.interface.refusal(tuple(given.shape), number)) is not None:
                raise RunError(reason)
        try:
            with torch.no_grad():
                found = self.run([given.detach().float().cpu().contiguous() for given in inputs])
        except Exception as error:
            # What a runtime makes of an operator or a size that it does not know is not documented.
            shapes = ", ".join(str(tuple(given.shape)) for given in images)
            raise RunError(f"the file does not run with {shapes} ({_first_line(error)}): {REMEDY}") from None
        return [output.to(images[0].device) for output in found]

    def forward_features(self, images: Tensor) -> Tensor:
        """Normalised tokens (B, N, C) of images (B, C, H, W), where it is tokens that the net gives.

        Raises:
            RunError: if it gives something else.
        """
        if self.interface.output != "tokens":
            raise RunError(f"the net gives {self.interface.output}, not tokens: call it")
        return self(images)


def is_exported(path: Path) -> bool:
    """Whether a path has one of the endings of exported files.

    Example:
        >>> is_exported(Path("model.onnx")), is_exported(Path("runs/digits-1"))
        (True, False)
    """
    return path.suffix.lower() in ENDINGS


def read_exported(path: Path) -> tuple[RunRecord, ExportedNet]:
    """The record of the run that a file was made of, and its net in evaluation mode.

    Nothing is unpickled. An ONNX file is data; a pt2 package is a compiled program, which loading runs: load
    those alone that come from somebody you trust.

    Args:
        path: a file that `crosshead export` wrote.

    Raises:
        RunError: if there is no such file, it is damaged, of a newer format or not ours, or what runs it is
            not installed or does not run it.
    """
    ending = path.suffix.lower()
    if ending not in ENDINGS:
        raise RunError(
            f"{path} must end in {' or '.join(ENDINGS)}: name a file that `crosshead export` wrote"
        )
    if not path.is_file():
        raise RunError(f"{path} {'is not a file' if path.exists() else 'does not exist'}: {REMEDY}")
    if ending == ".onnx":
        session = open_session(path)
        text = session.get_modelmeta().custom_metadata_map.get(KEY)
        names = [given.name for given in session.get_inputs()]
        record, interface, metadata = _understood(path, text, names)
        run = _run_of_session(session, names)
    else:
        record, interface, metadata = _understood(path, _entry_of_package(path), None)
        run = _run_of_package(path)
    return record, ExportedNet(run, interface=interface, metadata=metadata).eval()


def open_session(model: Path | bytes) -> Any:
    """ONNX Runtime's session over a file or its content, on the CPU, with as many threads as torch has.

    Raises:
        RunError: if ONNX Runtime is not installed, or refuses the file.
    """
    try:
        import onnxruntime
    except ImportError:
        raise RunError("ONNX files need onnxruntime: pip install 'crosshead[export]'") from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 4  # what it has to say of an error is in the exception
    content = str(model) if isinstance(model, Path) else model
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        # Its exceptions have no common class but this one.
        place = model if isinstance(model, Path) else "the model"
        raise RunError(f"{place} is damaged, or no ONNX file ({_first_line(error)}): {REMEDY}") from None


def _run_of_session(session: Any, names: list[str]) -> Run:
    def run(inputs: Sequence[Tensor]) -> list[Tensor]:
        given = {name: value.numpy() for name, value in zip(names, inputs, strict=True)}
        return [torch.from_numpy(output) for output in session.run(None, given)]

    return run


def _run_of_package(path: Path) -> Run:
    from torch._inductor import aoti_load_package

    try:
        compiled: Any = aoti_load_package(str(path))
    except Exception as error:
        # A compiler of any kind may have failed, or the processor be another.
        reason = _first_line(error)
        raise RunError(
            f"{path} cannot be loaded ({reason}): a package is made for one kind of processor and one "
            "version of torch; export the run again on this machine"
        ) from None
    return lambda images: [compiled(*images)]


def _entry_of_package(path: Path) -> str | None:
    try:
        with zipfile.ZipFile(path) as archive:
            inside = {name.partition("/")[2]: name for name in archive.namelist()}
            if ENTRY not in inside or archive.getinfo(inside[ENTRY]).file_size > LARGEST_METADATA:
                return None
            # torch 2.11 dies of a package without a model.
            if not any(name.startswith(COMPILED) for name in inside):
                raise ValueError("it holds no model")
            return archive.read(inside[ENTRY]).decode()
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise RunError(f"{path} is damaged, or no pt2 package ({error}): {REMEDY}") from None


def _understood(
    path: Path, text: str | None, names: list[str] | None
) -> tuple[RunRecord, Interface, dict[str, Any]]:
    """What the metadata say."""
    if not text:
        raise RunError(f"{path} was not written by `crosshead export`, and says nothing of its run: {REMEDY}")
    try:
        metadata = json.loads(text)
        version = metadata["format"]
        if not isinstance(version, int):
            raise TypeError(f"its format is {version!r}")
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise RunError(f"{path} has damaged metadata ({error}): {REMEDY}") from None
    if version > FORMAT:
        raise RunError(
            f"{path} is of format {version}, and this Crosshead reads up to {FORMAT}: update Crosshead by "
            "pip install --upgrade 'crosshead[export]'"
        )
    try:
        interface = Interface.of_json(json.dumps(metadata["net"]))
        record = record_of(metadata["run"], place=path)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        if isinstance(error, RunError):
            raise
        raise RunError(f"{path} has damaged metadata ({_first_line(error)}): {REMEDY}") from None
    if names is not None and names != interface.input_names:
        raise RunError(f"{path} has the inputs {', '.join(names)}, and its metadata others: {REMEDY}")
    return record, interface, metadata


def _first_line(error: Exception) -> str:
    lines = str(error).splitlines()
    return lines[0].strip() if lines else type(error).__name__
