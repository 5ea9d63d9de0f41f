"""What follows from rows; tables say where they come from, and nothing is written over."""

import csv
from dataclasses import replace

import pytest

from crosshead.bench.attention import AttentionRow
from crosshead.bench.report import (
    crossovers,
    free_folder,
    head_lines,
    points_of,
    ratios,
    slopes,
    write_table,
)


def test_a_table_has_its_origin_at_its_head_and_reads_back(tmp_path):
    head = head_lines(["bench", "attention", "--output", "a b"], "float32, cpu", machine="fast")
    rows = [
        {"name": "fused", "status": "skipped: a, b", "time": None},
        {"name": "exact", "status": "", "time": 0.5},
    ]
    write_table(tmp_path / "results.csv", rows, head)
    lines = (tmp_path / "results.csv").read_text().splitlines()
    comments = [line for line in lines if line.startswith("# ")]
    assert comments[0] == "# command: crosshead bench attention --output 'a b'"
    for name in ("date", "hardware", "versions", "setting", "seeds", "machine"):
        assert sum(line.startswith(f"# {name}: ") for line in comments) == 1
    assert any("torch" in line and "crosshead" in line for line in comments)
    found = list(csv.DictReader(lines[len(comments) :]))
    assert found == [
        {"name": "fused", "status": "skipped: a, b", "time": ""},
        {"name": "exact", "status": "", "time": "0.5"},
    ]


def test_no_rows_make_no_file(tmp_path):
    write_table(tmp_path / "slopes.csv", [], ["command: x"])
    assert not list(tmp_path.iterdir())


def test_the_next_free_folder_is_found(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bench" / "attention-1").mkdir(parents=True)
    assert free_folder(None, "attention").as_posix() == "bench/attention-2"


def test_a_folder_with_something_in_it_is_refused(tmp_path):
    assert free_folder(tmp_path, "attention") == tmp_path
    assert free_folder(tmp_path / "new", "attention") == tmp_path / "new"
    (tmp_path / "results.csv").touch()
    for taken in (tmp_path, tmp_path / "results.csv"):
        with pytest.raises(ValueError, match="exists already: name another folder with --output"):
            free_folder(taken, "attention")


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
