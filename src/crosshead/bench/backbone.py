"""`crosshead bench backbone`: the measurements. The command line prints them, and `report` writes them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import groupby
from typing import Any

import timm
import torch
from torch import nn

from crosshead.bench.checks import WrongResult
from crosshead.bench.group import Entry, Forecast, Measurement, Tell, measure_group, tell_steps
from crosshead.bench.options import INPUT_SEED, WEIGHT_SEED, BackboneOptions
from crosshead.measure.memory import MemoryProcesses, measure_on_cuda, supported
from crosshead.measure.workload import Workload, classifier_workload
from crosshead.vision import Footprint, footprint

PROBE_PIXELS, CLASSES = 224, 1000


@dataclass(frozen=True, kw_only=True)
class BackboneRow:
    """One model, pass and size; empty where it was not measured.

    Times are of one batch, in seconds. `peak_bytes` is beyond weights and images, gradients included.
    """

    model: str
    passes: str
    size: int
    batch: int
    status: str
    checked: str
    repeats: int
    calls: int
    images_per_second: float | None = None
    median_s: float | None = None
    q25_s: float | None = None
    q75_s: float | None = None
    min_s: float | None = None
    input_bytes: int | None = None
    output_bytes: int | None = None
    gradient_bytes: int | None = None
    peak_bytes: int | None = None
    beyond_bytes: int | None = None
    parameters: int | None = None
    multiply_adds: int | None = None


def measure_backbones(options: BackboneOptions, device: str, tell: Tell) -> Iterator[list[BackboneRow]]:
    """Measures size after size, pass after pass.

    Args:
        options: what to measure, resolved.
        device: "cpu" or "cuda".
        tell: called with what is being done and the fraction that is done.

    Yields:
        The rows of each pass and size.

    Raises:
        ValueError: if a model is unknown to timm.
    """
    for name in options.models:
        if not timm.is_model(name.partition(".")[0]):
            near = get_close_matches(name, timm.list_models(), n=1)
            raise ValueError(
                f"model {name!r} is unknown to timm" + (f": did you mean {near[0]}?" if near else "")
            )
    steps = [(passes, size) for passes in options.passes for size in options.sizes]
    headings = [f"{passes}, {size} pixels" for passes, size in steps]
    weights = [(size**2 + PROBE_PIXELS**2) * (1 if passes == "inference" else 3) for passes, size in steps]
    footprints: dict[tuple[str, int], Footprint | None] = {}
    with MemoryProcesses("crosshead.bench.backbone", "memory_case") as processes:
        models = _Models(options, device, processes)
        for (passes, size), tell_step in zip(steps, tell_steps(tell, headings, weights), strict=True):
            measured = measure_group(
                [models.entry(name, passes, size) for name in options.models],
                size**2,
                budget=options.budget,
                repeats=options.repeats,
                device=device,
                tell=tell_step,
            )
            for name in options.models:
                tell_step(f"{name}: counting multiply-adds", 1.0)
                if (name, size) not in footprints:
                    footprints[name, size] = _footprint(name, size)
            yield [
                _row(name, passes, size, options.batch, measured[name], footprints[name, size])
                for name in options.models
            ]


def build_model(name: str, size: int) -> nn.Module:
    """A timm model for images of one size, with random weights.

    Models that tie a parameter or a mask to the size are built for it.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(WEIGHT_SEED)
        return timm.create_model(name, **_size_options(name, size))


def backbone_workload(
    name: str, size: int, *, passes: str, batch: int, dtype: str, device: str, compiled: bool
) -> Workload:
    """Prepares a model on random images."""
    generator = torch.Generator().manual_seed(INPUT_SEED)
    place = {"device": device, "dtype": getattr(torch, dtype)}
    images = torch.randn(batch, 3, size, size, generator=generator).to(**place)
    model = build_model(name, size).to(**place)
    return classifier_workload(model, images, train=passes == "train", compiled=compiled)


def memory_case(**arguments: Any) -> tuple[Callable[[], object], Workload]:
    """A run whose memory is measured in a process of its own, and what comes before it."""
    workload = backbone_workload(**arguments)
    if workload.compiles:
        return workload.run, workload
    small = {**arguments, "size": min(arguments["size"], PROBE_PIXELS)}
    return backbone_workload(**small).run, workload


def ratios(rows: Sequence[BackboneRow]) -> list[dict[str, Any]]:
    """Images per second of the first model over those of each: above 1, the first is the faster."""
    found = []
    for (passes, size), group in groupby(rows, lambda row: (row.passes, row.size)):
        speeds = {row.model: row.images_per_second for row in group}
        base = rows[0].model
        for name, speed in speeds.items():
            if speed and (best := speeds[base]):
                line = {"passes": passes, "size": size, "model": name, "against": base}
                found.append(line | {"speed_ratio": float(f"{best / speed:.4g}")})
    return found


class _Models:
    """The entries of a benchmark: what earlier sizes took, and what was found right already."""

    def __init__(self, options: BackboneOptions, device: str, processes: MemoryProcesses) -> None:
        self.options, self.device, self.processes = options, device, processes
        self.forecasts = {(name, passes): Forecast() for name in options.models for passes in options.passes}
        self.checked: dict[tuple[str, str], str] = {}

    def entry(self, name: str, passes: str, size: int) -> Entry:
        arguments: dict[str, Any] = {
            "name": name,
            "size": size,
            "passes": passes,
            "batch": self.options.batch,
            "dtype": self.options.dtype,
            "device": self.device,
            "compiled": self.options.compile,
        }
        small = {**arguments, "size": min(size, PROBE_PIXELS)}
        return Entry(
            name=name,
            workload=lambda: backbone_workload(**arguments),
            probe=lambda: (backbone_workload(**small), small["size"] ** 2),
            check=lambda: self.check(small),
            memory=(lambda: self.memory(arguments, small)) if supported(self.device) else None,
            forecast=self.forecasts[name, passes],
        )

    def check(self, arguments: dict[str, Any]) -> str:
        """Once for each model and pass: the group looks at every size for numbers that are not finite."""
        case = arguments["name"], arguments["passes"]
        if case not in self.checked:
            output = backbone_workload(**{**arguments, "compiled": False}).run().output
            if output.shape != (self.options.batch, CLASSES):
                raise WrongResult(f"output has shape {tuple(output.shape)}, needed are {CLASSES} classes")
            if not output.isfinite().all():
                raise WrongResult("output is not finite")
            self.checked[case] = f"shape and finite at {arguments['size']} pixels"
        return self.checked[case]

    def memory(self, arguments: dict[str, Any], small: dict[str, Any]) -> dict[str, int]:
        if self.device == "cuda":
            return measure_on_cuda(backbone_workload(**arguments))
        return self.processes.measure(arguments, rehearsal={**small, "passes": "inference"})


def _size_options(name: str, size: int) -> dict[str, Any]:
    """What the constructor needs to know about the size, if anything."""
    default = timm.get_pretrained_cfg(name.partition(".")[0])
    fixed = default is not None and default.fixed_input_size
    return {"img_size": size} if fixed else {}


def _footprint(name: str, size: int) -> Footprint | None:
    try:
        return footprint(name, image_size=size, **_size_options(name, size))
    except Exception:  # a model that cannot pass shapes alone
        return None


def _row(
    name: str, passes: str, size: int, batch: int, found: Measurement, cost: Footprint | None
) -> BackboneRow:
    columns = found.columns()
    if found.times:
        columns["images_per_second"] = float(f"{batch / found.times['median_s']:.6g}")
    if cost is not None:
        columns |= {"parameters": cost.parameters, "multiply_adds": cost.multiply_adds}
    return BackboneRow(model=name, passes=passes, size=size, batch=batch, **columns)
