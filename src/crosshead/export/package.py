"""pt2 packages: a graph compiled ahead of time by AOTInductor for the processor at hand."""

import io
import tempfile
import zipfile
from pathlib import Path

import torch
from torch.export import ExportedProgram

from crosshead.export.program import silent
from crosshead.runs.exported import ENTRY
from crosshead.runs.folder import RunError


def to_package(program: ExportedProgram) -> bytes:
    """The package of a graph.

    Raises:
        RunError: if there is no C++ compiler, or AOTInductor does not compile the graph.
    """
    from torch._inductor import aoti_compile_and_package

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.pt2"
        try:
            with torch.no_grad(), silent():
                aoti_compile_and_package(program, package_path=str(path))
        except Exception as error:
            # A compiler of any kind may have failed.
            reason = " ".join(str(error).split())[:300]
            raise RunError(
                f"AOTInductor does not compile the net ({reason}): it needs a C++ compiler; an ONNX file "
                "needs none"
            ) from error
        return path.read_bytes()


def package_with(content: bytes, text: str) -> bytes:
    """The package with these metadata, where anything that reads zip archives finds them."""
    file = io.BytesIO(content)
    with zipfile.ZipFile(file, "a") as archive:
        folder = archive.namelist()[0].partition("/")[0]
        archive.writestr(f"{folder}/{ENTRY}", text)
    return file.getvalue()
