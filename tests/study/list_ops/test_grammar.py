import numpy as np
import pytest

from crosshead.study.list_ops.grammar import VOCABULARY, decode, encode, evaluate_list_ops


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("7", 7),
        ("[MIN 4 2 9 ]", 2),
        ("[MAX 4 2 9 ]", 9),
        ("[MED 4 2 9 ]", 4),
        ("[MED 9 1 4 2 ]", 3),
        ("[MED 1 2 ]", 1),
        ("[MED 8 9 9 9 ]", 9),
        ("[MED 3 3 4 9 ]", 3),
        ("[SM 4 2 9 ]", 5),
        ("[SM 5 5 ]", 0),
        ("[SM 9 9 9 9 9 9 9 9 9 9 ]", 0),
        ("[MAX 2 9 [MIN 4 7 ] 0 ]", 9),
        ("[SM [SM 9 9 ] [MED 2 [MAX 0 5 ] 3 ] [MIN 1 6 ] ]", 2),
        ("[MIN [MAX [MED [SM 6 7 ] 8 ] 1 ] 9 ]", 5),
    ],
)
def test_expressions_worked_out_by_hand(expression, value):
    assert evaluate_list_ops(expression.split()) == value


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("", "leave 0 operators open and give 0 values"),
        ("1 2", "leave 0 operators open and give 2 values"),
        ("[MAX 1 2", "leave 1 operators open"),
        ("1 ]", r"'\]' at position 1 with nothing to close"),
        ("[SM ]", r"'\]' at position 1 with no argument before it"),
        ("[FIRST 1 2 ]", r"'\[FIRST' at position 0; the words are 0, 1, .*\]"),
        ("[MAX 1 10 ]", "'10' at position 2"),
        ("[MAX 1 ² ]", "'²' at position 2"),
        ("[MAX 1 <pad> ]", "'<pad>' at position 2"),
    ],
)
def test_what_is_no_expression_is_refused(expression, message):
    with pytest.raises(ValueError, match=message):
        evaluate_list_ops(expression.split())


def test_the_vocabulary_is_padding_and_fifteen_words():
    assert len(set(VOCABULARY)) == 16
    expected = ("<pad>", *"0123456789", "[MIN", "[MAX", "[MED", "[SM", "]")
    assert expected == VOCABULARY


def test_words_and_tokens_are_translated_both_ways():
    words = VOCABULARY[1:]
    tokens = encode(words)
    assert (tokens.dtype, tokens.tolist()) == (np.uint8, list(range(1, 16)))
    assert decode(np.pad(tokens, (0, 3))) == words


def test_unknown_words_and_tokens_are_refused():
    with pytest.raises(ValueError, match=r"words has '\[LAST'; the known ones are <pad>, 0"):
        encode(["[LAST", "1"])
    with pytest.raises(ValueError, match=r"tokens has 16; the numbers are 0\.\.15"):
        decode(np.array([1, 16]))
