"""Numbers of a page: rounded to 8 or 16 bits, packed, and written as text."""

import base64
import zlib
from typing import Any

import torch
from torch import Tensor

LARGEST = {torch.int8: 127, torch.int16: 32767}


class Numbers:
    """Takes arrays one by one and writes them all as one text.

    Example:
        >>> numbers = Numbers()
        >>> numbers.add(torch.tensor([[1.0, -0.5]]))
        {'at': 0, 'shape': [1, 2], 'bits': 16, 'scale': [3.051851e-05]}
        >>> zlib.decompress(base64.b64decode(numbers.text())).hex()
        'ff7f00c0'
    """

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.length = 0

    def add(self, values: Tensor, *, dtype: torch.dtype = torch.int16) -> dict[str, Any]:
        """Keeps an array, each item of its first axis with a scale of its own.

        Args:
            values: of one axis or more.
            dtype: int16, for errors of at most 1.6e-5 of the largest number of the item; or int8, for 0.4 %.

        Returns:
            Where it lies, and how it is read: number times scale.
        """
        values = values.detach().cpu().double()
        largest = values.abs().flatten(1).amax(1) if values.numel() else values.new_zeros(len(values))
        scale = (largest / LARGEST[dtype]).clamp(min=torch.finfo(torch.float32).tiny)
        rounded = (values / scale.reshape(-1, *[1] * (values.ndim - 1))).round().to(dtype)
        content = rounded.contiguous().numpy().astype(f"<i{dtype.itemsize}").tobytes()
        # Views of 16 bits must begin at even places.
        content += b"\0" * (len(content) % 2)
        place = self.length
        self.parts.append(content)
        self.length += len(content)
        return {
            "at": place,
            "shape": list(values.shape),
            "bits": 8 * dtype.itemsize,
            "scale": [float(f"{each:.7g}") for each in scale.tolist()],
        }

    def text(self) -> str:
        """All arrays, deflated, in base 64."""
        return base64.b64encode(zlib.compress(b"".join(self.parts), 9)).decode()
