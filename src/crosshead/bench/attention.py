"""`crosshead bench attention`: the measurements. The command line prints them, and `report` writes them."""

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from crosshead.bench.checks import Checker
from crosshead.bench.group import Entry, Forecast, Measurement, Tell, measure_group, tell_steps
from crosshead.bench.options import AttentionOptions, Provider, choose_providers
from crosshead.bench.providers import Operands, Setting, attention_workload, make_operands, make_tokens
from crosshead.bench.roofline import Machine, done_work, needed_work
from crosshead.measure.memory import MemoryProcesses, measure_on_cuda, supported
from crosshead.measure.workload import Workload

PROBE_TOKENS = 256
RIVALS = "pip install 'crosshead[rivals]'"
# What a length costs beside its tokens, in tokens, for the fraction that is done: checks, builds, processes.
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
    names = ("batch", "heads", "head_dim", "landmarks", "mixing", "mixing_group_size", "dtype")
    return Setting(**{name: getattr(options, name) for name in names}, device=device)


def measure_attention(
    options: AttentionOptions, setting: Setting, machine: Machine, tell: Tell
) -> Iterator[list[AttentionRow]]:
    """Measures length after length, pass after pass.

    Args:
        options: what to measure, resolved.
        setting: its sizes, and the device.
        machine: what the limits come from.
        tell: called with what is being done and the fraction that is done.

    Yields:
        The rows of each pass and length.
    """
    providers = choose_providers(options.providers, options.level)
    steps = [(passes, tokens) for passes in options.passes for tokens in options.tokens]
    headings = [f"{passes}, {tokens:,} tokens" for passes, tokens in steps]
    weights = [(tokens + OVERHEAD_TOKENS) * (1 if passes == "forward" else 3) for passes, tokens in steps]
    forecasts = {
        (p.name, passes): Forecast(time_order=1 if p.linear else 2, memory_order=2 if p.maps else 1)
        for p in providers
        for passes in options.passes
    }
    with MemoryProcesses("crosshead.bench.attention", "memory_case") as processes:
        for (passes, tokens), tell_step in zip(steps, tell_steps(tell, headings, weights), strict=True):
            if any(provider.name == "compiled" for provider in providers):
                # After some lengths a full cache of programs makes torch fall back to plain PyTorch.
                torch._dynamo.reset()
            group = _Group(setting, tokens, passes != "forward", processes)
            measured = measure_group(
                [group.entry(p, forecasts[p.name, passes]) for p in providers],
                tokens,
                budget=options.budget,
                repeats=options.repeats,
                device=setting.device,
                tell=tell_step,
            )
            yield [_row(p, passes, tokens, measured[p.name], setting, machine) for p in providers]


def memory_case(
    name: str, setting: dict, tokens: int, backward: bool
) -> tuple[Callable[[], object], Workload]:
    """A run whose memory is measured in a process of its own, and what comes before it."""
    sizes = Setting(**setting)
    workload = attention_workload(name, sizes, tokens, backward=backward)
    if workload.compiles:
        return workload.run, workload
    return attention_workload(name, sizes, min(tokens, PROBE_TOKENS), backward=backward).run, workload


class _Group:
    """The entries of one pass and length, which share their inputs and what they are compared with."""

    def __init__(self, setting: Setting, tokens: int, backward: bool, processes: MemoryProcesses) -> None:
        self.setting, self.tokens, self.backward, self.processes = setting, tokens, backward, processes
        self.checker = Checker(setting, tokens, backward)
        self.inputs: dict[str, Operands | Tensor] = {}

    def entry(self, provider: Provider, forecast: Forecast) -> Entry:
        small = min(self.tokens, PROBE_TOKENS)
        maps = provider.maps * self.setting.batch * self.setting.heads * self.tokens**2
        return Entry(
            name=provider.name,
            workload=lambda: self.workload(provider),
            probe=lambda: (
                attention_workload(provider.name, self.setting, small, backward=self.backward),
                small,
            ),
            check=lambda: self.checker.check(provider.name),
            memory=(lambda: self.memory(provider)) if supported(self.setting.device) else None,
            forecast=forecast,
            least_bytes=maps * self.setting.torch_dtype.itemsize * (2 if self.backward else 1),
            remedy="" if provider.package in ("crosshead", "torch") else RIVALS,
        )

    def workload(self, provider: Provider) -> Workload:
        if provider.level not in self.inputs:
            make = make_tokens if provider.level == "layer" else make_operands
            self.inputs[provider.level] = make(self.setting, self.tokens, requires_grad=self.backward)
        operands = self.inputs[provider.level]
        return attention_workload(
            provider.name, self.setting, self.tokens, backward=self.backward, operands=operands
        )

    def memory(self, provider: Provider) -> dict[str, int]:
        if self.setting.device == "cuda":
            return measure_on_cuda(self.workload(provider))
        case = {"name": provider.name, "setting": dataclasses.asdict(self.setting)}
        return self.processes.measure(
            {**case, "tokens": self.tokens, "backward": self.backward},
            rehearsal={**case, "tokens": PROBE_TOKENS, "backward": False},
        )


def _row(
    provider: Provider, passes: str, tokens: int, found: Measurement, setting: Setting, machine: Machine
) -> AttentionRow:
    needed, done = (
        count(provider.name, setting, tokens, backward=passes != "forward")
        for count in (needed_work, done_work)
    )
    columns = found.columns()
    for kind, work in (("needed", needed), ("done", done)):
        if work is not None and found.times:
            limit = machine.limit(work)
            columns[f"limit_{kind}_s"] = float(f"{limit:.6g}")
            columns[f"percent_of_limit_{kind}"] = round(100 * limit / found.times["median_s"], 2)
    return AttentionRow(
        provider=provider.name,
        level=provider.level,
        package=provider.package,
        mixes_heads=provider.mixes_heads,
        linear=provider.linear,
        passes=passes,
        tokens=tokens,
        multiply_adds=needed.multiply_adds if needed else None,
        **columns,
    )
