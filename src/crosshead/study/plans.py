"""Which candidates and trials make a study. Imports no torch."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from statistics import fmean

from crosshead.study.options import AblationOptions, ConjunctionsOptions, HeadsOptions, StudyOptions
from crosshead.study.trial import Ledger, Shape, Trial

PRIMARY = ("interactive:mixing=both", "interactive:mixing=none")
# The same as the first, with matrices that learn at a tenth of the rate of all else.
SLOW_MIXING = "interactive-slow-mixing:mixing=both,scale=0.1"
# Learning rates are chosen by trainings with seeds from here on, which no published result has.
SELECT_SEED = 1000


class Candidate:
    """One thing to compare: a mechanism in a model.

    Args:
        attention: the mechanism with its options.
        shape: the model.
        options: of the study.
        precision: Lightning's name of the precision.
        alternatives: other forms of the mechanism, of which the best is chosen as learning rates are.
    """

    def __init__(
        self,
        attention: str,
        shape: Shape,
        options: StudyOptions,
        precision: str,
        *,
        alternatives: Sequence[str] = (),
    ) -> None:
        budget = options.budget()
        self.attention = attention
        self.forms = (attention, *alternatives)
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

    def choices(self) -> list[Trial]:
        """What can be chosen, as the trials of the first seed: each form at each rate, the forms in order."""
        common = replace(self.trial, split="validation", samples=self.select_samples, seed=SELECT_SEED)
        return [
            replace(common, attention=form, learning_rate=rate)
            for form in self.forms
            for rate in self.options.learning_rates
        ]

    def selecting(self) -> list[Trial]:
        """The trials that choose its form and learning rate; none where there is no choice."""
        choices = self.choices()
        return [trial for choice in choices for trial in self._repeated(choice)] if len(choices) > 1 else []

    def _repeated(self, choice: Trial) -> list[Trial]:
        return [replace(choice, seed=SELECT_SEED + place) for place in range(self.options.select_seeds)]

    def testing(self, ledger: Ledger) -> list[Trial]:
        """The trials that are published, once form and rate are chosen; empty before that."""
        chosen = self.chosen(ledger)
        if chosen is None:
            return []
        found = replace(self.trial, attention=chosen.attention, learning_rate=chosen.learning_rate)
        return [replace(found, seed=seed) for seed in range(self.options.seeds)]

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

    def chosen(self, ledger: Ledger) -> Trial | None:
        """The choice with the best mean accuracy on held-out training samples; None until all were tried.

        Of equals the highest rate is chosen; where every training diverged, the lowest, which shows it.
        """
        choices = self.choices()
        if len(choices) == 1:
            return choices[0]
        scores = {}
        for choice in choices:
            rows = [row for trial in self._repeated(choice) if (row := ledger.find(trial)) is not None]
            if len(rows) < self.options.select_seeds:
                return None
            scores[choice] = fmean(float(row["accuracy"]) for row in rows)
        finite = [choice for choice in choices if not math.isnan(scores[choice])]
        if not finite:
            return min(choices, key=lambda choice: choice.learning_rate)
        return max(finite, key=lambda choice: (scores[choice], choice.learning_rate))


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
    names = {
        "mixing": [alone, "interactive:mixing=logits", "interactive:mixing=weights"],
        "factor": [f"interactive-one-factor:factor={factor}" for factor in ("query", "key")],
        "form": [
            *(
                f"interactive:mixing_group_size={size}"
                for size in (4, 8)
                if size < shape.heads and shape.heads % size == 0
            ),
            *(f"interactive-low-rank:rank={rank}" for rank in (2, 4)),
        ],
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


def heads(options: HeadsOptions, precision: str) -> list[Candidate]:
    """Both arms at every number of heads; the one whose heads talk also chooses how fast they learn to."""
    both, none = PRIMARY
    return [
        candidate
        for shape in _shapes(options, options.head_counts)
        for candidate in (
            Candidate(both, shape, options, precision, alternatives=(SLOW_MIXING,)),
            Candidate(none, shape, options, precision),
        )
    ]


def conjunctions(options: ConjunctionsOptions, precision: str) -> list[Candidate]:
    """Every mechanism at every number of heads."""
    return [
        Candidate(attention, shape, options, precision)
        for shape in _shapes(options, options.head_counts)
        for attention in dict.fromkeys(options.mechanisms)
    ]


def _shapes(options: StudyOptions, head_counts: Sequence[int]) -> list[Shape]:
    shape = options.budget().shape
    for count in head_counts:
        if count < 1 or shape.dim % count:
            raise ValueError(f"head_counts hold {count}: give divisors of dim={shape.dim}")
    return [replace(shape, heads=count) for count in dict.fromkeys(head_counts)]
