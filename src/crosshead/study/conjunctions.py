"""Look-ups by several attributes at once: how much one head can tell apart decides what can be learned.

A sample is a set of items and some queries. An item has a value of each attribute and carries a payload; a
query gives the values of some attributes, which exactly one item has, and the answer is that item's payload.
Twelve items are near misses: they differ from an item that is looked up in one of the attributes that are
asked for, so attention that compares fewer attributes takes them for it.

Legend: `n` samples, `I` items, `Q` queries, `A` attributes, `T = Q + I` tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from torch.utils.data import Dataset

from crosshead.study.trial import Data

ITEMS, NEAR_MISSES, ATTRIBUTES, VALUES, PAYLOADS = 24, 12, 4, 8, 16
# A token is a row of ATTRIBUTES + 1 words. Items have words for each value of each attribute and for each
# payload; queries have words of their own for the values, with one more for "any", and end with a word that
# says that they are queries.
ITEM_WORDS = VALUES * np.arange(ATTRIBUTES + 1)
QUERY_WORDS = ATTRIBUTES * VALUES + PAYLOADS + (VALUES + 1) * np.arange(ATTRIBUTES)
VOCABULARY = ATTRIBUTES * VALUES + PAYLOADS + ATTRIBUTES * (VALUES + 1) + 1
CHUNK = 4096


@dataclass(frozen=True, kw_only=True)
class LookUps:
    """What is asked for in each sample.

    Attributes:
        queries: look-ups `Q`, of as many different items.
        asked: attributes that each query names, drawn for each query; at most `ATTRIBUTES`.
    """

    queries: int
    asked: int


# One query that names all attributes, and twelve that name three each.
LOOK_UPS: dict[Data, LookUps] = {
    "one-look-up": LookUps(queries=1, asked=4),
    "twelve-look-ups": LookUps(queries=12, asked=3),
}


class LookUpSamples(NamedTuple):
    """Look-ups with their answers.

    Attributes:
        words: `(n, T, A + 1)` of uint8, the queries first.
        answers: `(n, Q)` of int64, payloads.
    """

    words: np.ndarray
    answers: np.ndarray


class LookUpItems(Dataset[tuple[np.ndarray, np.ndarray]]):
    """Look-ups one by one, as arrays `(T, A + 1)` and `(Q,)` of int64.

    Args:
        count: samples `n`.
        look_ups: what is asked for.
        seed: of everything drawn; other seeds give other samples.

    Example:
        >>> words, answers = LookUpItems(4, LookUps(queries=1, asked=4), seed=0)[3]
        >>> words.shape, answers.shape
        ((25, 5), (1,))
    """

    def __init__(self, count: int, look_ups: LookUps, *, seed: int) -> None:
        self.samples = make_samples(count, look_ups, seed=seed)

    def __len__(self) -> int:
        return len(self.samples.answers)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        return self.samples.words[index].astype(np.int64), self.samples.answers[index]

    def __getitems__(self, indices: Sequence[int]) -> list[tuple[np.ndarray, np.ndarray]]:
        """The samples of a batch, as torch's loaders ask for them."""
        words, answers = self.samples.words[indices].astype(np.int64), self.samples.answers[indices]
        return list(zip(words, answers, strict=True))


def make_samples(count: int, look_ups: LookUps, *, seed: int) -> LookUpSamples:
    """Draws samples.

    Args:
        count: samples `n`.
        look_ups: what is asked for.
        seed: of everything drawn.

    Example:
        >>> make_samples(2, LookUps(queries=12, asked=3), seed=0).words.shape
        (2, 36, 5)
    """
    generator = np.random.default_rng(seed)
    parts: list[LookUpSamples] = []
    while sum(len(part.answers) for part in parts) < count:
        parts.append(_draw(CHUNK, look_ups, generator))
    words, answers = (np.concatenate(arrays)[:count] for arrays in zip(*parts, strict=True))
    return LookUpSamples(words, answers)


def _draw(count: int, look_ups: LookUps, generator: np.random.Generator) -> LookUpSamples:
    """At most `count` samples: those in which a query happens to have two answers are dropped."""
    queries = look_ups.queries
    items = generator.integers(VALUES, size=(count, ITEMS, ATTRIBUTES))
    asked = generator.random((count, queries, ATTRIBUTES)).argsort(2) < look_ups.asked
    # First the items that are looked up, then near misses of each in turn, then any others.
    missed = np.arange(NEAR_MISSES) % queries
    near = items[:, missed]
    changed = np.where(asked[:, missed], generator.random(near.shape), -1).argmax(2, keepdims=True)
    other = np.take_along_axis(near, changed, 2) + generator.integers(1, VALUES, size=changed.shape)
    np.put_along_axis(near, changed, other % VALUES, 2)
    items[:, queries : queries + NEAR_MISSES] = near
    wanted = np.where(asked, items[:, :queries], VALUES)
    matches = (items[:, None] == wanted[:, :, None]) | ~asked[:, :, None]
    kept = (matches.all(3).sum(2) == 1).all(1)
    payloads = generator.integers(PAYLOADS, size=(count, ITEMS))
    order = generator.random((count, ITEMS)).argsort(1)[kept]
    placed = np.take_along_axis(np.concatenate([items, payloads[..., None]], 2)[kept], order[..., None], 1)
    return LookUpSamples(
        words=np.concatenate([_query_words(wanted[kept]), placed + ITEM_WORDS], 1).astype(np.uint8),
        answers=payloads[kept, :queries],
    )


def _query_words(wanted: np.ndarray) -> np.ndarray:
    words = wanted + QUERY_WORDS
    return np.concatenate([words, np.full((*words.shape[:2], 1), VOCABULARY - 1)], 2)
