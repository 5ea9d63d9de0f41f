"""What a mechanism costs: parameters, multiply-adds, time and memory of the whole model."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from crosshead.bench.operands import WEIGHT_SEED
from crosshead.measure.flops import flop_counter
from crosshead.bench.memory import MeasurementError, MemoryProcesses, measure_on_cuda, supported
from crosshead.measure.timing import plan_samples, quartiles, time_calls, time_in_turns
from crosshead.bench.trial import Result, Trial
from crosshead.runs.model import count_parameters
from crosshead.study.backbone import build_model, random_input
from crosshead.study.trial import BANDS, Data, Shape

BATCH = 16
# The size of the classifier matters to no comparison.
CLASSES = 10
Case = tuple[Data, str, Shape]


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
        A row for each: the model's sizes, and the fields of `Price`.
    """
    cases = {str(case): case for case in found}
    times: dict[str, dict[str, dict[str, float]]] = {}
    for passes in ("infer", "train"):
        trials = {name: model_trial(*case, passes=passes, device=device) for name, case in cases.items()}
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
        for name, case in cases.items():
            data, attention, shape = case
            tell(f"memory of {attention}")
            model = _model(*case)
            price = Price(
                attention=attention,
                parameters=count_parameters(model),
                multiply_adds=count_multiply_adds(model, _input(data, shape, 1, "cpu")),
                **_per_image("infer", times["infer"][name]),
                **_per_image("train", times["train"][name]),
                train_peak_bytes=_peak(processes, case, device),
            )
            rows.append({"data": data, **asdict(shape), **asdict(price)})
    return rows


def model_trial(data: Data, attention: str, shape: Shape, *, passes: str, device: str) -> Trial:
    """A model on random samples: inference, or forward and backward."""
    images = _input(data, shape, BATCH, device)
    targets = torch.zeros(BATCH, dtype=torch.long, device=device)
    model = _model(data, attention, shape).to(device).train(passes == "train")
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]

    def infer() -> Result:
        with torch.no_grad():
            return Result(model(images))

    def train() -> Result:
        output = model(images)
        found = torch.autograd.grad(cross_entropy(output, targets), parameters, allow_unused=True)
        return Result(output.detach(), tuple(x for x in found if x is not None))

    return Trial(train if passes == "train" else infer, [*model.parameters(), images])


def memory_case(
    *, data: Data, attention: str, shape: Mapping[str, Any], passes: str
) -> tuple[Callable[[], object], Trial]:
    """A run whose memory is measured in a process of its own, and what comes before it."""
    case = (data, attention, Shape(**shape))
    return model_trial(*case, passes="infer", device="cpu").run, model_trial(
        *case, passes=passes, device="cpu"
    )


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
        return build_model(data, attention, shape, num_classes=CLASSES, in_chans=BANDS[data])


def _input(data: Data, shape: Shape, batch: int, device: str) -> Tensor:
    return random_input(data, shape, batch=batch, in_chans=BANDS[data], device=device)


def _per_image(passes: str, found: dict[str, float]) -> dict[str, float]:
    places = {"median_s": "", "q25_s": "_q25", "q75_s": "_q75"}
    return {f"{passes}{end}_ms": round(found[name] * 1e3 / BATCH, 4) for name, end in places.items()}


def _peak(processes: MemoryProcesses, case: Case, device: str) -> int | None:
    if device == "cuda":
        trial = model_trial(*case, passes="train", device=device)
        trial.run()
        return measure_on_cuda(trial)["peak_bytes"]
    if not supported(device):
        return None
    data, attention, shape = case
    arguments = {"data": data, "attention": attention, "shape": asdict(shape)}
    try:
        # Inference only: a process whose autograd has run may not fork one that runs it too.
        return processes.measure(
            {**arguments, "passes": "train"}, rehearsal={**arguments, "passes": "infer"}
        )["peak_bytes"]
    except MeasurementError:
        return None
