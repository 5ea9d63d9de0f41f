"""What a mechanism costs in a whole model: parameters, multiply-adds, measured time and memory."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn

from crosshead.bench.options import WEIGHT_SEED
from crosshead.measure.flops import flop_counter
from crosshead.measure.memory import MeasurementError, MemoryProcesses, measure_on_cuda, supported
from crosshead.measure.timing import plan_samples, quartiles, time_calls, time_in_turns
from crosshead.measure.workload import Workload, classifier_workload
from crosshead.runs.model import count_parameters
from crosshead.study.backbone import build_model, random_input
from crosshead.study.trial import IN_CHANS, Data, Shape

BATCH = 16
# The size of the classifier matters to no comparison.
CLASSES = 10
Case = tuple[Data, str, Shape]


def measure_costs(
    found: Sequence[Case],
    *,
    device: str,
    repeats: int = 7,
    budget: float = 5.0,
    tell: Callable[[str], object] = lambda what: None,
) -> list[dict[str, Any]]:
    """Measures mechanisms that take turns within this process.

    Args:
        found: data, mechanisms and models.
        device: "cpu" or "cuda".
        repeats: rounds.
        budget: seconds for one mechanism and pass.
        tell: told what is being done.

    Returns:
        A row for each: `data`, the sizes of the model, `attention`, `parameters`, `multiply_adds` of all
        products and convolutions for one sample, `infer_ms` and `train_ms` (forward and backward),
        milliseconds a sample in batches of 16, medians with their quartiles, and `train_peak_bytes` beyond
        weights and samples, gradients included; None where memory cannot be measured.
    """
    cases = {str(case): case for case in found}
    times: dict[str, dict[str, float]] = {name: {} for name in cases}
    for passes in ("infer", "train"):
        runs = {name: model_workload(*case, passes=passes, device=device).run for name, case in cases.items()}
        tell(f"timing {passes}")
        samplings = {}
        for name, run in runs.items():
            run()
            samplings[name] = plan_samples(time_calls(run, 1, device=device), budget=budget, repeats=repeats)
        samples, failed = time_in_turns(runs, samplings, device=device)
        for error in failed.values():
            raise error
        for name, seconds in samples.items():
            times[name].update(_per_image(passes, quartiles(seconds)))
    rows = []
    with MemoryProcesses("crosshead.study.cost", "memory_case") as processes:
        for name, case in cases.items():
            data, attention, shape = case
            tell(f"memory of {attention}")
            model = _model(*case)
            rows.append(
                {
                    "data": data,
                    **asdict(shape),
                    "attention": attention,
                    "parameters": count_parameters(model),
                    "multiply_adds": count_multiply_adds(model, _input(data, shape, 1, "cpu")),
                    **times[name],
                    "train_peak_bytes": _peak(processes, case, device),
                }
            )
    return rows


def model_workload(data: Data, attention: str, shape: Shape, *, passes: str, device: str) -> Workload:
    """A model on random samples: "infer", or "train" for forward and backward."""
    samples = _input(data, shape, BATCH, device)
    return classifier_workload(_model(data, attention, shape).to(device), samples, train=passes == "train")


def memory_case(
    *, data: Data, attention: str, shape: Mapping[str, Any], passes: str
) -> tuple[Callable[[], object], Workload]:
    """A run whose memory is measured in a process of its own, and what comes before it."""
    warm_up, workload = (
        model_workload(data, attention, Shape(**shape), passes=each, device="cpu")
        for each in ("infer", passes)
    )
    return warm_up.run, workload


def count_multiply_adds(model: nn.Module, sample: Tensor) -> int:
    """Multiply-adds of all products and convolutions for one sample, half of torch's FLOPs.

    Example:
        >>> count_multiply_adds(nn.Conv2d(1, 8, 2, stride=2), torch.zeros(1, 1, 4, 4))
        128
    """
    with torch.no_grad(), flop_counter() as flops:
        model.eval()(sample)
    return flops.get_total_flops() // 2


def _model(data: Data, attention: str, shape: Shape) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(WEIGHT_SEED)
        return build_model(data, attention, shape, num_classes=CLASSES, in_chans=IN_CHANS[data])


def _input(data: Data, shape: Shape, batch: int, device: str) -> Tensor:
    return random_input(data, shape, batch=batch, in_chans=IN_CHANS[data], device=device)


def _per_image(passes: str, found: dict[str, float]) -> dict[str, float]:
    ends = {"median_s": "", "q25_s": "_q25", "q75_s": "_q75"}
    return {f"{passes}{end}_ms": round(found[name] * 1e3 / BATCH, 4) for name, end in ends.items()}


def _peak(processes: MemoryProcesses, case: Case, device: str) -> int | None:
    if device == "cuda":
        return measure_on_cuda(model_workload(*case, passes="train", device=device))["peak_bytes"]
    if not supported(device):
        return None
    data, attention, shape = case
    arguments = {"data": data, "attention": attention, "shape": asdict(shape)}
    try:
        found = processes.measure(
            {**arguments, "passes": "train"}, rehearsal={**arguments, "passes": "infer"}
        )
    except MeasurementError:
        return None
    return found["peak_bytes"]
