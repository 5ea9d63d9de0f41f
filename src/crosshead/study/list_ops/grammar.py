from collections.abc import Callable, Sequence

import numpy as np

PADDING = "<pad>"
CLOSE = "]"


def middle(values: list[int]) -> int:
    """The median, rounded down where it lies between two integers.

    Example:
        >>> middle([9, 1, 2]), middle([1, 2, 4, 9])
        (2, 3)
    """
    ordered = sorted(values)
    return (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) // 2


def sum_of_digits(values: list[int]) -> int:
    """The last digit of the sum.

    Example:
        >>> sum_of_digits([7, 8])
        5
    """
    return sum(values) % 10


OPERATORS: dict[str, Callable[[list[int]], int]] = {
    "[MIN": min,
    "[MAX": max,
    "[MED": middle,
    "[SM": sum_of_digits,
}
VOCABULARY = (PADDING, *map(str, range(10)), *OPERATORS, CLOSE)
TOKEN_OF = {word: token for token, word in enumerate(VOCABULARY)}


def evaluate_list_ops(tokens: Sequence[str]) -> int:
    """The value of an expression over digits, such as `[MAX 2 9 [MIN 4 7 ] 0 ]`.

    Source: Nangia and Bowman 2018, "ListOps: a diagnostic dataset for latent tree learning", arXiv
    1804.06028, with the operators of the Long Range Arena: minimum, maximum, median (rounded down) and
    sum modulo ten.

    Args:
        tokens: a digit, or an operator, one or more expressions and "]".

    Returns:
        0..9.

    Raises:
        ValueError: if a word is unknown, or the words are no single expression.

    Example:
        >>> evaluate_list_ops("[MAX 2 9 [MIN 4 7 ] 0 ]".split())
        9
    """
    # The arguments read so far of each expression that is still open; the first list takes the result.
    open_arguments: list[list[int]] = [[]]
    open_operators: list[str] = []
    for position, word in enumerate(tokens):
        if word in OPERATORS:
            open_operators.append(word)
            open_arguments.append([])
        elif word == CLOSE:
            if not open_operators or not open_arguments[-1]:
                raise ValueError(
                    f"tokens has {CLOSE!r} at position {position} with "
                    f"{'no argument before it' if open_operators else 'nothing to close'}; give one whole "
                    "expression"
                )
            value = OPERATORS[open_operators.pop()](open_arguments.pop())
            open_arguments[-1].append(value)
        elif len(word) == 1 and word in "0123456789":
            open_arguments[-1].append(int(word))
        else:
            raise ValueError(
                f"tokens has {word!r} at position {position}; the words are {', '.join(VOCABULARY[1:])}"
            )
    if open_operators or len(open_arguments[0]) != 1:
        raise ValueError(
            f"tokens leave {len(open_operators)} operators open and give {len(open_arguments[0])} values; "
            "give one whole expression"
        )
    return open_arguments[0][0]


def encode(words: Sequence[str]) -> np.ndarray:
    """Words to the numbers that stand for them, uint8, (length,).

    Raises:
        ValueError: if a word is not in the vocabulary.

    Example:
        >>> encode("[MAX 2 9 ]".split())
        array([12,  3, 10, 15], dtype=uint8)
    """
    unknown = [word for word in words if word not in TOKEN_OF]
    if unknown:
        raise ValueError(f"words has {unknown[0]!r}; the known ones are {', '.join(VOCABULARY)}")
    return np.array([TOKEN_OF[word] for word in words], np.uint8)


def decode(tokens: np.ndarray) -> tuple[str, ...]:
    """Numbers, (length,), to the words that they stand for; padding is left out.

    Raises:
        ValueError: if a number is not in the vocabulary.

    Example:
        >>> decode(np.array([12, 3, 10, 15, 0, 0]))
        ('[MAX', '2', '9', ']')
    """
    wrong = tokens[(tokens < 0) | (tokens >= len(VOCABULARY))]
    if wrong.size:
        raise ValueError(f"tokens has {wrong[0]}; the numbers are 0..{len(VOCABULARY) - 1}")
    return tuple(VOCABULARY[token] for token in tokens if token)
