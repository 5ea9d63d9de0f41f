"""What a ViT costs before and after: time and memory of one image, by its size."""

from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any

import timm
import torch

import crosshead.vision  # noqa: F401  registers the linearized ViT with timm
from crosshead.measure.memory import MeasurementError, MemoryProcesses, measure_on_cuda, supported
from crosshead.measure.timing import plan_samples, time_calls, time_in_turns
from crosshead.measure.workload import Workload, make_workload

BUDGET_SECONDS, REPEATS = 10, 7


def measure_cost(
    nets: Mapping[str, dict[str, Any]], sizes: Sequence[int], device: str, *, in_chans: int
) -> dict[int, dict[str, dict[str, float]]]:
    """Milliseconds of a forward pass over one image, nets taking turns, and the megabytes it needs.

    Args:
        nets: arguments of `timm.create_model`, by name.
        sizes: sides of the images, in pixels.
        device: "cpu" or "cuda".
        in_chans: channels of the images.

    Returns:
        `milliseconds`, the median, and `megabytes` beyond weights and image, by size and net. Memory is left
        out where this system does not tell it.
    """
    found: dict[int, dict[str, dict[str, float]]] = {}
    with MemoryProcesses(__name__, "workload") as processes:
        for size in sizes:
            arguments = {
                name: {"net": net, "size": size, "in_chans": in_chans, "device": device}
                for name, net in nets.items()
            }
            runs = {name: workload(**each)[1].run for name, each in arguments.items()}
            samplings = {
                name: plan_samples(time_calls(run, 1, device=device), budget=BUDGET_SECONDS, repeats=REPEATS)
                for name, run in runs.items()
            }
            times, _ = time_in_turns(runs, samplings, device=device)
            found[size] = {name: {"milliseconds": 1000 * median(each)} for name, each in times.items()}
            for name in times if supported(device) else ():
                try:
                    weighed = (
                        measure_on_cuda(workload(**arguments[name])[1])
                        if device == "cuda"
                        else processes.measure(
                            arguments[name], rehearsal={**arguments[name], "size": sizes[0]}
                        )
                    )
                except MeasurementError:
                    continue
                found[size][name]["megabytes"] = weighed["peak_bytes"] / 2**20
    return found


def workload(
    *, net: dict[str, Any], size: int, in_chans: int, device: str
) -> tuple[Callable[[], object], Workload]:
    """A forward pass of a net with random weights, and a small one to warm up."""
    torch.manual_seed(0)
    model: Any = timm.create_model(**net).eval().to(device)
    image = torch.randn(1, in_chans, size, size, device=device)

    def run() -> torch.Tensor:
        with torch.inference_mode():
            return model.forward_features(image)

    return run, make_workload(run, [*model.parameters(), image])
