import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from crosshead.study.array_cache import cached_arrays
from crosshead.study.list_ops.grammar import VOCABULARY, decode, encode, evaluate_list_ops
from crosshead.study.list_ops.trees import random_expressions

__all__ = ["SequenceSplits", "Sequences", "decode", "encode", "evaluate_list_ops", "load_list_ops"]

# An expression belongs to one split, by the remainder of its checksum modulo eight: no two splits can share
# any.
SHARES = {"train": range(2, 8), "validation": range(1, 2), "test": range(1)}
# Part of the name of a cache file: another procedure, other expressions.
PROCEDURE = 1
# Batches of trees without a single new expression after which there are taken to be no more.
PATIENCE = 50

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Sequences:
    """Labelled sequences of tokens.

    Attributes:
        tokens: uint8, (n, length of the longest); 0 behind the end of a shorter one.
        lengths: tokens of each, (n,).
        labels: 0..9, (n,).

    Raises:
        ValueError: if there are not as many labels and lengths as sequences.
    """

    tokens: np.ndarray
    lengths: np.ndarray
    labels: np.ndarray

    def __post_init__(self) -> None:
        if not len(self.tokens) == len(self.lengths) == len(self.labels):
            raise ValueError(
                f"tokens are {len(self.tokens)}, lengths {len(self.lengths)} and labels {len(self.labels)}; "
                "give one of each for each sequence"
            )

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, kw_only=True)
class SequenceSplits:
    """Labelled sequences in three splits that have none in common.

    Attributes:
        train: what to learn from.
        validation: what to choose by.
        test: what to measure on: held out, never trained on.
        vocabulary: the word of each token; the first is padding.
        num_classes: labels are 0..num_classes - 1.

    Example:
        >>> splits = load_list_ops(train=20, validation=5, test=5, max_depth=4, min_length=10, max_length=30)
        >>> words = [splits.vocabulary[token] for token in splits.test.tokens[0] if token]
        >>> evaluate_list_ops(words) == int(splits.test.labels[0])
        True
    """

    train: Sequences
    validation: Sequences
    test: Sequences
    vocabulary: tuple[str, ...]
    num_classes: int


def load_list_ops(
    *,
    train: int = 96_000,
    validation: int = 2_000,
    test: int = 2_000,
    max_depth: int = 10,
    max_args: int = 10,
    min_length: int = 500,
    max_length: int = 2_000,
    seed: int = 0,
    cache_dir: str | Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> SequenceSplits:
    """ListOps: the value, 0..9, of a nested expression over digits such as `[MAX 2 9 [MIN 4 7 ] 0 ]`.

    Trees are drawn as `crosshead.study.list_ops.trees.random_expressions` says, those of unwanted length and
    duplicates left out. A split is a function of its seed, its size and the grammar: a larger one begins with
    a smaller one.

    Source: Nangia and Bowman 2018, arXiv 1804.06028; grammar, lengths and sizes of the Long Range Arena, Tay
    et al. 2020, arXiv 2011.04006, without the brackets that mark its tree binarily and which its pipeline
    deletes. Ours is how expressions are shared out: by their checksum, six eighths to training and one to
    each of the others.

    Args:
        train: how many expressions to learn from.
        validation: how many to choose by.
        test: how many to measure on.
        max_depth: nodes of this depth are digits; the root has depth 1.
        max_args: an operator has 2..max_args arguments.
        min_length: all expressions have more tokens than that.
        max_length: all expressions have fewer.
        seed: not negative.
        cache_dir: where to keep the arrays, made once; without one, they are made at each call.
        progress: called with the expressions made and those to make, for one split after the other.

    Returns:
        Three splits without a common sequence, a vocabulary of padding and fifteen words, ten classes.

    Raises:
        ValueError: if a number is too small, or the grammar has not so many expressions of that length.
        DataError: if a cache file is damaged, or cannot be read or written.

    Example:
        >>> splits = load_list_ops(train=8, validation=1, test=1, max_depth=3, min_length=5, max_length=12)
        >>> " ".join(decode(splits.train.tokens[0])), int(splits.train.labels[0])
        ('[MAX 6 6 2 6 9 ]', 9)
    """
    for name, value, least in (
        ("train", train, 1),
        ("validation", validation, 1),
        ("test", test, 1),
        ("max_depth", max_depth, 2),
        ("max_args", max_args, 2),
        ("min_length", min_length, 1),
        ("max_length", max_length, min_length + 2),
        ("seed", seed, 0),
    ):
        if value < least:
            raise ValueError(f"{name} is {value}; give {least} or more")
    grammar = {
        "max_depth": max_depth,
        "max_args": max_args,
        "min_length": min_length,
        "max_length": max_length,
    }

    def split(name: str, count: int) -> Sequences:
        arrays = cached_arrays(
            lambda: _draw(name, count, seed=seed, grammar=grammar, progress=progress),
            cache_dir=cache_dir,
            name=f"list-ops-{name}",
            parameters={**grammar, "split": name, "seed": seed, "count": count, "procedure": PROCEDURE},
            names=("tokens", "lengths", "labels"),
        )
        return Sequences(tokens=arrays["tokens"], lengths=arrays["lengths"], labels=arrays["labels"])

    return SequenceSplits(
        train=split("train", train),
        validation=split("validation", validation),
        test=split("test", test),
        vocabulary=VOCABULARY,
        num_classes=10,
    )


def _draw(
    split: str,
    count: int,
    *,
    seed: int,
    grammar: dict[str, int],
    progress: Callable[[int, int], None] | None,
) -> dict[str, np.ndarray]:
    """The first expressions of a split, each once."""
    logger.info("making %d ListOps expressions (%s)", count, split)
    rng = np.random.default_rng(seed)
    # Keeps the order in which they were drawn.
    drawn: dict[bytes, tuple[np.ndarray, int]] = {}
    batches = random_expressions(rng, **grammar)
    in_vain = 0
    while len(drawn) < count:
        before = len(drawn)
        for tokens, value in zip(*next(batches), strict=True):
            digest = hashlib.blake2b(tokens.tobytes(), digest_size=16).digest()
            if digest[0] % 8 in SHARES[split]:
                drawn[digest] = tokens, int(value)
        in_vain = in_vain + 1 if len(drawn) == before else 0
        if in_vain == PATIENCE:
            limits = ", ".join(f"{name} {value}" for name, value in grammar.items())
            raise ValueError(
                f"{split} is {count}, but only {len(drawn)} different expressions were found with {limits}: "
                "ask for fewer, or allow other lengths"
            )
        if progress is not None:
            progress(min(len(drawn), count), count)
    expressions = list(drawn.values())[:count]
    lengths = np.array([len(tokens) for tokens, _ in expressions])
    padded = np.zeros((count, lengths.max()), np.uint8)
    for row, (tokens, _) in zip(padded, expressions, strict=True):
        row[: len(tokens)] = tokens
    return {"tokens": padded, "lengths": lengths, "labels": np.array([value for _, value in expressions])}
