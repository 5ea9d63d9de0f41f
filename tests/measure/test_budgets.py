"""The error budget is a judge: it must let good results pass, and name bad ones."""

import pytest
import torch

from crosshead.measure.budgets import Deviation, assert_within_budget, deviation

EXACT = torch.tensor([1.0, -2.0, 4.0], dtype=torch.float64)
EPS = torch.finfo(torch.float32).eps


def shifted(by: float) -> torch.Tensor:
    return EXACT.float() + torch.tensor([0.0, 0.0, by])


def test_the_allowance_is_twice_the_reference_and_a_rounding_of_the_largest_value():
    assert deviation("y", shifted(0.0), exact=EXACT, reference=shifted(0.5)).allowed == 1.0 + 4 * EPS
    assert deviation("y", shifted(0.5), exact=EXACT, reference=shifted(0.25)).within
    assert not deviation("y", shifted(0.5), exact=EXACT, reference=shifted(0.249)).within
    assert not deviation("y", shifted(-0.5), exact=EXACT, reference=shifted(0.249)).within


def test_many_small_errors_fail_by_their_root_mean_square():
    exact = torch.ones(1000, dtype=torch.float64)
    reference, actual = exact.float(), exact.float() + 0.01
    reference[0] = 1.01
    found = deviation("y", actual, exact=exact, reference=reference)
    assert found.error <= found.allowed
    assert not found.within


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_is_outside(value):
    assert not deviation("y", shifted(value), exact=EXACT, reference=shifted(0.0)).within


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_reference_that_is_not_finite_excuses_nothing(value):
    assert not deviation("y", shifted(0.1), exact=EXACT, reference=shifted(value)).within


def in_float16(actual: float, *, exact: float, reference: float) -> Deviation:
    """Of two numbers, the second of which nobody gets wrong."""
    held = [torch.tensor([x, 1.0], dtype=torch.float16) for x in (actual, reference)]
    return deviation("y", held[0], exact=torch.tensor([exact, 1.0], dtype=torch.float64), reference=held[1])


INF, NAN = float("inf"), float("nan")


@pytest.mark.parametrize(("exact", "infinity"), [(1e5, INF), (-1e5, -INF)])
def test_what_is_beyond_the_range_must_be_the_infinity_that_it_rounds_to(exact, infinity):
    for reference in (infinity, NAN):
        assert in_float16(infinity, exact=exact, reference=reference).within
        for wrong in (-infinity, 0.0, 65504.0):
            assert not in_float16(wrong, exact=exact, reference=reference).within


def test_what_fits_must_be_there_unless_plain_arithmetic_leaves_the_range():
    assert not in_float16(INF, exact=6e4, reference=6e4).within
    assert not in_float16(NAN, exact=6e4, reference=6e4).within
    assert in_float16(INF, exact=6e4, reference=INF).within
    assert in_float16(NAN, exact=6e4, reference=NAN).within
    for wrong in (-INF, NAN, 5e4):
        assert not in_float16(wrong, exact=6e4, reference=INF).within


@pytest.mark.parametrize("value", [INF, NAN])
def test_other_dtypes_have_range_enough(value):
    assert not deviation("y", shifted(value), exact=EXACT, reference=shifted(value)).within


def test_zeros_must_be_zeros():
    zero = torch.zeros(3, dtype=torch.float64)
    assert deviation("y", zero.float(), exact=zero, reference=zero.float()).within
    assert not deviation("y", zero.float() + 1e-30, exact=zero, reference=zero.float()).within


def test_of_several_references_the_worst_sets_the_allowance():
    references = [shifted(0.0), shifted(0.25), shifted(-0.125)]
    assert deviation("y", shifted(0.5), exact=EXACT, reference=references).within
    assert not deviation("y", shifted(0.5), exact=EXACT, reference=references[::2]).within


def test_the_report_names_everything_that_is_outside_and_by_how_much():
    exact = {"output": EXACT, "grad query": EXACT, "grad key": EXACT}
    good = {name: x.float() for name, x in exact.items()}
    bad = good | {"output": shifted(0.5), "grad key": shifted(-0.25)}
    with pytest.raises(AssertionError, match=r"output.*5\.000e-01.*\n.*grad key.*2\.500e-01") as caught:
        assert_within_budget(bad, exact=exact, reference=good)
    assert "grad query" not in str(caught.value)


def test_a_missing_gradient_is_an_error_and_not_a_pass():
    exact = {"output": EXACT, "grad query": EXACT}
    with pytest.raises(ValueError, match="grad query"):
        assert_within_budget({"output": EXACT.float()}, exact=exact, reference={"output": EXACT.float()})


def test_tensors_that_cannot_be_compared_are_refused():
    with pytest.raises(ValueError, match="shapes"):
        deviation("y", EXACT[:2], exact=EXACT, reference=EXACT)
    with pytest.raises(ValueError, match="float64"):
        deviation("y", EXACT.float(), exact=EXACT.float(), reference=EXACT.float())
    with pytest.raises(ValueError, match="needed are float64 and the dtype"):
        deviation("y", EXACT.float(), exact=EXACT, reference=EXACT)
