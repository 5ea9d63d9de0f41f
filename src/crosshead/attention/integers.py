"""Integers from whoever counts: Python, numpy, or a tracer with symbols for sizes."""

import operator
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def as_integer(name: str, value: Any) -> int:
    """An integer of Python for one of numpy or a tensor of one element; one that a tracer follows stays so.

    Raises:
        TypeError: if `value` is no integer, or a bool.

    Example:
        >>> as_integer("landmarks", torch.tensor(7))
        7
    """
    if is_traced(value) or (isinstance(value, int | torch.SymInt) and not isinstance(value, bool)):
        return value  # pyright: ignore[reportReturnType] (what a tracer hands out behaves as an int)
    try:
        if not isinstance(value, bool):
            return operator.index(value)
    except TypeError:
        pass
    raise TypeError(
        f"{name} must be an integer; got {value!r} ({type(value).__name__}): convert it with int()"
    )


def is_traced(value: object) -> bool:
    """Whether it is a size as `torch.jit.trace` hands it out, a tensor of one number."""
    return isinstance(value, Tensor) and torch.jit.is_tracing()


def as_axis_lengths(name: str, grid: Sequence[int]) -> tuple[int, ...]:
    """The lengths of one to three axes: any sequence of integers, a `torch.Size` included.

    Raises:
        ValueError: if they are not positive, or not one to three.
        TypeError: if `grid` is no sequence of integers.

    Example:
        >>> as_axis_lengths("grid", [56, 40])
        (56, 40)
    """
    if not isinstance(grid, Sequence) or isinstance(grid, str):
        raise TypeError(
            f"{name} must be a tuple of axis lengths, such as (56, 56), or (n,) for a sequence; got {grid!r}"
        )
    lengths = tuple(as_integer(f"each axis of {name}", axis) for axis in grid)
    if not 1 <= len(lengths) <= 3 or any(axis < 1 for axis in lengths):
        raise ValueError(
            f"{name} must be one to three positive axis lengths, such as (56, 56); got {lengths}"
        )
    return lengths
