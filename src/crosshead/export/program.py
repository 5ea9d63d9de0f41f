"""The one graph that every file is made of: the net in plain operators, for images of any number and size."""

import copy
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from crosshead.runs.folder import RunError
from crosshead.tasks.interface import Interface, Pair

# Smaller images would meet borders of the maps that others do not.
SMALLEST_TRACED = 64


def trace(net: nn.Module, interface: Interface) -> ExportedProgram:
    """The graph of a net, for any batch and, where the net allows it, any height and width.

    Args:
        net: in evaluation mode; it is not changed.
        interface: how it is called.

    Raises:
        RunError: if torch.export does not follow the net.
    """
    batch = 1 if interface.objects is not None else 2
    free = () if interface.fixed else (2, 3)
    sides = dict.fromkeys((0, *free) if batch > 1 else free, Dim.DYNAMIC)
    inputs = draw_inputs(interface, batch, traced_size(interface), seed=0)
    shapes = tuple(sides if value.ndim else {} for value in inputs)
    called = Called(prepared(net), interface.method).eval()
    try:
        with torch.no_grad(), silent():
            # `called` has one argument, a list of inputs.
            return torch.export.export(called, tuple(inputs), dynamic_shapes=(shapes,))
    except Exception as error:
        # Whatever a model does that a tracer does not follow.
        reason = " ".join(str(error).split())[:300]
        raise RunError(f"the net cannot be traced by torch.export: {reason}") from error


class Called(nn.Module):
    """A net, called by one of its methods.

    Args:
        net: the net.
        method: the name of the method.
    """

    def __init__(self, net: nn.Module, method: str) -> None:
        super().__init__()
        self.net, self.method = net, method

    def forward(self, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        """What the method gives."""
        return getattr(self.net, self.method)(*inputs)


class AdaptivePool(nn.Module):
    """`nn.AdaptiveAvgPool2d` as two products of matrices, which follow sizes that a graph does not know yet.

    Args:
        rows: of the result.
        columns: of the result.

    Example:
        >>> x = torch.randn(1, 2, 7, 10)
        >>> torch.testing.assert_close(AdaptivePool(3, 6)(x), nn.AdaptiveAvgPool2d((3, 6))(x))
    """

    def __init__(self, rows: int, columns: int) -> None:
        super().__init__()
        self.rows, self.columns = rows, columns

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, X, Y) maps to (B, C, rows, columns)."""
        return self._shares(x, -2, self.rows) @ x @ self._shares(x, -1, self.columns).T

    def _shares(self, x: Tensor, axis: int, cells: int) -> Tensor:
        """The weight of each place of an axis in each cell, (cells, places); cells share places."""
        length = x.shape[axis]
        cell = torch.arange(cells, device=x.device)[:, None]
        place = torch.arange(length, device=x.device)
        first, end = cell * length // cells, ((cell + 1) * length + cells - 1) // cells
        return ((place >= first) & (place < end)).to(x.dtype) / (end - first).to(x.dtype)


def prepared(net: nn.Module) -> nn.Module:
    """A copy of a net with the same results and nothing that a graph cannot hold.

    Attention takes the equations, blocks keep their activations, and adaptive pooling becomes products.
    """
    net = copy.deepcopy(net)
    for name, module in list(net.named_modules()):
        part: Any = module
        if getattr(part, "impl", None) in ("fused", "streamed"):
            part.impl = "reference"
        if getattr(part, "grad_checkpointing", False) is True:
            part.grad_checkpointing = False
        if isinstance(module, nn.AdaptiveAvgPool2d):
            size: Any = module.output_size
            rows, columns = size if isinstance(size, tuple) else (size, size)
            # Means over everything are plain already.
            if name and None not in (rows, columns) and (rows, columns) != (1, 1):
                net.set_submodule(name, AdaptivePool(rows, columns))
    return net


def traced_size(interface: Interface) -> Pair:
    """The size that a graph is traced with: none that it is checked or trained with, where sizes are free.

    Example:
        >>> from crosshead.tasks.interface import NetInput
        >>> image = NetInput(name="images", channels=1, scale=255, mean=(0.5,), std=(0.2,))
        >>> free = Interface(
        ...     inputs=(image,), output="logits", axes=("batch", "class"), method="forward",
        ...     trained=(28, 28), multiple=(4, 4)
        ... )
        >>> traced_size(free), check_sizes(free)
        ((80, 96), [(28, 28), (32, 44)])
    """
    if interface.fixed:
        return interface.trained
    sides = (max(side, SMALLEST_TRACED) for side in interface.trained)
    return _scaled(tuple(sides), (1.25, 1.5), interface.multiple)


def check_sizes(interface: Interface) -> list[Pair]:
    """The sizes that a file is checked with: that of the training, and where sizes are free an oblong one."""
    if interface.fixed:
        return [interface.trained, interface.trained]
    return [interface.trained, _scaled(interface.trained, (1.2, 1.6), interface.multiple)]


def draw_inputs(
    interface: Interface, batch: int, size: Pair, *, seed: int, min_score: float | None = None
) -> list[Tensor]:
    """Random inputs of a net, as standardised images are spread: mean 0, deviation 1.

    Args:
        interface: of the net.
        batch: how many images.
        size: height and width of each.
        seed: of the images.
        min_score: of a net that finds objects; by default that of the run.
    """
    generator = torch.Generator().manual_seed(seed)
    images = [torch.randn(batch, given.channels, *size, generator=generator) for given in interface.inputs]
    if interface.objects is None:
        return images
    return [*images, torch.tensor(interface.objects.min_score if min_score is None else min_score)]


def outputs_of(net: nn.Module, interface: Interface, inputs: Sequence[Tensor]) -> list[Tensor]:
    """All that a net gives, in the precision of its weights."""
    precision = next(net.parameters()).dtype
    with torch.no_grad():
        found = getattr(net, interface.method)(*(value.to(precision) for value in inputs))
    return [found] if isinstance(found, Tensor) else list(found)


@contextmanager
def silent() -> Iterator[None]:
    """Keeps to themselves what tools say of their insides while they work."""
    loggers = [logging.getLogger(name) for name in ("torch", "onnxscript", "onnx_ir", "onnxruntime", "")]
    before = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, before, strict=True):
                logger.setLevel(level)


def _scaled(size: tuple[int, ...], factors: tuple[float, float], multiple: Pair) -> Pair:
    height, width = (
        max(1, round(side * factor / step)) * step
        for side, factor, step in zip(size, factors, multiple, strict=True)
    )
    return height, width
