"""What a mechanism costs beside its accuracy: parameters, multiply-adds, time and memory of the whole model."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.flop_counter import FlopCounterMode

from crosshead.bench.memory import MeasurementError, MemoryProcesses, measure_on_cuda, supported
from crosshead.bench.timing import plan_samples, quartiles, time_calls, time_in_turns
from crosshead.bench.trial import Result, Trial
from crosshead.runs.model import count_parameters
from crosshead.study.backbone import build_backbone
from crosshead.study.trial import Shape

BATCH = 16
# Sizes of the classifier matter to no comparison; those of Fashion-MNIST stand for all.
CLASSES, BANDS = 10, 1


@dataclass(frozen=True, kw_only=True)
class Price:
    """One mechanism in one model.

    Attributes:
        attention: the mechanism with its options.
        parameters: learned numbers.
        multiply_adds: of all products and convolutions for one image.
        infer_ms: milliseconds an image, batches of 16, median.
        infer_q25_ms: first quartile.
        infer_q75_ms: third quartile.
        train_ms: milliseconds an image, forward and backward.
        train_q25_ms: first quartile.
        train_q75_ms: third quartile.
        train_peak_bytes: beyond weights and images, gradients included; None where it cannot be measured.
    """

    attention: str
    parameters: int
    multiply_adds: int
    infer_ms: float
    infer_q25_ms: float
    infer_q75_ms: float
    train_ms: float
    train_q25_ms: float
    train_q75_ms: float
    train_peak_bytes: int | None


def measure_prices(
    found: Sequence[tuple[str, Shape]],
    *,
    device: str,
    repeats: int = 7,
    budget: float = 5.0,
    tell: Callable[[str], object] = lambda what: None,
) -> list[dict[str, Any]]:
    """Measures mechanisms that take turns within this process.

    Args:
        found: mechanisms, each with its model.
        device: "cpu" or "cuda".
        repeats: rounds.
        budget: seconds for one mechanism and pass.
        tell: told what is being done.

    Returns:
        A row for each: the model's sizes, and the fields of `Price`.
    """
    names = {f"{attention} {shape}": (attention, shape) for attention, shape in found}
    times: dict[str, dict[str, dict[str, float]]] = {}
    for passes in ("infer", "train"):
        trials = {name: model_trial(*given, passes=passes, device=device) for name, given in names.items()}
        tell(f"timing {passes}")
        runs = {name: trial.run for name, trial in trials.items()}
        plans = {}
        for name, run in runs.items():
            run()
            plans[name] = plan_samples(time_calls(run, 1, device=device), budget=budget, repeats=repeats)
        samples, failed = time_in_turns(runs, plans, device=device)
        for error in failed.values():
            raise error
        times[passes] = {name: quartiles(seconds) for name, seconds in samples.items()}
    rows = []
    with MemoryProcesses(
        "crosshead.study.price", "memory_case", threads=torch.get_num_threads()
    ) as processes:
        for name, (attention, shape) in names.items():
            tell(f"memory of {attention}")
            model = _model(attention, shape)
            price = Price(
                attention=attention,
                parameters=count_parameters(model),
                multiply_adds=count_multiply_adds(model, shape),
                **_per_image("infer", times["infer"][name]),
                **_per_image("train", times["train"][name]),
                train_peak_bytes=_peak(processes, attention, shape, device),
            )
            rows.append({**asdict(shape), **asdict(price)})
    return rows


def model_trial(attention: str, shape: Shape, *, passes: str, device: str) -> Trial:
    """A model on random images: inference, or forward and backward."""
    images = torch.randn(
        BATCH, BANDS, shape.image_size, shape.image_size, generator=torch.Generator().manual_seed(0)
    ).to(device)
    targets = torch.zeros(BATCH, dtype=torch.long, device=device)
    model = _model(attention, shape).to(device).train(passes == "train")
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]

    def infer() -> Result:
        with torch.no_grad():
            return Result(model(images))

    def train() -> Result:
        output = model(images)
        found = torch.autograd.grad(cross_entropy(output, targets), parameters, allow_unused=True)
        return Result(output.detach(), tuple(x for x in found if x is not None))

    return Trial(train if passes == "train" else infer, [*model.parameters(), images])


def memory_case(*, attention: str, shape: Mapping[str, Any], passes: str) -> tuple[Callable, Trial]:
    """A run whose memory is measured in a process of its own, and what comes before it."""
    trial = model_trial(attention, Shape(**shape), passes=passes, device="cpu")
    return model_trial(attention, Shape(**shape), passes="infer", device="cpu").run, trial


def count_multiply_adds(model: nn.Module, shape: Shape) -> int:
    """Multiply-adds of all products and convolutions for one image, half of torch's FLOPs.

    Example:
        >>> shape = Shape(image_size=4, patch_size=2, dim=8, depth=1, heads=2, mlp_ratio=2, landmarks=2)
        >>> count_multiply_adds(nn.Conv2d(1, 8, 2, stride=2), shape)
        128
    """
    device = next(model.parameters()).device
    image = torch.zeros(1, BANDS, shape.image_size, shape.image_size, device=device)
    with torch.no_grad(), FlopCounterMode(display=False) as flops:
        model.eval()(image)
    return flops.get_total_flops() // 2


def _model(attention: str, shape: Shape) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build_backbone(attention, shape, num_classes=CLASSES, in_chans=BANDS)


def _per_image(passes: str, found: dict[str, float]) -> dict[str, float]:
    places = {"median_s": "", "q25_s": "_q25", "q75_s": "_q75"}
    return {f"{passes}{end}_ms": round(found[name] * 1e3 / BATCH, 4) for name, end in places.items()}


def _peak(processes: MemoryProcesses, attention: str, shape: Shape, device: str) -> int | None:
    if device == "cuda":
        trial = model_trial(attention, shape, passes="train", device=device)
        trial.run()
        return measure_on_cuda(trial)["peak_bytes"]
    if not supported(device):
        return None
    case = {"attention": attention, "shape": asdict(shape)}
    try:
        # Inference only: a process whose autograd has run may not fork one that runs it too.
        found = processes.measure({**case, "passes": "train"}, rehearsal={**case, "passes": "infer"})
    except MeasurementError:
        return None
    return found["peak_bytes"]
