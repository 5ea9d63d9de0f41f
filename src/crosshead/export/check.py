"""Whether a file computes what the net computes, and how fast."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from crosshead.export.objects import require_shared, shared
from crosshead.export.program import check_sizes, draw_inputs, outputs_of, prepared
from crosshead.measure.timing import compare
from crosshead.runs.exported import ExportedNet
from crosshead.runs.folder import RunError
from crosshead.tasks.interface import Interface, Pair

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

    Objects are compared with those of the same class at the same place. Of all that the net finds in noise,
    the file may lack 5 % more than PyTorch in float32 does; and where none is sure enough, both find nothing.

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
    names = interface.output_names
    shapes, off, rounding, largest, error = [], *([0.0] * len(names) for _ in range(4))
    for turn, (batch, size, min_score) in enumerate(_calls(interface)):
        inputs = draw_inputs(interface, batch, size, seed=1 + turn, min_score=min_score)
        what = f"images of {size[0]} x {size[1]} pixels in a batch of {batch}"
        found = exported.outputs(*inputs)
        expected, truth = (outputs_of(each, interface, inputs) for each in (net, wide))
        if not all(output.isfinite().all() for output in found):
            raise RunError(f"the file gives numbers that are not finite for {what}; nothing is written")
        if interface.objects is not None:
            require_shared(found, expected, truth, what)
            found, expected, truth = shared(found, expected, truth)
        shapes.append(tuple(inputs[0].shape))
        for number, (mine, theirs, true) in enumerate(zip(found, expected, truth, strict=True)):
            if mine.shape != theirs.shape:
                raise RunError(
                    f"the file differs from the net: it gives {tuple(mine.shape)} for {what}, and the net "
                    f"{tuple(theirs.shape)}; nothing is written"
                )
            off[number] = max(off[number], _distance(mine, theirs))
            error[number] = max(error[number], _distance(mine, true))
            rounding[number] = max(rounding[number], _distance(theirs, true))
            largest[number] = max(largest[number], _distance(theirs, torch.zeros_like(theirs)))
    eps = torch.finfo(torch.float32).eps
    bounds = [FACTOR * (own + eps * most) for own, most in zip(rounding, largest, strict=True)]
    for name, mine, bound in zip(names, error, bounds, strict=True):
        if exact and mine > bound:
            raise RunError(
                f"the file differs from the net: its {name} are off by {mine:.1e}, and float32 explains "
                f"{bound:.1e}; nothing is written"
            )
    return Agreement(
        shapes=tuple(shapes),
        largest_deviation=off[0],
        largest_output=largest[0],
        rounding=rounding[0],
        bound=bounds[0] if exact else None,
    )


def _calls(interface: Interface) -> list[tuple[int, Pair, float | None]]:
    """Batch, size and, of a net that finds objects, `min_score` of each call that is compared."""
    sizes = check_sizes(interface)
    if interface.objects is None:
        return [(batch, size, None) for batch, size in zip(BATCHES, sizes, strict=True)]
    return [*((1, size, 0.0) for size in sizes), (1, sizes[0], 1.0)]


def milliseconds(net: nn.Module, exported: ExportedNet, interface: Interface) -> dict[str, float]:
    """Median milliseconds of one image of the training's size, `pytorch` and `file`, timed in turns."""
    inputs = draw_inputs(interface, 1, interface.trained, seed=0)
    call: Any = getattr(net, interface.method)

    def pytorch() -> None:
        with torch.inference_mode():
            call(*inputs)

    runs = {"pytorch": pytorch, "file": lambda: exported(*inputs)}
    found = compare(runs, budget=SECONDS, repeats=REPEATS, device="cpu")
    return {name: 1000 * times["median_s"] for name, times in found.items()}


def _distance(found: Tensor, expected: Tensor) -> float:
    return float((found.double() - expected.double()).abs().max()) if found.numel() else 0.0
