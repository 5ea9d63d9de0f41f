"""`crosshead runs` lists what was trained, whatever its folder looks like."""

import csv
import io
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from crosshead.runs.folder import RunFolder
from crosshead.runs.lock import locked


@pytest.fixture
def many(trained, tmp_path) -> Path:
    """A finished run, one to be resumed, one that stopped early, a broken one, and what is no run."""
    folder = tmp_path / "runs"
    for name in ("digits-2", "digits-10", "early", "broken"):
        shutil.copytree(trained, folder / name)
    head, first, second = (folder / "digits-10" / "metrics.csv").read_text().splitlines()
    assert head.split(",")[6] == "val_accuracy"
    for name, scores in (("digits-2", (0.25, 0.125)), ("digits-10", (0.5,)), ("early", (0.75, 0.5))):
        rows = [line.split(",") for line in (first, second)][: len(scores)]
        for row, score in zip(rows, scores, strict=True):
            row[6] = str(score)
        text = "\n".join([head, *map(",".join, rows)]) + "\n"
        (folder / name / "metrics.csv").write_text(text)
    change(folder / "early", epochs=30, patience=1)
    (folder / "digits-2" / "evaluation.json").write_text(
        json.dumps({"top1": 0.875, "top5": 1.0, "images": 8})
    )
    (folder / "broken" / "recipe.json").write_text("{")
    (folder / "notes").mkdir()
    (folder / "notes" / "plan.txt").write_text("none")
    return folder


def change(run: Path, **choices: object) -> None:
    content = json.loads((run / "recipe.json").read_text())
    content["recipe"] |= choices
    (run / "recipe.json").write_text(json.dumps(content))


def table(out: str) -> dict[str, str]:
    return {line.split()[0]: " ".join(line.split()) for line in out.splitlines() if line.strip()}


def test_a_table_has_a_line_for_each_run(crosshead, many):
    answer = crosshead("runs")
    assert (answer.code, answer.err) == (0, "")
    lines = table(answer.out)
    assert list(lines)[:6] == ["run", *list(lines)[1:2], "broken", "digits-2", "digits-10", "early"]
    assert "classify ivit_nano 2/2 25.00% 12.50% top1 87.50%, top5 100.00% 0:00:0" in lines["digits-2"]
    assert "classify ivit_nano 1/2 unfinished 50.00% 50.00% 0:00:0" in lines["digits-10"]
    assert "classify ivit_nano 2/30 75.00% 50.00%" in lines["early"]
    assert lines["broken"] == "broken broken"
    assert "runs/broken is broken: runs/broken/recipe.json cannot be read" in answer.out


def test_a_run_that_trains_now_is_told_from_one_to_be_resumed(crosshead, many):
    with locked(RunFolder(many / "digits-10")):
        assert "1/2 training" in table(crosshead("runs").out)["digits-10"]
    assert "1/2 unfinished" in table(crosshead("runs").out)["digits-10"]


@pytest.mark.parametrize(
    ("column", "order"),
    [
        ("best", ["early", "digits-10", "digits-2", "broken"]),
        ("last", ["digits-10", "early", "digits-2", "broken"]),
        ("test", ["digits-2", "broken", "digits-10", "early"]),
        ("state", ["broken", "digits-2", "early", "digits-10"]),
        ("run", ["broken", "digits-2", "digits-10", "early"]),
    ],
)
def test_runs_are_sorted_by_a_column(crosshead, many, column, order):
    found = json.loads(crosshead("runs", "--sort", column, "--json").out)
    assert [Path(run["run"]).name for run in found] == order


def test_csv_and_json_hold_the_same(crosshead, many):
    rows = list(csv.DictReader(io.StringIO(crosshead("runs", "--csv").out)))
    found = json.loads(crosshead("runs", "--json").out)
    assert [row["run"] for row in rows] == [run["run"] for run in found]
    finished = next(run for run in found if run["run"] == "runs/digits-2")
    assert (finished["best"], finished["last"], finished["test"]) == (
        0.25,
        0.125,
        {"top1": 0.875, "top5": 1.0},
    )
    assert json.loads(rows[1]["test"]) == finished["test"]
    assert float(rows[1]["best"]) == 0.25
    assert rows[0]["state"] == "broken"
    assert rows[0]["best"] == rows[0]["asked"] == ""
    answer = crosshead("runs", "--csv", "--json")
    assert (answer.code, answer.err.count("\n")) == (1, 1)


@pytest.mark.parametrize(
    "damage",
    [
        lambda run: (run / "recipe.json").write_text("[]"),
        lambda run: (run / "recipe.json").write_text('{"recipe": {}}'),
        lambda run: (run / "recipe.json").write_text('{"recipe": 3, "name": 1, "task": 2}'),
        lambda run: (run / "recipe.json").unlink(),
        lambda run: (run / "metrics.csv").write_bytes(b"\xff\xfe"),
        lambda run: (run / "metrics.csv").write_text("a,b\n1,2\n"),
        lambda run: change(run, epochs="many"),
        lambda run: (run / "evaluation.json").write_text("{"),
        lambda run: (run / "evaluation.json").write_text('{"agreement": 3}'),
    ],
)
def test_whatever_is_broken_is_listed_and_hides_no_other_run(crosshead, many, damage):
    damage(many / "digits-10")
    answer = crosshead("runs")
    assert (answer.code, answer.err) == (0, "")
    lines = table(answer.out)
    assert lines["digits-10"] == "digits-10 broken"
    assert "2/2" in lines["digits-2"]


def test_a_run_without_epochs_or_without_validation_is_listed(crosshead, many):
    (many / "digits-10" / "metrics.csv").unlink()
    path = many / "digits-2" / "metrics.csv"
    rows = list(csv.DictReader(path.open(newline="")))
    kept = [{name: value for name, value in row.items() if not name.startswith("val_")} for row in rows]
    path.write_text("\n".join([",".join(kept[0]), *(",".join(row.values()) for row in kept)]) + "\n")
    lines = table(crosshead("runs").out)
    assert "0/2 unfinished 0:00:00" in lines["digits-10"]
    assert "2/2 top1 87.50%, top5 100.00%" in lines["digits-2"]


def test_other_folders_and_runs_within_folders_can_be_named(crosshead, many):
    assert "sweep/digits-2" not in crosshead("runs").out
    (many / "sweep").mkdir()
    shutil.copytree(many / "digits-2", many / "sweep" / "digits-2")
    assert "sweep/digits-2" in crosshead("runs", many).out
    assert "broken" not in crosshead("runs", many / "sweep").out
    answer = crosshead("runs", "nowhere")
    assert (answer.code, answer.err) == (
        1,
        "error: nowhere is not a folder: name one that holds run folders, such as runs\n",
    )


def test_where_there_is_no_run_yet_the_way_to_one_is_told(crosshead, tmp_path):
    (tmp_path / "runs").mkdir()
    assert crosshead("runs").out == "runs holds no run yet; to make one: crosshead train digits\n"


def test_a_hundred_runs_take_less_than_a_second_and_no_torch(trained, tmp_path):
    for number in range(100):
        shutil.copytree(
            trained, tmp_path / f"run-{number}", ignore=shutil.ignore_patterns("tensorboard", "*.ckpt")
        )
    code = """
import sys, time
sys.argv = ["crosshead", "runs", sys.argv[1]]
from crosshead.cli.main import main
started = time.process_time()
main()
print(time.process_time() - started)
assert not {"torch", "lightning", "matplotlib", "pydantic"} & sys.modules.keys()
"""
    finished = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert finished.stdout.count("2/2") == 100
    assert float(finished.stdout.splitlines()[-1]) < 0.7


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_table_fits_a_terminal(many, width):
    from crosshead.cli.console import Terminal
    from crosshead.cli.runs import table_of
    from crosshead.runs.survey import survey

    file = io.StringIO()
    console = Terminal(file=file, width=width, force_terminal=True, color_system=None)
    console.print(table_of(survey(many), many, narrow=width < 100))
    lines = file.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    for run in ("digits-2", "digits-10", "early", "broken"):
        assert any(line.strip().startswith(run) for line in lines)
    assert ("classify" in file.getvalue()) == (width == 120)
    assert time.strftime("%Y") in file.getvalue() or width < 120
