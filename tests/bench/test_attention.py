"""The whole measurement, at a few tokens."""

import sys
from typing import Any

import pytest

from crosshead.bench import attention, checks, providers
from crosshead.bench.attention import measure_attention, setting_of
from crosshead.bench.options import AttentionOptions
from crosshead.bench.providers import build_operator
from crosshead.bench.roofline import Machine, done_work, needed_work

MACHINE = Machine(multiply_adds_per_second=1e9, bytes_per_second=1e9)
TINY: dict[str, Any] = {
    "heads": 2,
    "head_dim": 16,
    "landmarks": 4,
    "tokens": (16, 32),
    "repeats": 2,
    "budget": 0.5,
}


def measure(told=lambda what, done: None, **changes: Any) -> dict[tuple[str, str, int], Any]:
    options = AttentionOptions(**{**TINY, **changes}).resolved()
    groups = list(measure_attention(options, setting_of(options, "cpu"), MACHINE, told))
    return {(row.provider, row.passes, row.tokens): row for group in groups for row in group}


@pytest.fixture
def without_memory(monkeypatch):
    """Leaves out the processes, which take seconds to start."""
    monkeypatch.setattr(attention, "supported", lambda device: False)


@pytest.mark.usefixtures("without_memory")
def test_every_provider_pass_and_length_has_its_row():
    told = []
    rows = measure(lambda *what: told.append(what), providers=("streamed", "exact", "xca-layer"))
    assert len(rows) == 3 * 2 * 2
    for (name, passes, tokens), row in rows.items():
        assert row.status == "measured", (name, row.status)
        assert row.checked
        assert 0 < row.min_s <= row.q25_s <= row.median_s <= row.q75_s
        assert row.peak_bytes is None
        assert (passes, tokens) == (row.passes, row.tokens)
    fractions = [done for _, done in told]
    assert fractions == pytest.approx(sorted(fractions))
    assert fractions[0] == 0
    assert 0.8 < fractions[-1] < 1
    assert "forward, 16 tokens, streamed: checking" in {what for what, _ in told}


@pytest.mark.usefixtures("without_memory")
def test_the_percentage_of_the_limit_is_the_limit_over_the_median():
    rows = measure(providers=("streamed", "exact", "performer"), passes=("forward+backward",), tokens=(32,))
    row = rows["streamed", "forward+backward", 32]
    setting = setting_of(AttentionOptions(**TINY), "cpu")
    for kind, count in (("needed", needed_work), ("done", done_work)):
        work = count("streamed", setting, 32, backward=True)
        assert work is not None
        limit = MACHINE.limit(work)
        assert getattr(row, f"limit_{kind}_s") == pytest.approx(limit, rel=1e-5)
        percentage = getattr(row, f"percent_of_limit_{kind}")
        assert percentage == pytest.approx(100 * limit / row.median_s, abs=0.006)
    assert rows["exact", "forward+backward", 32].percent_of_limit_done is None
    assert rows["exact", "forward+backward", 32].percent_of_limit_needed is not None
    assert rows["performer", "forward+backward", 32].multiply_adds is None


@pytest.mark.usefixtures("without_memory")
def test_no_time_is_shown_of_a_provider_that_is_wrong(monkeypatch):
    def build(name, setting):
        attend = build_operator(name, setting)
        return (lambda given: attend(given) + 1e-3) if name == "streamed" else attend

    for module in (checks, providers):
        monkeypatch.setattr(module, "build_operator", build)
    rows = measure(providers=("streamed", "reference"))
    for (name, _, _), row in rows.items():
        if name == "streamed":
            assert row.status.startswith("wrong: output is off by 1.0")
            assert row.median_s is row.min_s is row.percent_of_limit_needed is None
            assert row.repeats == 0
        else:
            assert row.status == "measured"


@pytest.mark.usefixtures("without_memory")
def test_a_package_that_is_not_installed_is_named_with_its_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "linformer", None)
    rows = measure(providers=("linformer-layer",), passes=("forward",))
    said = "skipped: not installed: pip install 'crosshead[rivals]'"
    assert {row.status for row in rows.values()} == {said}


@pytest.mark.usefixtures("without_memory")
def test_what_would_take_too_long_is_left_out():
    rows = measure(providers=("exact", "streamed"), passes=("forward",), tokens=(64, 2**16))
    assert rows["streamed", "forward", 64].status == "measured"
    assert rows["exact", "forward", 2**16].status.startswith("skipped: one run would take about ")


@pytest.mark.usefixtures("without_memory")
def test_maps_that_cannot_fit_are_left_out_even_at_first():
    rows = measure(providers=("talking-heads",), passes=("forward",), tokens=(2**20,))
    assert rows["talking-heads", "forward", 2**20].status.startswith(
        "skipped: one run would hold about 24,576"
    )


def test_memory_is_part_of_the_row():
    rows = measure(providers=("talking-heads",), tokens=(512,))
    token_bytes, one_map = 2 * 512 * 16 * 4, 2 * 512**2 * 4
    forward, backward = (rows["talking-heads", name, 512] for name in ("forward", "forward+backward"))
    assert forward.output_bytes == backward.output_bytes == token_bytes
    assert forward.gradient_bytes == 0
    assert backward.gradient_bytes == 3 * token_bytes + 2 * 2 * 2 * 4
    assert backward.beyond_bytes > forward.beyond_bytes > one_map
