"""ONNX files: made of a graph, named in plain words, and told what they are."""

import re
from typing import Any

import torch
from torch.export import ExportedProgram

from crosshead.export.program import silent
from crosshead.runs.exported import KEY
from crosshead.runs.folder import RunError
from crosshead.tasks.interface import Interface

MISSING = "ONNX files need onnx, onnxscript and onnxruntime: pip install 'crosshead[export]'"


def to_onnx(program: ExportedProgram, interface: Interface) -> bytes:
    """The file of a graph.

    Raises:
        RunError: if a package is missing, or an operator has no form in ONNX.
    """
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError:
        raise RunError(MISSING) from None
    try:
        with torch.no_grad(), silent():
            made = torch.onnx.export(
                program,
                (),
                dynamo=True,
                input_names=interface.input_names,
                output_names=interface.output_names,
                verbose=False,
            )
    except Exception as error:
        # The exporter wraps whatever happens in exceptions of its own.
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        reason = " ".join(str(cause).split())[:300]
        raise RunError(f"the net has no form in ONNX: {reason}") from error
    assert made is not None
    model: Any = made.model_proto
    _name_axes(model.graph, interface)
    _forget_where_it_was_made(model)
    return model.SerializeToString()


def onnx_with(content: bytes, text: str) -> bytes:
    """The file with these metadata."""
    import onnx

    model = onnx.load_from_string(content)
    onnx.helper.set_model_props(model, {KEY: text})
    return model.SerializeToString()


def _name_axes(graph: Any, interface: Interface) -> None:
    """Calls free sides by what they are, wherever the graph says them."""
    names = {}
    for axis, name in ((0, "batch"), (2, "height"), (3, "width")):
        symbol = graph.input[0].type.tensor_type.shape.dim[axis].dim_param
        if symbol:
            names[symbol] = name
    for value in [*graph.input, *graph.output, *graph.value_info]:
        for side in value.type.tensor_type.shape.dim:
            if side.dim_param:
                side.dim_param = re.sub(r"\w+", lambda word: names.get(word[0], word[0]), side.dim_param)


def _forget_where_it_was_made(model: Any) -> None:
    """Drops the lines of source code that made each node: they name folders, and outweigh small nets."""
    del model.metadata_props[:], model.graph.metadata_props[:]
    for part in [*model.graph.node, *model.graph.value_info, *model.graph.input, *model.graph.output]:
        del part.metadata_props[:]
    for part in model.graph.initializer:
        del part.metadata_props[:]
    for function in model.functions:
        del function.metadata_props[:]
        for node in function.node:
            del node.metadata_props[:]
