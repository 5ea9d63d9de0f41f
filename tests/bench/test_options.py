"""Numbers that make no sense are refused, and quick is quick."""

import pytest

from crosshead.bench.options import AttentionOptions, BackboneOptions


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (AttentionOptions(heads=0), "heads is 0: give a number above 0"),
        (AttentionOptions(threads=-1), "threads is -1"),
        (AttentionOptions(budget=float("nan")), "budget is nan"),
        (AttentionOptions(tokens=()), "tokens is empty: name at least one"),
        (AttentionOptions(tokens=(5, 0)), "tokens holds 0: give numbers of 1 and more"),
        (AttentionOptions(passes=()), "passes is empty"),
        (AttentionOptions(providers=("fusde",)), "did you mean fused"),
        (BackboneOptions(batch=0), "batch is 0"),
        (BackboneOptions(sizes=(-1,)), "sizes holds -1"),
        (BackboneOptions(models=()), "models is empty"),
    ],
)
def test_what_makes_no_sense_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        options.resolved()


def test_lengths_are_measured_from_short_to_long_and_once():
    assert AttentionOptions(tokens=(1024, 256, 1024)).resolved().tokens == (256, 1024)
    assert BackboneOptions(sizes=(512, 224)).resolved().sizes == (224, 512)


def test_quick_shortens_and_never_lengthens():
    quick = AttentionOptions(quick=True).resolved()
    assert (quick.tokens, quick.repeats, quick.budget) == ((256, 1024), 3, 1.0)
    assert AttentionOptions(quick=True, repeats=1, budget=0.5).resolved().repeats == 1
    assert AttentionOptions(quick=True, tokens=(4096, 8192)).resolved().tokens == (4096,)
    assert BackboneOptions(quick=True).resolved().sizes == (224,)
