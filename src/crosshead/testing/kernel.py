"""The criterion that every kernel of the operator has to meet; for users who add one, too."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from crosshead.attention.functional import interactive_attention
from crosshead.testing.budgets import assert_within_budget
from crosshead.testing.inputs import OperatorInputs, make_inputs, output_and_gradients
from crosshead.testing.oracle import dense_attention

# Tokens, channels, or both back to front: plain arithmetic in four orders of summation.
ORDERS = ((), (2,), (3,), (2, 3))


def assert_kernel_right(
    draws: Sequence[OperatorInputs], *, attention: Callable[..., Tensor], **options
) -> None:
    """Output and every gradient, over several draws, are inside the budget that the reference sets.

    Args:
        draws: what to call it with, all of one shape and dtype.
        attention: the kernel, called as `interactive_attention`, without `impl`.
        **options: passed to it and to the reference, such as `scale`.

    Raises:
        AssertionError: another dtype comes out, or an error is larger than float64 and the reference allow:
            see `assert_within_budget`.

    Example:
        >>> from functools import partial
        >>> streamed = partial(interactive_attention, impl="streamed")
        >>> assert_kernel_right(draw_inputs(draws=1, mixing="both"), attention=streamed)
    """

    def stacked(
        function: Callable[..., Tensor], inputs: Sequence[OperatorInputs], **extra
    ) -> dict[str, Tensor]:
        results = [output_and_gradients(function, each, **options, **extra) for each in inputs]
        return {name: torch.cat([result[name].flatten() for result in results]) for name in results[0]}

    actual = stacked(attention, draws)
    exact = stacked(dense_attention, [inputs.to(torch.float64) for inputs in draws])
    plain = [stacked(interactive_attention, draws, reverse=order, impl="reference") for order in ORDERS]
    assert {x.dtype for x in actual.values()} == {draws[0].query.dtype}
    assert_within_budget(actual, exact=exact, reference=plain)


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
