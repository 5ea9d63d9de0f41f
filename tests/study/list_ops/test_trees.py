import random
from collections import Counter

import numpy as np
import pytest

from crosshead.study.list_ops.grammar import OPERATORS, decode, evaluate_list_ops
from crosshead.study.list_ops.trees import ROOTS, random_expressions

# So wide a range that no tree of this depth falls out of it: what is seen is the grammar alone.
ALL = {"max_depth": 4, "max_args": 5, "min_length": 1, "max_length": 10_000}


@pytest.fixture(scope="module")
def all_trees():
    tokens, values = next(random_expressions(np.random.default_rng(5), **ALL))
    return [decode(expression) for expression in tokens], values


def nodes(words):
    """The depth, the word and the number of arguments of each node of an expression."""
    found, open_nodes = [], []
    for word in words:
        if word == "]":
            open_nodes.pop()
            continue
        if open_nodes:
            open_nodes[-1][2] += 1
        found.append([len(open_nodes) + 1, word, 0])
        if word in OPERATORS:
            open_nodes.append(found[-1])
    assert open_nodes == []
    return found


def assert_alike(counts, total):
    """Counts of equally likely cases, each within four standard errors."""
    share = 1 / len(counts)
    error = np.sqrt(total * share * (1 - share))
    for count in counts.values():
        assert abs(count - total * share) < 4 * error


def test_no_tree_is_lost_where_every_length_is_allowed(all_trees):
    expressions, values = all_trees
    assert len(expressions) == len(values) == ROOTS


def test_values_are_what_the_evaluator_says(all_trees):
    expressions, values = all_trees
    assert [evaluate_list_ops(words) for words in expressions] == values.tolist()


def test_deep_trees_have_the_values_that_the_evaluator_says():
    batches = random_expressions(
        np.random.default_rng(1), max_depth=10, max_args=10, min_length=500, max_length=2000
    )
    tokens, values = next(batches)
    assert len(tokens) > 50
    assert [evaluate_list_ops(decode(expression)) for expression in tokens] == values.tolist()


def test_below_the_root_a_quarter_of_the_nodes_are_operators_down_to_the_last_level(all_trees):
    expressions, _ = all_trees
    for depth in range(1, 5):
        is_operator = [
            word in OPERATORS for words in expressions for level, word, _ in nodes(words) if level == depth
        ]
        if depth in (1, 4):
            assert set(is_operator) == {depth == 1}
        else:
            error = np.sqrt(len(is_operator) * 0.25 * 0.75)
            assert abs(sum(is_operator) - len(is_operator) / 4) < 4 * error
    assert max(level for words in expressions for level, _, _ in nodes(words)) == 4


def test_operators_digits_and_numbers_of_arguments_are_each_alike(all_trees):
    expressions, _ = all_trees
    every = [node for words in expressions for node in nodes(words)]
    operators = Counter(word for _, word, _ in every if word in OPERATORS)
    digits = Counter(word for _, word, _ in every if word not in OPERATORS)
    arguments = Counter(count for _, word, count in every if word in OPERATORS)
    assert (len(operators), len(digits), sorted(arguments)) == (4, 10, [2, 3, 4, 5])
    for counts in operators, digits, arguments:
        assert_alike(counts, counts.total())


def test_lengths_lie_strictly_between_the_bounds():
    # Depth 2: an operator, 2..9 digits, a bracket; so 4..11 tokens.
    allowed = {"max_depth": 2, "max_args": 9}
    tokens, values = next(random_expressions(np.random.default_rng(0), **allowed, min_length=5, max_length=9))
    lengths = Counter(len(expression) for expression in tokens)
    assert sorted(lengths) == [6, 7, 8]
    assert len(values) == lengths.total()
    assert_alike(lengths, lengths.total())


class TooLong(Exception):
    pass


def plain_expressions(count, *, max_depth, max_args, min_length, max_length):
    """The grammar by plain recursion, one tree at a time."""
    draw = random.Random(8)

    def grow(depth, words):
        if len(words) >= max_length:
            raise TooLong
        if depth < max_depth and draw.random() < 0.25:
            words.append(draw.choice(list(OPERATORS)))
            for _ in range(draw.randint(2, max_args)):
                grow(depth + 1, words)
            words.append("]")
        else:
            words.append(str(draw.randrange(10)))

    found = []
    while len(found) < count:
        words = []
        try:
            grow(1, words)
        except TooLong:
            continue
        if min_length < len(words) < max_length:
            found.append(words)
    return found


def test_expressions_are_distributed_as_plain_recursion_gives_them():
    grammar = {"max_depth": 7, "max_args": 8, "min_length": 30, "max_length": 90}
    plain = plain_expressions(1500, **grammar)
    lengths, labels = np.array([(len(words), evaluate_list_ops(words)) for words in plain]).T
    batches = random_expressions(np.random.default_rng(2), **grammar)
    drawn = [next(batches) for _ in range(40)]
    our_lengths = np.array([len(expression) for tokens, _ in drawn for expression in tokens])
    our_labels = np.concatenate([values for _, values in drawn])
    assert len(our_labels) > 4000

    def check(counts, our_counts):
        shares = (counts + our_counts) / (counts.sum() + our_counts.sum())
        errors = np.sqrt(shares * (1 - shares) * (1 / counts.sum() + 1 / our_counts.sum()))
        assert np.all(np.abs(counts / counts.sum() - our_counts / our_counts.sum()) < 4 * errors)

    check(np.bincount(labels, minlength=10), np.bincount(our_labels, minlength=10))
    borders = np.arange(30, 91, 10)
    check(np.histogram(lengths, borders)[0], np.histogram(our_lengths, borders)[0])


def test_a_batch_may_be_empty():
    impossible = {**ALL, "max_depth": 2, "min_length": 100}
    tokens, values = next(random_expressions(np.random.default_rng(0), **impossible))
    assert (tokens, len(values)) == ([], 0)
