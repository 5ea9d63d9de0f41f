"""`crosshead bench backbone`: the measurements; printing and writing are elsewhere."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import groupby
from typing import Any

import timm
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from crosshead.bench.checks import WrongResult
from crosshead.bench.forecast import Forecast
from crosshead.bench.group import Candidate, Outcome, measure_group
from crosshead.bench.operands import INPUT_SEED, WEIGHT_SEED
from crosshead.bench.options import BackboneOptions
from crosshead.bench.memory import MemoryProcesses, measure_on_cuda, supported
from crosshead.bench.trial import Result, Trial
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


def measure_backbones(
    options: BackboneOptions, device: str, tell: Callable[[str, float], None]
) -> Iterator[list[BackboneRow]]:
    """Measures size after size, pass after pass.

    Args:
        options: what to measure, resolved.
        device: "cpu" or "cuda".
        tell: called with what is being done and the share that is done.

    Yields:
        The rows of each pass and size.

    Raises:
        ValueError: If a model is unknown to timm.
    """
    _check_names(options.models)
    steps = [(passes, size) for passes in options.passes for size in options.sizes]
    weights = [(size**2 + PROBE_PIXELS**2) * (1 if passes == "inference" else 3) for passes, size in steps]
    footprints: dict[tuple[str, int], Footprint | None] = {}
    with MemoryProcesses(
        "crosshead.bench.backbone", "memory_case", threads=torch.get_num_threads()
    ) as processes:
        models = _Models(options, device, processes)
        for number, (passes, size) in enumerate(steps):
            before, weight = sum(weights[:number]) / sum(weights), weights[number] / sum(weights)
            heading = f"{passes}, {size} pixels"
            outcomes = measure_group(
                [models.candidate(name, passes, size) for name in options.models],
                size**2,
                budget=options.budget,
                repeats=options.repeats,
                device=device,
                tell=lambda what, share, heading=heading, before=before, weight=weight: tell(
                    f"{heading}, {what}", before + weight * share
                ),
            )
            for name in options.models:
                tell(f"{heading}, {name}: counting multiply-adds", before + weight)
                if (name, size) not in footprints:
                    footprints[name, size] = _footprint(name, size)
            yield [
                _row(name, passes, size, options.batch, outcomes[name], footprints[name, size])
                for name in options.models
            ]


def build_model(name: str, size: int) -> nn.Module:
    """A timm model for images of one size, with random weights.

    Models that tie a parameter or a mask to the size are built for it.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(WEIGHT_SEED)
        return timm.create_model(name, **_size_options(name, size))


def backbone_trial(
    name: str, size: int, *, passes: str, batch: int, dtype: str, device: str, compiled: bool
) -> Trial:
    """Prepares a model on random images."""
    generator = torch.Generator().manual_seed(INPUT_SEED)
    images = torch.randn(batch, 3, size, size, generator=generator).to(device, getattr(torch, dtype))
    model = build_model(name, size).to(device, getattr(torch, dtype)).train(passes == "train")
    parameters = list(model.parameters())
    given = [*parameters, *model.buffers(), images]
    classify: Callable[[Tensor], Tensor] = torch.compile(model, dynamic=False) if compiled else model

    def infer() -> Result:
        with torch.no_grad():
            return Result(classify(images))

    def train() -> Result:
        output = classify(images)
        loss = cross_entropy(output.float(), torch.zeros(batch, dtype=torch.long, device=device))
        found = torch.autograd.grad(loss, parameters, allow_unused=True)
        return Result(output.detach(), tuple(x for x in found if x is not None))

    return Trial(train if passes == "train" else infer, given, compiles=compiled)


def memory_case(**arguments: Any) -> tuple[Callable[[], object], Trial]:
    """A run whose memory is measured in a process of its own, and what comes before it."""
    trial = backbone_trial(**arguments)
    if trial.compiles:
        return trial.run, trial
    small = {**arguments, "size": min(arguments["size"], PROBE_PIXELS)}
    return backbone_trial(**small).run, trial


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
    """The candidates of a benchmark: what earlier sizes took, and what was found right already."""

    def __init__(self, options: BackboneOptions, device: str, processes: MemoryProcesses) -> None:
        self.options, self.device, self.processes = options, device, processes
        self.forecasts = {(name, passes): Forecast() for name in options.models for passes in options.passes}
        self.checked: dict[tuple[str, str], str] = {}

    def candidate(self, name: str, passes: str, size: int) -> Candidate:
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
        return Candidate(
            name=name,
            trial=lambda: backbone_trial(**arguments),
            probe=lambda: (backbone_trial(**small), small["size"] ** 2),
            check=lambda: self._check(**small),
            memory=(lambda: self._memory(arguments, small)) if supported(self.device) else None,
            forecast=self.forecasts[name, passes],
        )

    def _check(self, *, name: str, passes: str, size: int, **arguments: Any) -> str:
        """Once for each model and pass: the group looks at every size for numbers that are not finite."""
        if (name, passes) not in self.checked:
            trial = backbone_trial(name, size, passes=passes, **{**arguments, "compiled": False})
            output = trial.run().output
            if output.shape != (self.options.batch, CLASSES):
                raise WrongResult(f"output has shape {tuple(output.shape)}, needed are {CLASSES} classes")
            if not output.isfinite().all():
                raise WrongResult("output is not finite")
            self.checked[name, passes] = f"shape and finite at {size} pixels"
        return self.checked[name, passes]

    def _memory(self, arguments: dict[str, Any], small: dict[str, Any]) -> dict[str, int]:
        if self.device != "cuda":
            # Inference only: a process whose autograd has run may not fork one that runs it too.
            return self.processes.measure(arguments, rehearsal={**small, "passes": "inference"})
        trial = backbone_trial(**arguments)
        trial.run()
        return measure_on_cuda(trial)


def _check_names(names: Sequence[str]) -> None:
    for name in names:
        if not timm.is_model(name.partition(".")[0]):
            near = get_close_matches(name, timm.list_models(), n=1)
            raise ValueError(
                f"model {name!r} is unknown to timm" + (f": did you mean {near[0]}?" if near else "")
            )


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
    name: str, passes: str, size: int, batch: int, outcome: Outcome, cost: Footprint | None
) -> BackboneRow:
    columns: dict[str, Any] = {**outcome.times, **outcome.memory}
    if outcome.times:
        columns["images_per_second"] = float(f"{batch / outcome.times['median_s']:.6g}")
    if cost is not None:
        columns |= {"parameters": cost.parameters, "multiply_adds": cost.multiply_adds}
    return BackboneRow(
        model=name,
        passes=passes,
        size=size,
        batch=batch,
        status=outcome.status,
        checked=outcome.checked,
        repeats=outcome.repeats,
        calls=outcome.calls,
        **columns,
    )
