"""Whether a file computes what the net computes, and how fast."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from crosshead.export.program import check_sizes, draw_images, prepared
from crosshead.measure.timing import compare
from crosshead.runs.exported import ExportedNet
from crosshead.runs.folder import RunError
from crosshead.tasks.interface import Interface

# Images of each call; a graph is traced with two.
BATCHES = (1, 3)
# Two orders of the same sums round differently: one may err several times as much as the other.
FACTOR = 8
SECONDS, REPEATS = 1.0, 15


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How far the numbers of a file are from those of PyTorch.

    Attributes:
        shapes: of the inputs that were tried.
        largest_deviation: between the file and PyTorch in float32.
        largest_output: of PyTorch.
        rounding: how far PyTorch in float32 is from PyTorch in float64.
        bound: what float32 allows the file to be off from float64; None where the file rounds more.
    """

    shapes: tuple[tuple[int, ...], ...]
    largest_deviation: float
    largest_output: float
    rounding: float
    bound: float | None


def check(net: nn.Module, exported: ExportedNet, interface: Interface, *, exact: bool) -> Agreement:
    """Compares a file with its net, on batches and sizes that it was not traced with.

    Args:
        net: in float32 and evaluation mode.
        exported: the file, read back.
        interface: how both are called.
        exact: whether the file computes in float32, and has to agree as far as float32 allows: within
            8 times the error of PyTorch itself, and 8 units in the last place of the largest output.

    Raises:
        RunError: if shapes differ, the file gives numbers that are not finite, or it is further off.
    """
    wide = prepared(net).double()
    shapes, off, rounding, largest, error = [], 0.0, 0.0, 0.0, 0.0
    for number, (batch, size) in enumerate(zip(BATCHES, check_sizes(interface), strict=True)):
        images = draw_images(interface, batch, size, seed=1 + number)
        found = exported(*images)
        with torch.no_grad():
            expected: Tensor = getattr(net, interface.method)(*images)
            truth: Tensor = getattr(wide, interface.method)(*(image.double() for image in images))
        what = f"images of {size[0]} x {size[1]} pixels in a batch of {batch}"
        if found.shape != expected.shape:
            raise RunError(
                f"the file differs from the net: it gives {tuple(found.shape)} for {what}, and the net "
                f"{tuple(expected.shape)}; nothing is written"
            )
        if not found.isfinite().all():
            raise RunError(f"the file gives numbers that are not finite for {what}; nothing is written")
        shapes.append(tuple(images[0].shape))
        off = max(off, _distance(found, expected))
        error = max(error, _distance(found, truth))
        rounding = max(rounding, _distance(expected, truth))
        largest = max(largest, float(expected.abs().max()))
    bound = FACTOR * (rounding + torch.finfo(torch.float32).eps * largest) if exact else None
    if bound is not None and error > bound:
        raise RunError(
            f"the file differs from the net: its {interface.output} are off by {error:.1e}, and float32 "
            f"explains {bound:.1e}; nothing is written"
        )
    return Agreement(
        shapes=tuple(shapes),
        largest_deviation=off,
        largest_output=largest,
        rounding=rounding,
        bound=bound,
    )


def milliseconds(net: nn.Module, exported: ExportedNet, interface: Interface) -> dict[str, float]:
    """Median milliseconds of one image of the training's size, `pytorch` and `file`, timed in turns."""
    images = draw_images(interface, 1, interface.trained, seed=0)
    call: Any = getattr(net, interface.method)

    def pytorch() -> None:
        with torch.inference_mode():
            call(*images)

    runs = {"pytorch": pytorch, "file": lambda: exported(*images)}
    found = compare(runs, budget=SECONDS, repeats=REPEATS, device="cpu")
    return {name: 1000 * times["median_s"] for name, times in found.items()}


def _distance(found: Tensor, expected: Tensor) -> float:
    return float((found.double() - expected.double()).abs().max())
