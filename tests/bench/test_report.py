"""Tables say where they come from, and nothing is written over."""

import csv

import pytest

from crosshead.bench.report import free_folder, head_lines, write_table


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
