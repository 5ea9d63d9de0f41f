"""Tokens, heads and landmarks as a user names them, and the numbers that are meant.

A number counts from 0, prefix tokens (class, registers) first. A tuple is a place on the grid, such as
`(row, column)`. A list holds several of either.
"""

from collections.abc import Iterable, Sequence
from math import prod

from crosshead.attention.grid import as_integer

Place = int | tuple[int, ...]
Places = Place | Iterable[Place] | None
Heads = int | Iterable[int] | None


def place_numbers(places: Places, *, what: str, grid: Sequence[int], num_prefix_tokens: int = 0) -> list[int]:
    """The numbers of tokens, or of landmarks; all of them for None.

    Args:
        places: one or several.
        what: "token" or "landmark".
        grid: the lengths of its axes.
        num_prefix_tokens: how many stand before it.

    Raises:
        TypeError: if a place is neither a number nor a tuple of numbers.
        ValueError: if a place is outside, or there is none.

    Example:
        >>> place_numbers([0, (1, 2)], what="token", grid=(3, 4), num_prefix_tokens=1)
        [0, 7]
    """
    count = num_prefix_tokens + prod(grid)
    if places is None:
        return list(range(count))
    given = [places] if isinstance(places, tuple) or not isinstance(places, Iterable) else list(places)
    if not given:
        raise ValueError(f"{what}s must be one or more; got none")
    numbers = []
    for place in given:
        if isinstance(place, tuple):
            numbers.append(num_prefix_tokens + _number_on_grid(place, what, tuple(grid)))  # pyright: ignore[reportArgumentType]
        else:
            number = as_integer(f"each {what}", place)
            if not 0 <= number < count:
                before = f"{num_prefix_tokens} before the grid and " if num_prefix_tokens else ""
                raise ValueError(
                    f"{what} {number} is outside the grid {tuple(grid)}, {before}{prod(grid)} on it: give 0 "
                    f"to {count - 1}, or a place such as {(0,) * len(grid)}"
                )
            numbers.append(number)
    return numbers


def head_numbers(heads: Heads, count: int) -> list[int]:
    """The numbers of heads; all of them for None.

    Raises:
        TypeError: if a head is not a number.
        ValueError: if there is no such head, or none is given.

    Example:
        >>> head_numbers(2, 4), head_numbers(None, 4)
        ([2], [0, 1, 2, 3])
    """
    if heads is None:
        return list(range(count))
    numbers = [as_integer("each head", head) for head in (heads if isinstance(heads, Iterable) else [heads])]
    if not numbers:
        raise ValueError("heads must be one or more; got none: leave it out for all")
    for head in numbers:
        if not 0 <= head < count:
            nearest = min(max(head, 0), count - 1)
            raise ValueError(f"head must lie in 0 to {count - 1}; got {head}: the nearest is {nearest}")
    return numbers


def _number_on_grid(place: tuple[int, ...], what: str, grid: tuple[int, ...]) -> int:
    place = tuple(as_integer(f"each number of a {what}", number) for number in place)
    if len(place) != len(grid):
        raise ValueError(
            f"{what} {place} must have {len(grid)} numbers, one for each axis of the grid {grid}"
        )
    if not all(0 <= number < length for number, length in zip(place, grid, strict=True)):
        nearest = tuple(min(max(number, 0), length - 1) for number, length in zip(place, grid, strict=True))
        raise ValueError(f"{what} {place} is outside the grid {grid}: the nearest is {nearest}")
    number = 0
    for index, length in zip(place, grid, strict=True):
        number = number * length + index
    return number
