"""Which trials make a study, and how learning rates are chosen without the test set."""

import math

import pytest

from crosshead.rivals import MECHANISMS
from crosshead.study.options import (
    AblationOptions,
    ConjunctionsOptions,
    HeadsOptions,
    PrimaryOptions,
    RivalsOptions,
)
from crosshead.study.plans import (
    PRIMARY,
    SELECT_SEED,
    SLOW_MIXING,
    ablation,
    all_mechanisms,
    candidates,
    conjunctions,
    heads,
    unfinished,
)

RESULT = {"loss": 1.0, "parameters": 7, "train_seconds": 1.0}
RATES = (1e-3, 2e-3, 4e-3)


@pytest.fixture
def candidate():
    options = RivalsOptions(data="digits", learning_rates=RATES, seeds=3)
    return candidates(["interactive"], options, "32-true")[0]


def fill(ledger, trials, accuracies):
    for trial, accuracy in zip(trials, accuracies, strict=True):
        ledger.add(trial, {"accuracy": accuracy, **RESULT}, arguments=[])


def test_rates_are_chosen_on_carved_out_samples_with_a_seed_of_their_own(candidate):
    trials = candidate.selecting()
    assert [trial.learning_rate for trial in trials] == list(RATES)
    assert {(trial.split, trial.seed, trial.samples) for trial in trials} == {
        ("validation", SELECT_SEED, 6_000)
    }
    assert SELECT_SEED not in range(100)


def test_nothing_is_published_before_every_rate_was_tried(candidate, ledger):
    trials = candidate.selecting()
    for tried in range(3):
        assert candidate.chosen(ledger) is None
        assert candidate.testing(ledger) == []
        fill(ledger, trials[tried : tried + 1], [0.5])
    tests = candidate.testing(ledger)
    assert [(trial.split, trial.seed, trial.samples) for trial in tests] == [
        ("test", s, 12_000) for s in range(3)
    ]


@pytest.mark.parametrize(
    ("accuracies", "chosen"),
    [
        ((0.3, 0.9, 0.5), 2e-3),
        ((0.9, 0.3, 0.5), 1e-3),
        ((0.3, 0.5, math.nan), 2e-3),
        ((math.nan, math.nan, 0.1), 4e-3),
        ((0.9, 0.3, math.nan), 1e-3),
        # Of equals the larger, for everyone alike.
        ((0.9, 0.9, 0.3), 2e-3),
        ((0.1, 0.1, 0.1), 4e-3),
        # Where all diverged the smallest shows it.
        ((math.nan, math.nan, math.nan), 1e-3),
    ],
)
def test_the_most_accurate_rate_is_chosen(candidate, ledger, accuracies, chosen):
    fill(ledger, candidate.selecting(), accuracies)
    assert candidate.chosen(ledger).learning_rate == chosen
    assert {trial.learning_rate for trial in candidate.testing(ledger)} == {chosen}


def test_the_test_set_has_no_say_in_the_choice(candidate, ledger, make_trial):
    fill(ledger, candidate.selecting(), (0.3, 0.9, 0.5))
    tests = candidate.testing(ledger)
    # Results on the test set that would choose otherwise, some of them of the very same training.
    from dataclasses import replace

    others = [replace(trial, split="test") for trial in candidate.selecting()]
    fill(ledger, [*tests, *others], [0.1, 0.1, 0.1, 1.0, 0.0, 1.0])
    assert candidate.chosen(ledger).learning_rate == 2e-3
    assert candidate.testing(ledger) == tests


def test_a_single_rate_is_not_tried(ledger):
    options = RivalsOptions(data="digits", learning_rates=(0.003,), seeds=2)
    (only,) = candidates(["softmax"], options, "32-true")
    assert only.selecting() == []
    assert [trial.learning_rate for trial in only.testing(ledger)] == [0.003, 0.003]


def test_candidates_are_paired_in_all_but_the_attention(ledger):
    options = PrimaryOptions(learning_rates=(0.002,))
    both, none = candidates(PRIMARY, options, "32-true")
    assert (both.attention, none.attention) == ("interactive:mixing=both", "interactive:mixing=none")
    for one, other in zip(both.testing(ledger), none.testing(ledger), strict=True):
        one, other = one.columns(), other.columns()
        assert {name for name in one if one[name] != other[name]} == {"attention"}
    assert [trial.seed for trial in both.testing(ledger)] == list(range(8))


def test_finished_trials_are_told_from_unfinished_ones(candidate, ledger):
    trials = candidate.selecting()
    fill(ledger, trials[1:2], [0.4])
    assert unfinished(trials, ledger) == [trials[0], trials[2]]


def test_by_default_every_rival_is_compared_and_ours_in_three_forms():
    names = all_mechanisms()
    assert names[:3] == ("interactive", "interactive:mixing=none", "interactive:local_kernel=3")
    assert set(names[3:]) == set(MECHANISMS)


def test_a_mechanism_that_is_named_twice_is_trained_once():
    found = candidates(["softmax", "interactive", "softmax"], RivalsOptions(), "32-true")
    assert [candidate.attention for candidate in found] == ["softmax", "interactive"]


def test_the_ablation_changes_all_that_was_asked_for():
    found = ablation(AblationOptions(), "32-true")
    usual = found[0].trial.shape
    assert found[0].attention == "interactive"
    same = {candidate.attention for candidate in found if candidate.trial.shape == usual}
    assert same == {
        "interactive",
        *(f"interactive:mixing={mixing}" for mixing in ("none", "logits", "weights")),
        *(f"interactive-one-factor:factor={factor}" for factor in ("query", "key")),
        "interactive:mixing_group_size=4",
        *(f"interactive-low-rank:rank={rank}" for rank in (2, 4)),
        "interactive-two-layers",
        "interactive-random-mixing:std=0.5",
        "interactive:local_kernel=3",
        "interactive-strided:cell=2",
        *(f"ivit:attention_stages={stages}" for stages in ("(3,)", "(2,3)", "(1,2,3)")),
    }
    shapes = [(candidate.attention, candidate.trial.shape) for candidate in found]
    assert len(set(shapes)) == len(shapes)
    landmarks = {
        shape.landmarks**2 for attention, shape in shapes if attention == "interactive" and shape.heads == 8
    }
    assert landmarks == {4, 16, 49, 100, 196}
    assert {shape.heads for _, shape in shapes} == {8}
    assert {shape.dim for _, shape in shapes} == {64}


def test_a_change_that_does_not_fit_the_model_is_left_out():
    found = ablation(AblationOptions(data="digits", groups=("landmarks",)), "32-true")
    shapes = [candidate.trial.shape for candidate in found]
    # 8 tokens along an axis, 48 channels.
    assert {shape.landmarks for shape in shapes} == {2, 4, 7, 8}
    odd = ablation(AblationOptions(data="digits", landmarks=3, groups=("pooling",)), "32-true")
    assert [candidate.attention for candidate in odd] == ["interactive"]


def test_the_mean_over_the_selecting_seeds_decides(ledger):
    options = RivalsOptions(data="digits", learning_rates=(1e-3, 2e-3), select_seeds=2)
    (candidate,) = candidates(["interactive"], options, "32-true")
    trials = candidate.selecting()
    assert [(x.learning_rate, x.seed - SELECT_SEED) for x in trials] == [
        (1e-3, 0),
        (1e-3, 1),
        (2e-3, 0),
        (2e-3, 1),
    ]
    # The first seed alone would choose the other.
    fill(ledger, trials[:3], (0.6, 0.3, 0.5))
    assert candidate.chosen(ledger) is None
    fill(ledger, trials[3:], (0.5,))
    chosen = candidate.chosen(ledger)
    assert chosen is not None
    assert chosen.learning_rate == 2e-3


def test_every_number_of_heads_has_both_arms_and_one_chooses_how_fast_heads_learn_to_talk(ledger):
    options = HeadsOptions(head_counts=(4, 16))
    found = heads(options, "32-true")
    assert [(x.trial.shape.heads, x.attention) for x in found] == [
        (count, arm) for count in (4, 16) for arm in PRIMARY
    ]
    both, none = found[:2]
    assert {trial.attention for trial in both.selecting()} == {PRIMARY[0], SLOW_MIXING}
    assert {trial.attention for trial in none.selecting()} == {PRIMARY[1]}
    # In the order of the trials: 0.002 and 0.004, two seeds each, then the same with slow matrices.
    fill(ledger, both.selecting(), (0.5, 0.5, 0.6, 0.6, 0.5, 0.5, 0.7, 0.6))
    tests = both.testing(ledger)
    assert {(trial.attention, trial.learning_rate) for trial in tests} == {(SLOW_MIXING, 4e-3)}
    assert [trial.seed for trial in tests] == list(range(8))


def test_conjunctions_cross_heads_with_mechanisms():
    found = conjunctions(
        ConjunctionsOptions(head_counts=(4, 8), mechanisms=("softmax", "interactive")), "32-true"
    )
    assert [(x.trial.shape.heads, x.attention) for x in found] == [
        (count, name) for count in (4, 8) for name in ("softmax", "interactive")
    ]
    assert {(x.trial.data, x.trial.batch_size, x.trial.shape.dim) for x in found} == {
        ("one-look-up", 128, 64)
    }


@pytest.mark.parametrize("count", [0, 5, -4])
def test_heads_that_do_not_divide_the_channels_are_told(count):
    with pytest.raises(ValueError, match=rf"head_counts hold {count}: give divisors of dim=64"):
        heads(HeadsOptions(head_counts=(4, count)), "32-true")
