"""What the rows of a study say: means with standard errors, and differences paired by seed."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scipy import stats

from crosshead.study.trial import Shape

Row = Mapping[str, str]
SHAPE = tuple(Shape.__dataclass_fields__)
# The same in all trials of one candidate.
CANDIDATE = ("data", "attention", *SHAPE, "samples", "batch_size", "weight_decay", "precision")


@dataclass(frozen=True, kw_only=True)
class Summary:
    """The published trials of one candidate.

    Attributes:
        label: the mechanism, and whatever else sets the candidate apart in its study.
        attention: the mechanism with its options.
        seeds: of the trials.
        accuracy: mean, between 0 and 1.
        standard_error: of the mean; NaN for one trial.
        learning_rate: the chosen one.
        parameters: learned numbers.
        facts: what decides the candidate, and its learning rate.
    """

    label: str
    attention: str
    seeds: tuple[int, ...]
    accuracy: float
    standard_error: float
    learning_rate: float
    parameters: int
    facts: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class Difference:
    """The mean of differences paired by seed, with its 95 % interval.

    Attributes:
        pairs: how many.
        mean: of the differences, first minus second.
        low: lower end of the interval; NaN for one pair.
        high: upper end.
        p_value: two-sided, of Student's t.
    """

    pairs: int
    mean: float
    low: float
    high: float
    p_value: float

    def in_words(self) -> tuple[str, str]:
        """The mean in per cent, and its interval or why there is none.

        Example:
            >>> paired([0.01, 0.02, 0.03]).in_words(), paired([-0.1]).in_words()
            (('+2.00', '-0.48 to +4.48'), ('-10.00', 'no interval: one seed'))
        """
        if math.isnan(self.mean):
            return "nan", "no interval: a training diverged"
        interval = f"{100 * self.low:+.2f} to {100 * self.high:+.2f}"
        return f"{100 * self.mean:+.2f}", "no interval: one seed" if self.pairs == 1 else interval


def summaries(rows: Sequence[Row]) -> list[Summary]:
    """One summary for each candidate that has published trials, the most accurate first.

    Example:
        >>> summaries([])
        []
    """
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        if row["split"] == "test":
            groups.setdefault(tuple(row[name] for name in CANDIDATE), []).append(row)
    differing = [
        name
        for place, name in enumerate(CANDIDATE)
        if name != "attention" and len({key[place] for key in groups}) > 1
    ]
    found = []
    for trials in groups.values():
        # Where a study was repeated with other learning rates, the last choice stands.
        rate = trials[-1]["learning_rate"]
        group = [row for row in trials if row["learning_rate"] == rate]
        accuracies = [float(row["accuracy"]) for row in group]
        mean, error = mean_and_error(accuracies)
        facts = {name: group[0][name] for name in (*CANDIDATE, "learning_rate")}
        apart = ", ".join(_in_words(name, facts) for name in differing)
        found.append(
            Summary(
                label=" · ".join(filter(None, (facts["attention"], apart))),
                attention=facts["attention"],
                seeds=tuple(sorted(int(row["seed"]) for row in group)),
                accuracy=mean,
                standard_error=error,
                learning_rate=float(rate),
                parameters=int(group[0]["parameters"]),
                facts=facts,
            )
        )
    # One that diverged has no mean, and comes last.
    return sorted(found, key=lambda summary: (math.isnan(summary.accuracy), -summary.accuracy))


def _in_words(name: str, facts: Mapping[str, str]) -> str:
    if name == "image_size":
        return f"{facts[name]} {'tokens' if facts['data'] == 'list-ops' else 'pixels'}"
    return f"{name.replace('_', ' ')} {facts[name]}"


def mean_and_error(values: Sequence[float]) -> tuple[float, float]:
    """Mean and its standard error; the error of a single value is not known, and NaN.

    Example:
        >>> mean_and_error([1.0, 2.0, 3.0])
        (2.0, 0.5773502691896258)
    """
    # Where one is missing, both are; the standard library fails at its deviation.
    if len(values) < 2 or any(math.isnan(value) for value in values):
        return statistics.fmean(values), math.nan
    return statistics.fmean(values), statistics.stdev(values) / math.sqrt(len(values))


def difference(rows: Sequence[Row], first: Mapping[str, str], second: Mapping[str, str]) -> Difference | None:
    """How much more accurate the first candidate is, over the seeds that both have; None without any.

    Args:
        rows: of the study.
        first: the facts of a candidate: `Summary.facts`.
        second: those of the other.
    """
    by_seed = [
        {
            row["seed"]: float(row["accuracy"])
            for row in rows
            if row["split"] == "test" and all(row[name] == value for name, value in facts.items())
        }
        for facts in (first, second)
    ]
    shared = sorted(by_seed[0].keys() & by_seed[1].keys())
    return paired([by_seed[0][seed] - by_seed[1][seed] for seed in shared]) if shared else None


def paired(differences: Sequence[float]) -> Difference:
    """Mean, 95 % interval and p-value of paired differences, by Student's t.

    Example:
        >>> found = paired([0.01, 0.02, 0.03])
        >>> round(found.mean, 4), round(found.low, 4), round(found.high, 4)
        (0.02, -0.0048, 0.0448)
    """
    mean, error = mean_and_error(differences)
    if len(differences) < 2:
        return Difference(pairs=1, mean=mean, low=math.nan, high=math.nan, p_value=math.nan)
    half = float(stats.t.ppf(0.975, len(differences) - 1)) * error
    p_value = (
        2 * float(stats.t.sf(abs(mean / error), len(differences) - 1))
        if error
        else (1.0 if mean == 0 else 0.0)
    )
    return Difference(pairs=len(differences), mean=mean, low=mean - half, high=mean + half, p_value=p_value)
