"""The error budget of an implementation: how far from float64 it may be, given how far plain arithmetic is.

An implementation passes where its largest error against float64 is at most twice that of the same-precision
reference plus a rounding band `eps * max|value|`, and likewise for the relative root mean square. The factor
of two grants other roundings, the band a last one; nothing is tuned.

One run of plain arithmetic can be right by luck: where a number is ill-conditioned, where there are few
numbers, and where a gradient is exactly zero because the terms of a difference are equal, as with one key,
whose weight is always one. What rounding costs there goes by the terms and not by their difference. So give
the reference in several orders of summation, and runs with random roundings
(`crosshead.testing.jitter.jittered_results`), which round each term: the largest error counts.

A number that is not finite is outside, unless it is the exact one rounded: in float16 a gradient beyond
65,504 is infinite, and one that fits must be there. Float16's range is also left by aggregates whose output
would fit: there alone, what is not finite in a run of plain arithmetic may be the same, infinity or NaN.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Deviation:
    """How far one tensor is from float64, and how far it may be."""

    name: str
    error: float
    allowed: float
    relative_rms: float
    allowed_relative_rms: float

    @property
    def within(self) -> bool:
        """Whether both errors are inside the budget; no error is inside one that is not finite."""
        return self.error <= self.allowed < inf and self.relative_rms <= self.allowed_relative_rms < inf

    def __str__(self) -> str:
        verdict = "within" if self.within else "OUTSIDE"
        return (
            f"{self.name}: {verdict} budget, largest error {self.error:.3e} (allowed {self.allowed:.3e}), "
            f"relative RMS {self.relative_rms:.3e} (allowed {self.allowed_relative_rms:.3e})"
        )


def deviation(name: str, actual: Tensor, *, exact: Tensor, reference: Tensor | Sequence[Tensor]) -> Deviation:
    """Measures one tensor against its budget.

    Args:
        name: what the tensor is, for the report.
        actual: the tensor under test, in the precision under test.
        exact: the same computed in float64 from the same (already rounded) inputs.
        reference: the same computed by plain arithmetic in the precision under test, once or with several
            orders of summation and roundings; the largest error counts.

    Returns:
        The two errors with what is allowed.

    Raises:
        ValueError: if shapes differ, `exact` is not float64, or `reference` has another dtype than `actual`.

    Example:
        >>> exact = torch.tensor([1.0, 2.0], dtype=torch.float64)
        >>> deviation("y", exact.float(), exact=exact, reference=exact.float()).within
        True
        >>> deviation("y", exact.float() + 1e-3, exact=exact, reference=exact.float()).within
        False
    """
    references = [reference] if isinstance(reference, Tensor) else list(reference)
    for other in (exact, *references):
        if other.shape != actual.shape:
            raise ValueError(
                f"{name}: shapes {tuple(actual.shape)} and {tuple(other.shape)} differ; they must be equal: "
                "compute all from the same inputs"
            )
    dtypes = {plain.dtype for plain in references}
    if exact.dtype != torch.float64 or dtypes != {actual.dtype}:
        raise ValueError(
            f"{name}: exact is {exact.dtype}, reference {dtypes} for an actual of {actual.dtype}; "
            "needed are float64 and the dtype of actual: convert the inputs, not the result"
        )
    if actual.numel() == 0:
        return Deviation(name=name, error=0.0, allowed=0.0, relative_rms=0.0, allowed_relative_rms=0.0)
    eps = torch.finfo(actual.dtype).eps
    exact = exact.detach().cpu()
    actual, *references = (x.detach().cpu() for x in (actual, *references))
    overflowing = references if actual.dtype == torch.float16 else []
    error = _error(actual, exact, excused=[exact.to(actual.dtype), *overflowing])
    plain_errors = [_error(plain, exact, excused=[plain]) for plain in references]
    typical = _rms(exact) or 1.0
    return Deviation(
        name=name,
        error=_largest(error),
        allowed=2 * max(map(_largest, plain_errors)) + eps * _largest(exact),
        relative_rms=_rms(error) / typical,
        allowed_relative_rms=2 * max(map(_rms, plain_errors)) / typical + eps,
    )


def assert_within_budget(
    actual: Mapping[str, Tensor],
    *,
    exact: Mapping[str, Tensor],
    reference: Mapping[str, Tensor] | Sequence[Mapping[str, Tensor]],
) -> list[Deviation]:
    """Requires every tensor of a result, outputs and gradients alike, to be inside its budget.

    Args:
        actual: named tensors under test, as `crosshead.testing.inputs.output_and_gradients` returns them.
        exact: the same in float64.
        reference: the same by plain arithmetic in the precision under test, once or with several orders of
            summation and roundings.

    Returns:
        All deviations, for a table.

    Raises:
        AssertionError: if a tensor is outside its budget; the message names each, and by how much.
        ValueError: if they do not hold the same names.

    Example:
        >>> y = {"y": torch.ones(3, dtype=torch.float64)}
        >>> [d.within for d in assert_within_budget(y, exact=y, reference=y)]
        [True]
    """
    references = [reference] if isinstance(reference, Mapping) else list(reference)
    for other in (exact, *references):
        if other.keys() != actual.keys():
            raise ValueError(
                f"the results name {sorted(actual)} and {sorted(other)}; the names must be the same: ask for "
                "the same gradients"
            )
    measured = [
        deviation(name, x, exact=exact[name], reference=[plain[name] for plain in references])
        for name, x in actual.items()
    ]
    outside = [str(d) for d in measured if not d.within]
    if outside:
        raise AssertionError("\n".join(outside))
    return measured


def _error(x: Tensor, exact: Tensor, *, excused: Sequence[Tensor]) -> Tensor:
    """How far off, in float64; where x is not finite and equals one of those that are excused: not at all."""
    alike = torch.stack([(x == other) | (x.isnan() & other.isnan()) for other in excused]).any(0)
    return (x.double() - exact).masked_fill(alike & ~x.isfinite(), 0)


def _largest(x: Tensor) -> float:
    return x.abs().max().item()


def _rms(x: Tensor) -> float:
    return x.square().mean().sqrt().item()
