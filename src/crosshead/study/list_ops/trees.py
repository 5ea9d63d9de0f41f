"""Random ListOps trees, many at a time, level by level.

A level holds the nodes of one depth of all trees as arrays with one entry for each node: trees in order,
siblings side by side, so that the nodes' arguments are the next level, in order.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from crosshead.study.list_ops.grammar import CLOSE, OPERATORS, TOKEN_OF

OPERATOR_PROBABILITY = 0.25
# Roots that grow together: enough to make up for numpy's calls, few enough for the processor's cache.
ROOTS = 1024
_NAMES = tuple(OPERATORS)
_MIN, _MAX, _MED, _SM = range(len(_NAMES))
_FIRST_DIGIT, _FIRST_OPERATOR, _CLOSE = TOKEN_OF["0"], TOKEN_OF[_NAMES[0]], TOKEN_OF[CLOSE]


@dataclass(frozen=True)
class Level:
    """The nodes of one depth, (nodes,) each.

    Attributes:
        trees: the tree that a node belongs to.
        counts: how many arguments it has; 0 for a digit.
        symbols: 0..9 for a digit; for an operator its place in `OPERATORS`.
    """

    trees: np.ndarray
    counts: np.ndarray
    symbols: np.ndarray


def random_expressions(
    rng: np.random.Generator, *, max_depth: int, max_args: int, min_length: int, max_length: int
) -> Iterator[tuple[list[np.ndarray], np.ndarray]]:
    """Endless batches of expressions with min_length < tokens < max_length, and their values.

    The root has depth 1. A node less deep than `max_depth` is an operator with probability 1/4, each of the
    four alike, with 2..max_args arguments, each number alike; all other nodes are digits, each alike. Trees
    of other lengths are rejected, as the published procedure does, so the distribution is the published one;
    two short cuts leave it as it is: the root is an operator at once (a digit alone is too short), and a tree
    that is already too long is left alone, since it can only grow.

    Yields:
        The tokens of each expression, uint8, (length,), and their values, (expressions,); both may be empty.
    """
    while True:
        levels, lengths = _grow(rng, max_depth=max_depth, max_args=max_args, max_length=max_length)
        kept = (min_length < lengths) & (lengths < max_length)
        renumbered = np.cumsum(kept) - 1
        levels = [
            Level(renumbered[level.trees[stays]], level.counts[stays], level.symbols[stays])
            for level in levels
            for stays in (kept[level.trees],)
        ]
        lengths = lengths[kept]
        tokens = np.split(_write(levels, lengths), np.cumsum(lengths)[:-1]) if lengths.size else []
        yield tokens, _evaluate(levels)


def _grow(
    rng: np.random.Generator, *, max_depth: int, max_args: int, max_length: int
) -> tuple[list[Level], np.ndarray]:
    """Levels of `ROOTS` trees and the tokens of each; those that are too long are unfinished."""
    trees = np.arange(ROOTS)
    is_operator = np.ones(ROOTS, bool)
    lengths = np.zeros(ROOTS, int)
    levels = []
    for depth in range(1, max_depth + 1):
        if depth > 1:
            is_operator = (
                rng.random(len(trees)) < OPERATOR_PROBABILITY
                if depth < max_depth
                else np.zeros_like(trees, bool)
            )
        symbols = rng.integers(0, 10, len(trees), dtype=np.int8)
        operators = np.flatnonzero(is_operator)
        symbols[operators] = rng.integers(0, len(_NAMES), len(operators), dtype=np.int8)
        counts = np.zeros(len(trees), np.int64)
        counts[operators] = rng.integers(2, max_args + 1, len(operators))
        levels.append(Level(trees, counts, symbols))
        lengths += np.bincount(trees, minlength=ROOTS) + np.bincount(trees[operators], minlength=ROOTS)
        growing = operators[lengths[trees[operators]] < max_length]
        trees = np.repeat(trees[growing], counts[growing])
        if not len(trees):
            break
    return levels, lengths


def _write(levels: list[Level], lengths: np.ndarray) -> np.ndarray:
    """The tokens of all trees, one after the other, (sum of lengths,)."""
    # Upwards, the tokens of each node with all below it.
    spans = [np.ones(0, int)]
    for level in reversed(levels):
        spans.append(np.where(level.counts > 0, 2, 1) + _sum_of_arguments(level.counts, spans[-1]))
    spans = spans[:0:-1]
    tokens = np.empty(lengths.sum(), np.uint8)
    # Downwards, where each begins: behind the operator and the siblings before it.
    starts = np.cumsum(lengths) - lengths
    for level, span, below in zip(levels, spans, [*spans[1:], np.ones(0, int)], strict=True):
        is_operator = level.counts > 0
        tokens[starts] = level.symbols + np.where(is_operator, _FIRST_OPERATOR, _FIRST_DIGIT)
        tokens[(starts + span - 1)[is_operator]] = _CLOSE
        before = np.cumsum(below) - below
        firsts = np.cumsum(level.counts) - level.counts
        parents = np.repeat(np.arange(len(starts)), level.counts)
        starts = starts[parents] + 1 + before - before[firsts[parents]]
    return tokens


def _evaluate(levels: list[Level]) -> np.ndarray:
    """The values of the roots, (trees,)."""
    values = np.ones(0, np.int64)
    for level in reversed(levels):
        counts, symbols = level.counts, level.symbols.astype(np.int64)
        operators = np.flatnonzero(counts)
        if operators.size:
            widths = counts[operators]
            owners = np.repeat(np.arange(len(operators)), widths)
            firsts = np.cumsum(widths) - widths
            # Sorted inside of each owner's stretch: a value never reaches the next owner's.
            ordered = np.sort(owners * 10 + values) % 10
            names = symbols[operators]
            symbols[operators] = np.select(
                [names == _MIN, names == _MAX, names == _MED],
                [
                    ordered[firsts],
                    ordered[firsts + widths - 1],
                    (ordered[firsts + (widths - 1) // 2] + ordered[firsts + widths // 2]) // 2,
                ],
                np.add.reduceat(values, firsts) % 10,
            )
        values = symbols
    return values


def _sum_of_arguments(counts: np.ndarray, values: np.ndarray) -> np.ndarray:
    """For each node the sum over its arguments; 0 for a digit."""
    ends = np.cumsum(counts)
    running = np.concatenate([[0], np.cumsum(values)])
    return running[ends] - running[ends - counts]
