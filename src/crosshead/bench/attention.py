"""`crosshead bench attention`: the measurements; printing and writing are elsewhere."""

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from crosshead.bench.catalogue import Provider, choose_providers
from crosshead.bench.checks import Checker
from crosshead.bench.forecast import Forecast
from crosshead.bench.group import Candidate, Outcome, measure_group
from crosshead.bench.operands import Setting, make_operands, make_tokens
from crosshead.bench.options import AttentionOptions
from crosshead.bench.providers_operator import forget_programs
from crosshead.bench.roofline import Machine, done_work, needed_work
from crosshead.bench.memory import MemoryProcesses, measure_on_cuda, supported
from crosshead.bench.trial import Trial, attention_trial

PROBE_TOKENS = 256
RIVALS = "pip install crosshead[rivals]"
# What a length costs beside its tokens, in tokens, for the share that is done: checks, builds, processes.
OVERHEAD_TOKENS = 4096


@dataclass(frozen=True, kw_only=True)
class AttentionRow:
    """One provider, pass and length; empty where it was not measured.

    Times are of one call, in seconds. `limit_needed_s` and `limit_done_s` are what the machine could do at
    best for the work that the equations need and for the work that the implementation executes.
    """

    provider: str
    level: str
    package: str
    mixes_heads: bool
    linear: bool
    passes: str
    tokens: int
    status: str
    checked: str
    repeats: int
    calls: int
    median_s: float | None = None
    q25_s: float | None = None
    q75_s: float | None = None
    min_s: float | None = None
    input_bytes: int | None = None
    output_bytes: int | None = None
    gradient_bytes: int | None = None
    peak_bytes: int | None = None
    beyond_bytes: int | None = None
    multiply_adds: int | None = None
    limit_needed_s: float | None = None
    limit_done_s: float | None = None
    percent_of_limit_needed: float | None = None
    percent_of_limit_done: float | None = None


def setting_of(options: AttentionOptions, device: str) -> Setting:
    """The sizes of a benchmark."""
    names = ("batch", "heads", "head_dim", "landmarks", "mixing", "dtype")
    return Setting(**{name: getattr(options, name) for name in names}, device=device)


def measure_attention(
    options: AttentionOptions, setting: Setting, machine: Machine, tell: Callable[[str, float], None]
) -> Iterator[list[AttentionRow]]:
    """Measures length after length, pass after pass.

    Args:
        options: what to measure, resolved.
        setting: its sizes, and the device.
        machine: what the limits come from.
        tell: called with what is being done and the share that is done.

    Yields:
        The rows of each pass and length.
    """
    providers = choose_providers(options.providers, options.level)
    steps = [(passes, tokens) for passes in options.passes for tokens in options.tokens]
    weights = [_weight(passes, tokens) for passes, tokens in steps]
    forecasts = {(p.name, passes): _forecast(p) for p in providers for passes in options.passes}
    with MemoryProcesses(
        "crosshead.bench.attention", "memory_case", threads=torch.get_num_threads()
    ) as processes:
        for number, (passes, tokens) in enumerate(steps):
            before, weight = sum(weights[:number]) / sum(weights), weights[number] / sum(weights)
            heading = f"{passes}, {tokens:,} tokens"
            if any(provider.name == "compiled" for provider in providers):
                forget_programs()
            group = _Group(setting, tokens, passes != "forward", processes)
            outcomes = measure_group(
                [group.candidate(p, forecasts[p.name, passes]) for p in providers],
                tokens,
                budget=options.budget,
                repeats=options.repeats,
                device=setting.device,
                tell=lambda what, share, heading=heading, before=before, weight=weight: tell(
                    f"{heading}, {what}", before + weight * share
                ),
            )
            yield [
                _row(provider, passes, tokens, outcomes[provider.name], setting, machine)
                for provider in providers
            ]


def memory_case(name: str, setting: dict, tokens: int, backward: bool) -> tuple[Callable[[], object], Trial]:
    """A run whose memory is measured in a process of its own, and what comes before it."""
    sizes = Setting(**setting)
    trial = attention_trial(name, sizes, tokens, backward=backward)
    if trial.compiles:
        return trial.run, trial
    return attention_trial(name, sizes, min(tokens, PROBE_TOKENS), backward=backward).run, trial


class _Group:
    """The candidates of one pass and length, which share their inputs and what they are compared with."""

    def __init__(self, setting: Setting, tokens: int, backward: bool, processes: MemoryProcesses) -> None:
        self.setting, self.tokens, self.backward, self.processes = setting, tokens, backward, processes
        self.checker = Checker(setting, tokens, backward)
        self.inputs: dict = {}

    def candidate(self, provider: Provider, forecast: Forecast) -> Candidate:
        small = min(self.tokens, PROBE_TOKENS)
        maps = provider.maps * self.setting.batch * self.setting.heads * self.tokens**2
        return Candidate(
            name=provider.name,
            trial=lambda: self.trial(provider, self.tokens, self.shared(provider)),
            probe=lambda: (self.trial(provider, small), small),
            check=lambda: self.checker.check(provider.name),
            memory=(lambda: self.memory(provider)) if supported(self.setting.device) else None,
            forecast=forecast,
            least_bytes=maps * self.setting.torch_dtype.itemsize * (2 if self.backward else 1),
            remedy="" if provider.package in ("crosshead", "torch") else RIVALS,
        )

    def trial(self, provider: Provider, tokens: int, operands=None) -> Trial:
        return attention_trial(provider.name, self.setting, tokens, backward=self.backward, operands=operands)

    def shared(self, provider: Provider):
        if provider.level not in self.inputs:
            make = make_tokens if provider.level == "layer" else make_operands
            self.inputs[provider.level] = make(self.setting, self.tokens, requires_grad=self.backward)
        return self.inputs[provider.level]

    def memory(self, provider: Provider) -> dict[str, int]:
        if self.setting.device == "cuda":
            trial = self.trial(provider, self.tokens, self.shared(provider))
            trial.run()
            return measure_on_cuda(trial)
        arguments = {
            "name": provider.name,
            "setting": dataclasses.asdict(self.setting),
            "tokens": self.tokens,
            "backward": self.backward,
        }
        # Forward only: a process whose autograd has run may not fork one that runs it too.
        small = {**arguments, "tokens": PROBE_TOKENS, "backward": False}
        return self.processes.measure(arguments, rehearsal=small)


def _forecast(provider: Provider) -> Forecast:
    return Forecast(time_order=provider.order, memory_order=2 if provider.maps else 1)


def _weight(passes: str, tokens: int) -> float:
    return (tokens + OVERHEAD_TOKENS) * (1 if passes == "forward" else 3)


def _row(
    provider: Provider, passes: str, tokens: int, outcome: Outcome, setting: Setting, machine: Machine
) -> AttentionRow:
    backward = passes != "forward"
    limits: dict[str, float] = {}
    needed = needed_work(provider.name, setting, tokens, backward=backward)
    done = done_work(provider.name, setting, tokens, backward=backward)
    for kind, work in (("needed", needed), ("done", done)):
        if work is not None and outcome.times:
            limits[f"limit_{kind}_s"] = float(f"{machine.limit(work):.6g}")
            limits[f"percent_of_limit_{kind}"] = round(
                100 * machine.limit(work) / outcome.times["median_s"], 2
            )
    columns: dict[str, Any] = {**outcome.times, **outcome.memory, **limits}
    return AttentionRow(
        provider=provider.name,
        level=provider.level,
        package=provider.package,
        mixes_heads=provider.mixes_heads,
        linear=provider.linear,
        passes=passes,
        tokens=tokens,
        status=outcome.status,
        checked=outcome.checked,
        repeats=outcome.repeats,
        calls=outcome.calls,
        multiply_adds=needed.multiply_adds if needed else None,
        **columns,
    )
