"""Ratios, slopes and crossovers of rows written by hand."""

from dataclasses import replace

import pytest

from crosshead.bench.attention import AttentionRow
from crosshead.bench.summary import crossovers, points_of, ratios, slopes


def row(provider, tokens, seconds, *, level="operator", passes="forward", beyond=None) -> AttentionRow:
    return AttentionRow(
        provider=provider,
        level=level,
        package="crosshead",
        mixes_heads=True,
        linear=True,
        passes=passes,
        tokens=tokens,
        status="measured" if seconds else "skipped: no",
        checked="output",
        repeats=1,
        calls=1,
        median_s=seconds,
        beyond_bytes=beyond,
    )


def test_ratios_are_against_the_kernel_and_against_the_equations_without_one():
    rows = [
        row("reference", 256, 2.0),
        row("fused", 256, 0.5),
        row("exact", 256, 8.0),
        row("performer", 256, None),
    ]
    found = {line["provider"]: (line["against"], line["time_ratio"]) for line in ratios(rows)}
    assert found == {"reference": ("fused", 4.0), "fused": ("fused", 1.0), "exact": ("fused", 16.0)}
    rows[1] = row("fused", 256, None)
    found = {line["provider"]: (line["against"], line["time_ratio"]) for line in ratios(rows)}
    assert found == {"reference": ("reference", 1.0), "exact": ("reference", 4.0)}


def test_ratios_keep_levels_passes_and_lengths_apart():
    rows = [
        *(row("interactive-layer", n, 2.0, level="layer") for n in (256, 1024)),
        row("xca-layer", 256, 1.0, level="layer"),
        row("xca-layer", 1024, 4.0, level="layer"),
        row("fused", 256, 100.0),
        row("interactive-layer", 256, 10.0, level="layer", passes="forward+backward"),
        row("xca-layer", 256, 5.0, level="layer", passes="forward+backward"),
    ]
    found = [
        (line["passes"], line["tokens"], line["time_ratio"])
        for line in ratios(rows)
        if line["provider"] == "xca-layer"
    ]
    assert found == [("forward", 256, 0.5), ("forward", 1024, 2.0), ("forward+backward", 256, 0.5)]


def test_slopes_are_powers_of_the_length_from_4096_on():
    rows = [row("fused", n, 1e-6 * n, beyond=None) for n in (4096, 16384, 65536)]
    rows += [row("exact", n, 1e-9 * n**2, beyond=n) for n in (256, 4096, 16384)]
    rows += [row("exact", 1024, 77.0)]
    found = {(line["provider"], line["quantity"]): line for line in slopes(rows)}
    assert found["fused", "median_s"]["slope"] == 1.0
    assert found["exact", "median_s"]["slope"] == 2.0
    assert found["exact", "beyond_bytes"]["slope"] == 1.0
    assert found["fused", "median_s"]["from_tokens"] == 4096
    assert found["fused", "median_s"]["to_tokens"] == 65536
    assert ("fused", "beyond_bytes") not in found
    assert slopes([row("fused", 4096, 1.0), row("fused", 256, 1.0)]) == []


@pytest.mark.parametrize(
    ("ours", "start", "crossing"),
    [
        ((0.5, 0.5, 0.5), 256, None),
        ((4.0, 0.25, 0.25), 1024, 512),
        ((2.0, 2.0, 0.5), 4096, 2048),
        ((0.5, 2.0, 0.5), 4096, 2048),
        ((0.5, 0.5, 2.0), None, None),
        ((1.0, 0.5, 0.5), 1024, 256),
    ],
)
def test_the_crossover_is_where_all_longer_ones_are_faster(ours, start, crossing):
    lengths = (256, 1024, 4096)
    rows = [row("fused", n, seconds) for n, seconds in zip(lengths, ours, strict=True)]
    rows += [row("exact", n, 1.0) for n in lengths]
    (found,) = crossovers(rows)
    assert (found["provider"], found["against"]) == ("fused", "exact")
    assert (found["faster_from_tokens"], found["crossing_tokens"]) == (start, crossing)


def test_lengths_that_were_not_measured_on_both_sides_say_nothing():
    rows = [row("fused", 256, 1.0), row("exact", 256, None), row("exact", 1024, 5.0)]
    assert crossovers(rows) == []
    rows += [row("fused", 1024, 1.0), row("fused", 4096, 9.0)]
    (found,) = crossovers(rows)
    assert (found["measured_from"], found["measured_to"], found["faster_from_tokens"]) == (1024, 1024, 1024)


def test_a_curve_leaves_out_what_no_logarithm_can_show():
    rows = [row("fused", 1024, 2.0), row("fused", 256, 1.0, beyond=-5), row("fused", 4096, None)]
    assert points_of(rows, "fused", "forward", "median_s") == [(256, 1.0), (1024, 2.0)]
    assert points_of(rows, "fused", "forward", "beyond_bytes") == []
    assert points_of([replace(rows[0], passes="other")], "fused", "forward", "median_s") == []
