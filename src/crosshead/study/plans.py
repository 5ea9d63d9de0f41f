"""Which candidates and trials make a study. Imports no torch."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

from crosshead.study.options import AblationOptions, LengthsOptions, StudyOptions
from crosshead.study.trial import Ledger, Shape, Trial

PRIMARY = ("interactive:mixing=both", "interactive:mixing=none")
# Learning rates are chosen by a training with a seed that no published result has.
SELECT_SEED = 1000


class Candidate:
    """One thing to compare: a mechanism in a model.

    Args:
        attention: the mechanism with its options.
        shape: the model.
        options: of the study.
        precision: Lightning's name of the precision.
    """

    def __init__(self, attention: str, shape: Shape, options: StudyOptions, precision: str) -> None:
        budget = options.budget()
        self.attention = attention
        self.options = options
        self.select_samples = budget.select_samples
        self.trial = Trial(
            data=options.data,
            split="test",
            attention=attention,
            shape=shape,
            samples=budget.samples,
            batch_size=options.batch_size,
            learning_rate=math.nan,
            weight_decay=options.weight_decay,
            precision=precision,
            seed=0,
        )

    def selecting(self) -> list[Trial]:
        """The trials that choose its learning rate; none where there is no choice."""
        rates = self.options.learning_rates
        if len(rates) == 1:
            return []
        common = replace(self.trial, split="validation", samples=self.select_samples, seed=SELECT_SEED)
        return [replace(common, learning_rate=rate) for rate in rates]

    def testing(self, ledger: Ledger) -> list[Trial]:
        """The trials that are published, once its learning rate is chosen; empty before that."""
        rate = self.chosen_rate(ledger)
        if rate is None:
            return []
        return [replace(self.trial, learning_rate=rate, seed=seed) for seed in range(self.options.seeds)]

    def all_samples(self) -> list[int]:
        """The training samples of each of its trials, finished or not."""
        return [trial.samples for trial in self.selecting()] + self.options.seeds * [self.trial.samples]

    def open_samples(self, ledger: Ledger) -> int:
        """The training samples of its unfinished trials."""
        tests = self.testing(ledger)
        open_tests = len(unfinished(tests, ledger)) if tests else self.options.seeds
        return (
            len(unfinished(self.selecting(), ledger)) * self.select_samples + open_tests * self.trial.samples
        )

    def chosen_rate(self, ledger: Ledger) -> float | None:
        """The rate with the best accuracy on held-out training samples; None until all were tried."""
        trials = self.selecting()
        if not trials:
            return self.options.learning_rates[0]
        rows = [row for trial in trials if (row := ledger.find(trial)) is not None]
        if len(rows) < len(trials):
            return None
        # A training that diverged has no accuracy; where all did, the lowest rate shows it.
        scored = [(float(row["accuracy"]), float(row["learning_rate"])) for row in rows]
        finite = [pair for pair in scored if not math.isnan(pair[0])]
        return max(finite)[1] if finite else min(self.options.learning_rates)


def unfinished(trials: Iterable[Trial], ledger: Ledger) -> list[Trial]:
    """The trials without a row."""
    return [trial for trial in trials if ledger.find(trial) is None]


def candidates(attentions: Sequence[str], options: StudyOptions, precision: str) -> list[Candidate]:
    """One candidate for each mechanism, all in the model that the options describe."""
    shape = options.budget().shape
    return [Candidate(attention, shape, options, precision) for attention in dict.fromkeys(attentions)]


def all_mechanisms() -> tuple[str, ...]:
    """Ours as it is, without mixing and with a local term, and every rival."""
    from crosshead.rivals.registry import MECHANISMS

    return ("interactive", "interactive:mixing=none", "interactive:local_kernel=3", *MECHANISMS)


def ablation(options: AblationOptions, precision: str) -> list[Candidate]:
    """Interactive attention as it is, and with one thing changed at a time."""
    shape = options.budget().shape
    found: dict[tuple[str, Shape], None] = {("interactive", shape): None}
    for group in options.groups:
        found |= dict.fromkeys(_changes(group, shape))
    return [Candidate(attention, changed, options, precision) for attention, changed in found]


def _changes(group: str, shape: Shape) -> list[tuple[str, Shape]]:
    alone = "interactive:mixing=none"
    if group == "landmarks":
        sides = sorted({min(cells, shape.side) for cells in (2, 4, 7, 10, 14)})
        return [("interactive", replace(shape, landmarks=cells)) for cells in sides]
    if group == "heads":
        fitting = [heads for heads in (2, 4, 8, 16, 32) if shape.dim % heads == 0]
        return [(name, replace(shape, heads=heads)) for heads in fitting for name in ("interactive", alone)]
    names = {
        "mixing": [alone, "interactive:mixing=logits", "interactive:mixing=weights"],
        "factor": [f"interactive-one-factor:factor={factor}" for factor in ("query", "key")],
        "layers": ["interactive-two-layers"],
        "start": ["interactive-random-mixing:std=0.5"],
        "local": ["interactive:local_kernel=3"],
        # A convolution whose stride is its width needs cells of one size.
        "pooling": [f"interactive-strided:cell={shape.side // shape.landmarks}"]
        if shape.side % shape.landmarks == 0
        else [],
        "stages": [f"ivit:attention_stages={stages}" for stages in ("(3,)", "(2,3)", "(1,2,3)")],
    }[group]
    return [(name, shape) for name in names]


def lengths(options: LengthsOptions, precision: str) -> list[Candidate]:
    """Every mechanism at every length, with the same number of landmarks."""
    shape = options.budget().shape
    return [
        Candidate(attention, replace(shape, image_size=size), options, precision)
        for size in options.lengths()
        for attention in dict.fromkeys(options.mechanisms)
    ]
