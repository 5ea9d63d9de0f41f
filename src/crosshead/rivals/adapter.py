"""What adapters of other libraries' layers share: finding the class, and its projections' biases."""

from importlib import import_module
from typing import Any

import torch
from torch import nn


def library_class(module: str, name: str, *, package: str) -> Any:
    """The class `name` of the module `module`, which is imported here and not before.

    Raises:
        ImportError: `package` is not installed.
    """
    try:
        return getattr(import_module(module), name)
    except ImportError as error:
        raise ImportError(f"{name} needs the package {package}: pip install 'crosshead[rivals]'") from error


def set_bias(layer: nn.Linear, *, wanted: bool) -> None:
    """Gives a projection a bias or takes it away, where its library leaves no choice.

    A bias that the library does not have is zero at first, so a fresh layer computes what the library's does.
    """
    if not wanted:
        layer.register_parameter("bias", None)
    elif layer.bias is None:
        layer.bias = nn.Parameter(torch.zeros_like(layer.weight[:, 0]))
