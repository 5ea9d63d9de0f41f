"""Look-ups have one answer, near misses that differ in one attribute, and nothing that betrays the answer."""

import numpy as np
import pytest

from crosshead.study.conjunctions import (
    ATTRIBUTES,
    ITEM_WORDS,
    ITEMS,
    LOOK_UPS,
    NEAR_MISSES,
    PAYLOADS,
    QUERY_WORDS,
    VALUES,
    VOCABULARY,
    LookUpItems,
    LookUps,
    make_samples,
)
from crosshead.study.trial import IN_CHANS

COUNT = 2_000


@pytest.fixture(scope="module", params=[*LOOK_UPS.values(), LookUps(queries=5, asked=2)], ids=str)
def drawn(request):
    """What is asked for, and samples taken apart: asked values (-1 for any), items, payloads, answers."""
    look_ups = request.param
    words, answers = make_samples(COUNT, look_ups, seed=3)
    queries, items = np.split(words.astype(int), [look_ups.queries], axis=1)
    assert (queries[..., ATTRIBUTES] == VOCABULARY - 1).all()
    wanted = queries[..., :ATTRIBUTES] - QUERY_WORDS
    parts = items - ITEM_WORDS
    wanted[wanted == VALUES] = -1
    return look_ups, wanted, parts[..., :ATTRIBUTES], parts[..., ATTRIBUTES], answers


def test_words_stay_in_the_vocabulary_and_items_and_queries_share_none(drawn):
    look_ups, wanted, items, payloads, answers = drawn
    assert items.shape == (COUNT, ITEMS, ATTRIBUTES)
    assert set(np.unique(wanted)) - {-1} == set(np.unique(items)) == set(range(VALUES))
    assert set(np.unique(payloads)) == set(np.unique(answers)) == set(range(PAYLOADS))
    words, _ = make_samples(100, look_ups, seed=4)
    assert not set(words[:, : look_ups.queries].ravel()) & set(words[:, look_ups.queries :].ravel())
    assert words.max() == VOCABULARY - 1 == IN_CHANS["one-look-up"] - 1


def test_every_query_has_one_item_and_its_payload_is_the_answer(drawn):
    look_ups, wanted, items, payloads, answers = drawn
    asked = wanted >= 0
    assert (asked.sum(2) == look_ups.asked).all()
    matches = ((items[:, None] == wanted[:, :, None]) | ~asked[:, :, None]).all(3)
    assert (matches.sum(2) == 1).all()
    assert np.array_equal(np.take_along_axis(payloads, matches.argmax(2), 1), answers)
    assert len(np.unique(matches.argmax(2)[0])) == look_ups.queries


def test_half_of_the_items_are_near_misses_in_what_is_asked(drawn):
    look_ups, wanted, items, _, _ = drawn
    differing = ((items[:, None] != wanted[:, :, None]) & (wanted >= 0)[:, :, None]).sum(3)
    near = (differing == 1).any(1).sum(1)
    assert near.min() >= NEAR_MISSES - look_ups.queries
    assert near.mean() >= NEAR_MISSES


def test_neither_place_nor_payload_gives_the_answer_away(drawn):
    _, wanted, items, payloads, answers = drawn
    matches = ((items[:, None] == wanted[:, :, None]) | (wanted < 0)[:, :, None]).all(3)
    for found, kinds in ((matches.argmax(2), ITEMS), (answers, PAYLOADS), (payloads, PAYLOADS)):
        counts = np.bincount(found.ravel(), minlength=kinds)
        expected = found.size / kinds
        assert (abs(counts - expected) < 6 * np.sqrt(expected)).all()


@pytest.mark.parametrize("look_ups", LOOK_UPS.values(), ids=LOOK_UPS)
def test_a_seed_gives_the_same_samples_and_another_seed_others(look_ups):
    first, again, other = (make_samples(50, look_ups, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(first.words, again.words)
    assert np.array_equal(first.answers, again.answers)
    assert not np.array_equal(first.words, other.words)
    # More of them begin with the same.
    assert np.array_equal(make_samples(70, look_ups, seed=1).words[:50], first.words)


def test_a_batch_is_what_single_samples_are():
    items = LookUpItems(20, LOOK_UPS["twelve-look-ups"], seed=0)
    assert len(items) == 20
    for (words, answers), place in zip(items.__getitems__([3, 7]), (3, 7), strict=True):
        alone = items[place]
        assert words.dtype == answers.dtype == np.int64
        assert np.array_equal(words, alone[0])
        assert np.array_equal(answers, alone[1])
