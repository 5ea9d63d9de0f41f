"""What the rows of a study say: means with standard errors, and differences paired by seed."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scipy import stats

from crosshead.study.trial import CANDIDATE

Row = Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Summary:
    """The published trials of one candidate.

    Attributes:
        label: the mechanism, and whatever else sets the candidate apart in its study.
        attention: the mechanism with its options.
        accuracies: between 0 and 1, by seed.
        accuracy: their mean.
        standard_error: of the mean; NaN for one trial.
        learning_rate: the chosen one.
        parameters: learned numbers.
        columns: what decides the candidate, and its learning rate, as in its rows.
    """

    label: str
    attention: str
    accuracies: dict[int, float]
    accuracy: float
    standard_error: float
    learning_rate: float
    parameters: int
    columns: dict[str, str]

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds of its trials, in ascending order."""
        return tuple(sorted(self.accuracies))


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
        accuracies = {int(row["seed"]): float(row["accuracy"]) for row in group}
        mean, error = mean_and_error(list(accuracies.values()))
        columns = {name: group[0][name] for name in (*CANDIDATE, "learning_rate")}
        apart = ", ".join(_in_words(name, columns) for name in differing)
        found.append(
            Summary(
                label=" · ".join(filter(None, (columns["attention"], apart))),
                attention=columns["attention"],
                accuracies=accuracies,
                accuracy=mean,
                standard_error=error,
                learning_rate=float(rate),
                parameters=int(group[0]["parameters"]),
                columns=columns,
            )
        )
    # One that diverged has no mean, and comes last.
    return sorted(found, key=lambda summary: (math.isnan(summary.accuracy), -summary.accuracy))


def _in_words(name: str, columns: Mapping[str, str]) -> str:
    if name == "heads":
        return f"{columns[name]} heads of {int(columns['dim']) // int(columns[name])}"
    return f"{name.replace('_', ' ')} {columns[name]}"


def mean_and_error(values: Sequence[float]) -> tuple[float, float]:
    """Mean and its standard error; the error of a single value is not known, and NaN.

    Example:
        >>> mean_and_error([1.0, 2.0, 3.0])
        (2.0, 0.5773502691896258)
    """
    return statistics.fmean(values), float(stats.sem(values)) if len(values) > 1 else math.nan


def difference(first: Summary, second: Summary) -> Difference | None:
    """How much more accurate the first candidate is, over the seeds that both have; None without any."""
    by_seed = differences_by_seed(first, second)
    return paired(list(by_seed.values())) if by_seed else None


def differences_by_seed(first: Summary, second: Summary) -> dict[int, float]:
    """The accuracies of the first candidate minus those of the second, for each seed that both have."""
    shared = sorted(first.accuracies.keys() & second.accuracies.keys())
    return {seed: first.accuracies[seed] - second.accuracies[seed] for seed in shared}


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
    student = stats.t(len(differences) - 1)
    half = float(student.ppf(0.975)) * error
    # Differences that are all equal are certain.
    p_value = 2 * float(student.sf(abs(mean / error))) if error else float(mean == 0)
    return Difference(pairs=len(differences), mean=mean, low=mean - half, high=mean + half, p_value=p_value)
