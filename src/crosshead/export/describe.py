"""How the net of a run is called: as its task says, and at the sizes that it turns out to take."""

import dataclasses
from collections.abc import Callable

import torch
from torch import nn

from crosshead.export.program import draw_inputs
from crosshead.runs.record import RunRecord
from crosshead.tasks.interface import Interface, Pair
from crosshead.tasks.task import task_of


def describe(record: RunRecord, net: nn.Module) -> Interface:
    """How the net of a run is called, and which sizes it takes.

    Args:
        record: of the run.
        net: what of its net a file holds.

    Raises:
        ValueError: if nets of its task cannot be exported.
    """
    interface = task_of(record.recipe.task).interface(record.recipe, record.meta, net)
    multiple = accepted_multiple(net, interface)
    return dataclasses.replace(interface, multiple=multiple or (1, 1), fixed=multiple is None)


def accepted_multiple(net: nn.Module, interface: Interface) -> Pair | None:
    """What heights and widths have to be multiples of; None where the net takes the trained size alone.

    Found by trying: a patch divides the size of the training.
    """
    height, width = interface.trained
    rows = _first(_divisors(height), lambda step: _takes(net, interface, (height + step, width)))
    columns = _first(_divisors(width), lambda step: _takes(net, interface, (height, width + step)))
    return None if rows is None or columns is None else (rows, columns)


def _first(steps: list[int], fits: Callable[[int], bool]) -> int | None:
    return next((step for step in steps if fits(step)), None)


def _takes(net: nn.Module, interface: Interface, size: Pair) -> bool:
    try:
        with torch.no_grad():
            getattr(net, interface.method)(*draw_inputs(interface, 1, size, seed=0))
    except Exception:
        # A thousand models refuse sizes with every kind of exception.
        return False
    return True


def _divisors(side: int) -> list[int]:
    return [step for step in range(1, side + 1) if side % step == 0]
