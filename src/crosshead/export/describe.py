"""How the net of each task is called, found from what it knows about its data and by trying it."""

import dataclasses
import math
from collections.abc import Callable
from functools import singledispatch
from typing import Any

import torch
from torch import nn

from crosshead.runs.folder import RunError
from crosshead.runs.interface import Interface, NetInput, Pair
from crosshead.runs.record import RunRecord
from crosshead.tasks.change.data import ChangeMeta
from crosshead.tasks.classify.data import ClassifyMeta
from crosshead.tasks.detect.data import DetectMeta
from crosshead.tasks.linearize.data import LinearizeMeta
from crosshead.tasks.segment.data import SegmentMeta
from crosshead.tasks.task import Meta

# Images of 8 bits a channel.
PIXEL = 255.0


def describe(record: RunRecord, net: nn.Module) -> Interface:
    """How the net of a run is called, and which sizes it takes.

    Raises:
        RunError: if nets of this task cannot be exported.
    """
    interface = called(record.meta, record.recipe, net)
    multiple = accepted_multiple(net, interface)
    return dataclasses.replace(interface, multiple=multiple or (1, 1), fixed=multiple is None)


@singledispatch
def called(meta: Meta, recipe: Any, net: nn.Module) -> Interface:
    """How a net is called, whatever sizes it takes.

    Args:
        meta: of its run; its class decides.
        recipe: of its run.
        net: itself.

    Raises:
        RunError: if such nets cannot be exported.
    """
    raise RunError(f"nets of the task {recipe.task} have no exported form: use the run itself")


@called.register
def _(meta: ClassifyMeta, recipe: Any, net: nn.Module) -> Interface:
    return Interface(
        inputs=(_pixels("images", meta),),
        output="logits",
        axes=("batch", "class"),
        method="forward",
        trained=(meta.image_size, meta.image_size),
        shorter_side=math.floor(meta.image_size / recipe.crop_fraction),
    )


@called.register
def _(meta: SegmentMeta, recipe: Any, net: nn.Module) -> Interface:
    return Interface(
        inputs=(_pixels("images", meta),),
        output="scores",
        axes=("batch", "class", "height", "width"),
        method="forward",
        trained=(recipe.crop, recipe.crop),
    )


@called.register
def _(meta: ChangeMeta, recipe: Any, net: nn.Module) -> Interface:
    before = NetInput(name="before", channels=meta.in_chans, scale=1.0, mean=meta.mean, std=meta.std)
    after = dataclasses.replace(before, name="after", mean=meta.after_mean, std=meta.after_std)
    return Interface(
        inputs=(before, after),
        output="scores",
        axes=("batch", "class", "height", "width"),
        method="forward",
        trained=(recipe.crop, recipe.crop),
    )


@called.register
def _(meta: LinearizeMeta, recipe: Any, net: nn.Module) -> Interface:
    prefix: Any = net.num_prefix_tokens
    return Interface(
        inputs=(_pixels("images", meta),),
        output="tokens",
        axes=("batch", "token", "channel"),
        method="forward_features",
        trained=(meta.image_size, meta.image_size),
        prefix_tokens=prefix,
    )


@called.register
def _(meta: DetectMeta, recipe: Any, net: nn.Module) -> Interface:
    raise RunError(
        f"{recipe.detector} cannot be exported: torchvision's batched_nms takes its way by how many boxes it "
        "finds, which torch.export does not follow; use the run itself by `crosshead predict`"
    )


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
    images = [torch.zeros(1, given.channels, *size) for given in interface.inputs]
    try:
        with torch.no_grad():
            getattr(net, interface.method)(*images)
    except Exception:
        # A thousand models refuse sizes with every kind of exception.
        return False
    return True


def _divisors(side: int) -> list[int]:
    return [step for step in range(1, side + 1) if side % step == 0]


def _pixels(name: str, meta: Meta) -> NetInput:
    return NetInput(name=name, channels=meta.in_chans, scale=PIXEL, mean=meta.mean, std=meta.std)
