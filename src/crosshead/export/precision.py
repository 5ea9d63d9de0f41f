"""Smaller files: float16, and int8 calibrated on training images."""

import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from crosshead.export.program import silent
from crosshead.tasks.interface import Interface

QUANTISED = ["Conv", "Gemm", "MatMul"]
# What comes out of these stays float32: rounding it costs accuracy. A convolution needs it to run in int8.
WIDE_OUTPUTS = ["Gemm", "MatMul"]


def to_float16(content: bytes) -> bytes:
    """The file with weights and arithmetic in float16; inputs and outputs stay float32."""
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16

    with silent():
        model = convert_float_to_float16(onnx.load_from_string(content), keep_io_types=True)
    return model.SerializeToString()


def to_int8(content: bytes, interface: Interface, batches: Iterable[list[np.ndarray]]) -> bytes:
    """The file with int8 weights, by channel, and int8 activations whose ranges are those of some images.

    Products of activations with each other, which attention has, stay in float32.

    Args:
        content: the float32 file.
        interface: how it is called.
        batches: the inputs of each call that ranges are taken from.
    """
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.calls = iter(batches)

        def get_next(self) -> Any:
            images = next(self.calls, None)
            if images is None:
                return None
            return {given.name: image for given, image in zip(interface.inputs, images, strict=True)}

    with tempfile.TemporaryDirectory() as folder, silent():
        given, ready, made = (Path(folder) / name for name in ("given.onnx", "ready.onnx", "made.onnx"))
        given.write_bytes(content)
        quant_pre_process(str(given), str(ready), skip_symbolic_shape=True)
        quantize_static(
            str(ready),
            str(made),
            Reader(),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=QUANTISED,
            per_channel=True,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=_products_of_activations(onnx.load(ready)),
            extra_options={"OpTypesToExcludeOutputQuantization": WIDE_OUTPUTS},
        )
        return made.read_bytes()


def _products_of_activations(model: Any) -> list[str]:
    constant = {weights.name for weights in model.graph.initializer}
    return [
        node.name
        for node in model.graph.node
        if node.op_type == "MatMul" and not constant.intersection(node.input)
    ]
