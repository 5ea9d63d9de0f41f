"""Tables are drawn from the CSVs alone."""

import csv
import math

import pytest

from crosshead.bench.report import write_table
from crosshead.runs.folder import RunError
from crosshead.study.report import cells_of, choose_base, markdown, read_study, table
from crosshead.study.statistics import summaries


@pytest.fixture
def rows(make_row):
    values = {"softmax": (0.80, 0.82), "interactive": (0.85, 0.89), "hydra": (0.70, 0.70)}
    return [
        make_row(accuracy, attention=attention, seed=seed, parameters=12_345)
        for attention, accuracies in values.items()
        for seed, accuracy in enumerate(accuracies)
    ]


def cost(row, **changes):
    shape = {name: row[name] for name in row if name in ("data", "attention") or name in SHAPE}
    found = {"multiply_adds": 3_400_000, "infer_ms": 1.234, "train_ms": 5.678, "train_peak_bytes": 3 * 2**20}
    return {**shape, **found, **changes}


SHAPE = ("image_size", "patch_size", "dim", "depth", "heads", "mlp_ratio", "landmarks")


def test_lines_come_by_accuracy_with_differences_to_the_base(rows, results):
    report = read_study(results(rows))
    assert [line.summary.label for line in report.lines] == ["interactive", "softmax", "hydra"]
    assert report.base == "interactive"
    ours, softmax, hydra = report.lines
    assert ours.difference is None
    assert softmax.difference is not None
    assert hydra.difference is not None
    assert softmax.difference.mean == pytest.approx(-0.06)
    assert hydra.difference.mean == pytest.approx(-0.17)


def test_cells_are_read_by_people(rows, results):
    folder = results(rows)
    write_table(folder / "prices.csv", [cost(row) for row in rows[:2]], ["a head", "of two lines"])
    ours, softmax, _ = read_study(folder).lines
    assert cells_of(ours) == ["interactive", "87.00 ± 2.00 (2)", "", "12,345", "", "", "", ""]
    name, accuracy, difference, *costs = cells_of(softmax)
    assert (name, accuracy) == ("softmax", "81.00 ± 1.00 (2)")
    # Differences -5 and -7: t of one degree of freedom, 12.7062, times an error of 1.
    assert difference == "-6.00 (-18.71 to +6.71)"
    assert costs == ["12,345", "3.4", "1.23", "5.68", "3"]


def test_a_single_seed_has_no_error_and_says_that_there_is_no_interval(make_row, results):
    report = read_study(results([make_row(0.9), make_row(0.8, attention="softmax")]))
    shown = [["90.00 (1)", ""], ["80.00 (1)", "-10.00 (no interval: one seed)"]]
    assert [cells_of(line)[1:3] for line in report.lines] == shown
    assert "nan" not in markdown(report)
    ours, softmax = table(report)
    assert (softmax["accuracy"], softmax["difference"], softmax["seeds"]) == ("80.00", "-10.00", 1)
    unknown = [softmax[name] for name in ("standard_error", "low", "high", "p_value")]
    assert [*unknown, ours["standard_error"]] == [""] * 5


def test_a_diverged_candidate_is_shown_last(make_row, rows, results):
    rows += [make_row(accuracy, attention="xca", seed=seed) for seed, accuracy in enumerate((0.9, math.nan))]
    report = read_study(results(rows))
    assert [line.summary.label for line in report.lines] == ["interactive", "softmax", "hydra", "xca"]
    assert cells_of(report.lines[-1])[1] == "nan ± nan (2)"
    assert report.base == "interactive"
    assert "nan" in markdown(report)


def test_the_table_holds_what_a_document_needs(rows, results):
    folder = results(rows)
    report = read_study(folder)
    lines = table(report)
    assert [line["mechanism"] for line in lines] == ["interactive", "softmax", "hydra"]
    assert lines[0]["against"] == ""
    assert (lines[1]["accuracy"], lines[1]["against"], lines[1]["seeds"]) == ("81.00", "interactive", 2)
    assert lines[1]["learning_rate"] == 0.002
    write_table(folder / "table.csv", lines, [])
    assert len(list(csv.DictReader((folder / "table.csv").open()))) == 3
    text = markdown(report).splitlines()
    assert len({line.count("|") for line in text[:5]}) == 1
    assert text[-1] == "Differences are against interactive, paired by seed."


def test_costs_belong_to_a_mechanism_in_a_model(rows, results):
    folder = results(rows)
    write_table(folder / "prices.csv", [cost(rows[2], heads="2"), cost(rows[4])], [])
    with_cost = {line.summary.label: line.cost for line in read_study(folder).lines}
    assert with_cost["interactive"] is None
    assert with_cost["hydra"] is not None
    assert with_cost["softmax"] is None


@pytest.mark.parametrize(
    ("attentions", "base"),
    [
        (("interactive:mixing=both", "interactive:mixing=none"), "interactive:mixing=none"),
        (("interactive", "interactive:mixing=none", "softmax"), "interactive"),
        (("softmax", "hydra", "xca"), "softmax"),
        (("hydra", "xca"), "hydra"),
    ],
)
def test_the_base_is_what_the_study_asks_about(make_row, attentions, base):
    rows = [make_row(0.9 - 0.1 * place, attention=name) for place, name in enumerate(attentions)]
    assert choose_base(summaries(rows)).attention == base


def test_the_base_stands_in_the_most_common_model(make_row):
    rows = [make_row(0.5, attention=name, heads=4) for name in ("interactive", "softmax")]
    rows += [make_row(0.9, heads=heads, learning_rate=0.004) for heads in (2, 8)]
    rows += [make_row(0.8, heads=2, attention="interactive:mixing=none", learning_rate=0.004)]
    rows += [make_row(0.8, heads=4, attention="interactive-two-layers", learning_rate=0.004)]
    base = choose_base(summaries(rows))
    assert (base.attention, base.columns["heads"]) == ("interactive", "4")


def test_a_folder_without_results_is_told(tmp_path, make_row, results):
    with pytest.raises(RunError, match=r"results\.csv cannot be read"):
        read_study(tmp_path / "nowhere")
    folder = results([make_row(0.9, split="validation")])
    with pytest.raises(RunError, match="holds no published trial yet: let the study go on first"):
        read_study(folder)
