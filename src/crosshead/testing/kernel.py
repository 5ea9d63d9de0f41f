"""The criterion that every kernel of the operator has to meet; for users who add one, too."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from crosshead.attention.functional import interactive_attention
from crosshead.measure.budgets import assert_within_budget
from crosshead.testing.inputs import OperatorInputs, make_inputs, output_and_gradients
from crosshead.testing.jitter import jittered_results
from crosshead.testing.oracle import dense_attention

# Tokens, channels, or both back to front: plain arithmetic in four orders of summation.
ORDERS = ((), (2,), (3,), (2, 3))
# Runs of plain arithmetic with other roundings: a few at a time, and how often.
RUNS, REPEATS = 4, 16


class Yardstick:
    """The budget of one call of the operator, to measure any number of implementations with.

    The reference in four orders of summation, and up to 64 runs with random roundings. More runs can only
    allow more, so they are made while an error is outside.

    Args:
        draws: what the implementations are called with, all of one shape and dtype.
        scale: factor on the logits; `D ** -0.5` when None.

    Example:
        >>> from functools import partial
        >>> yardstick = Yardstick(draw_inputs(draws=1, mixing="both"), scale=0.5)
        >>> yardstick.assert_right(partial(interactive_attention, impl="streamed"))["output"].shape
        torch.Size([252])
    """

    def __init__(self, draws: Sequence[OperatorInputs], *, scale: float | None = None) -> None:
        self.draws, self.scale = draws, scale
        self.exact = self._stacked(dense_attention, [inputs.to(torch.float64) for inputs in draws])
        self.plain = [
            self._stacked(interactive_attention, draws, reverse=order, impl="reference") for order in ORDERS
        ]

    def assert_right(self, attention: Callable[..., Tensor]) -> dict[str, Tensor]:
        """Output and every gradient, over all draws, are inside the budget.

        Args:
            attention: called as `interactive_attention`, without `impl`.

        Returns:
            What was measured, flat, draw after draw.

        Raises:
            AssertionError: if another dtype comes out, or an error is larger than float64 and the reference
                allow: see `assert_within_budget`.
        """
        actual = self._stacked(attention, self.draws)
        self.assert_within(actual)
        return actual

    def assert_within(self, actual: dict[str, Tensor]) -> None:
        """Results that were measured already, flat, draw after draw, are inside the budget.

        Args:
            actual: `output`, and `grad NAME` of each input that requires it.

        Raises:
            AssertionError: if `assert_right` would raise it.
        """
        dtypes = {name: x.dtype for name, x in actual.items()}
        assert dtypes == {name: x.dtype for name, x in self.plain[0].items()}
        while True:
            try:
                assert_within_budget(actual, exact=self.exact, reference=self.plain)
                return
            except AssertionError:
                repeats = (len(self.plain) - len(ORDERS)) // RUNS
                if repeats == REPEATS:
                    raise
            self.plain += self._with_random_roundings(seed=repeats)

    def _with_random_roundings(self, *, seed: int) -> list[dict[str, Tensor]]:
        runs = [jittered_results(each, runs=RUNS, scale=self.scale, seed=seed) for each in self.draws]
        return [_flat(each) for each in zip(*runs, strict=True)]

    def _stacked(
        self, attention: Callable[..., Tensor], draws: Sequence[OperatorInputs], **options: Any
    ) -> dict[str, Tensor]:
        if self.scale is not None:
            options["scale"] = self.scale
        return _flat([output_and_gradients(attention, each, **options) for each in draws])


def assert_kernel_right(
    draws: Sequence[OperatorInputs], *, attention: Callable[..., Tensor], scale: float | None = None
) -> None:
    """Output and every gradient, over several draws, are inside the budget that the reference sets.

    Args:
        draws: what to call it with, all of one shape and dtype.
        attention: the kernel, called as `interactive_attention`, without `impl`.
        scale: factor on the logits; `D ** -0.5` when None.

    Raises:
        AssertionError: if an error is outside, as `Yardstick.assert_right` says.

    Example:
        >>> from functools import partial
        >>> streamed = partial(interactive_attention, impl="streamed")
        >>> assert_kernel_right(draw_inputs(draws=1, mixing="both"), attention=streamed)
    """
    Yardstick(draws, scale=scale).assert_right(attention)


def draw_inputs(*, draws: int = 2, seed: int = 0, **sizes) -> list[OperatorInputs]:
    """Inputs from several seeds.

    Args:
        draws: how many.
        seed: the first seed.
        **sizes: as `make_inputs` takes them.

    Example:
        >>> len(draw_inputs(draws=3, heads=2))
        3
    """
    return [make_inputs(seed=each, **sizes) for each in range(seed, seed + draws)]


def _flat(results: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.cat([result[name].flatten() for result in results]) for name in results[0]}
