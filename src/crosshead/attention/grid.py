"""Grids of tokens and masks over them: what they must be, each check written once.

Legend: `B` batch, `N` tokens, `C` channels. A grid is the lengths of one to three axes; prefix tokens (class,
registers) stand before it. A mask is bool `(B, N)`, True = takes part.
"""

import operator
from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor


def as_integer(name: str, value: Any) -> int:
    """A Python integer for one of numpy or a tensor of one element; a tracer's symbol for a size is kept.

    Raises:
        TypeError: if `value` is not an integer, or is a bool.

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
    """Whether `value` is a size as `torch.jit.trace` hands it out, a tensor of one number."""
    return isinstance(value, Tensor) and torch.jit.is_tracing()


def as_axis_lengths(name: str, grid: Sequence[int]) -> tuple[int, ...]:
    """The lengths of one to three axes, from any sequence of integers, `torch.Size` included.

    Raises:
        ValueError: if they are not positive, or not one to three.
        TypeError: if `grid` is not a sequence of integers.

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


def check_grid(
    name: str, grid: Sequence[int], *, of: str, tokens: int, num_prefix_tokens: int
) -> tuple[int, ...]:
    """The axis lengths of a grid that, with the prefix tokens, makes up the `tokens` of the argument `of`.

    Raises:
        ValueError: if the axis lengths are not one to three positive ones, or the tokens are more or fewer.
        TypeError: if `grid` is not a sequence of integers.

    Example:
        >>> check_grid("grid", [3, 4], of="x", tokens=13, num_prefix_tokens=1)
        (3, 4)
    """
    grid = as_axis_lengths(name, grid)
    if num_prefix_tokens < 0:
        raise ValueError(f"num_prefix_tokens must not be negative; got {num_prefix_tokens}")
    if num_prefix_tokens + prod(grid) != tokens:
        raise ValueError(
            f"{name}={grid} with {num_prefix_tokens} prefix tokens makes {num_prefix_tokens + prod(grid)} "
            f"tokens; {of} has {tokens}: pass the grid that the tokens were cut from, and count class and "
            "register tokens in num_prefix_tokens"
        )
    return grid


def cells_per_axis(grid: Sequence[int], landmarks: int | Sequence[int]) -> tuple[int, ...]:
    """The cells along each axis: `min(landmarks, axis)`.

    Raises:
        ValueError: if landmarks are not positive, or not one for each axis.
        TypeError: if they are not integers.

    Example:
        >>> cells_per_axis((56, 5), 7)
        (7, 5)
    """
    wanted = axis_landmarks(landmarks)
    if not isinstance(landmarks, Sequence):
        wanted *= len(grid)
    if len(wanted) != len(grid):
        raise ValueError(
            f"landmarks must be one integer or one for each axis of the grid {tuple(grid)}; got {landmarks}"
        )
    return tuple(_minimum(cells, axis) for cells, axis in zip(wanted, grid, strict=True))


def axis_landmarks(landmarks: int | Sequence[int]) -> tuple[int, ...]:
    """The numbers given as `landmarks`: one that holds for every axis, or one to three.

    Raises:
        ValueError: if the numbers are not positive, or not one to three.
        TypeError: if they are not integers.

    Example:
        >>> axis_landmarks(7), axis_landmarks((7, 5))
        ((7,), (7, 5))
    """
    given = landmarks if isinstance(landmarks, Sequence) else (landmarks,)
    numbers = tuple(as_integer("each number of landmarks", number) for number in given)
    if not 1 <= len(numbers) <= 3 or any(number < 1 for number in numbers):
        raise ValueError(f"landmarks must be one to three positive integers, one per axis; got {landmarks!r}")
    return numbers


def _minimum(a: Any, b: Any) -> Any:
    """A minimum that tracers can follow, where the built-in one would fix the size."""
    if is_traced(a) or is_traced(b):
        return torch.minimum(torch.as_tensor(a), torch.as_tensor(b))
    # Two numbers of Python: torch 2.11 does not compile a `sym_min` of these.
    return min(a, b) if isinstance(a, int) and isinstance(b, int) else torch.sym_min(a, b)


def check_mask(name: str, mask: Tensor | None, x: Tensor, *, tokens: int) -> None:
    """Refuses a mask that is not bool `(batch, tokens)` on the device of `x`, whose first axis is the batch.

    Raises:
        TypeError: if it is not a tensor, or has another dtype or device.
        ValueError: if it has another shape.
    """
    if mask is None:
        return
    if not isinstance(mask, Tensor):
        raise TypeError(
            f"{name} must be a bool tensor (batch, tokens), True = takes part; got {type(mask).__name__}: "
            f"convert it with torch.as_tensor({name})"
        )
    if mask.dtype != torch.bool:
        raise TypeError(
            f"{name} must be bool, True = takes part; got {mask.dtype}: convert ones and zeros with "
            f"{name}.bool(), zeros and minus infinity with {name} == 0"
        )
    if tuple(mask.shape) != (x.shape[0], tokens):
        raise ValueError(f"{name} must be (batch, tokens) = {(x.shape[0], tokens)}; got {tuple(mask.shape)}")
    if mask.device != x.device:
        raise TypeError(f"{name} must be on {x.device} like its tokens; got {mask.device}: move one of them")


def refuse_nested(name: str, x: Tensor, *, mask: str) -> None:
    """Refuses a nested tensor: tokens are one tensor, padded, with a mask.

    Raises:
        TypeError: if `x` is nested.
    """
    if x.is_nested:
        raise TypeError(
            f"{name} must be one padded tensor; got a nested tensor: pad it with "
            f"torch.nested.to_padded_tensor({name}, 0.0), and say with {mask} which tokens take part"
        )


def zero_outside(mask: Tensor | None, x: Tensor) -> Tensor:
    """`(B, ..., N, C)` with zeros at masked tokens, whatever stood there, NaN included."""
    return x if mask is None else x.masked_fill(~along_tokens(mask, x), 0)


def along_tokens(mask: Tensor, x: Tensor) -> Tensor:
    """The mask `(B, N)` as `(B, 1, ..., N, 1)`, broadcastable over `x`."""
    return mask.reshape(mask.shape[0], *([1] * (x.ndim - 3)), mask.shape[1], 1)
