"""`crosshead study` says what it will do, trains, survives being killed, and draws what came out."""

import csv
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from crosshead.cli.study import place_of
from crosshead.study.options import StudyOptions

TINY = [
    *("--data", "digits", "--patch-size", "2", "--dim", "16", "--depth", "1", "--heads", "4"),
    *("--landmarks", "2", "--jobs", "1", "--device", "cpu"),
]
TWO = ["--mechanisms", "softmax", "interactive"]


@pytest.fixture(autouse=True)
def wide_terminal_and_own_threads(monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize(
    ("cores", "flags", "jobs", "threads"),
    [
        (8, {}, 8, 1),
        (8, {"jobs": 1}, 1, 1),
        (8, {"threads": 3}, 2, 3),
        (8, {"jobs": 2, "threads": 4}, 2, 4),
        (1, {}, 1, 1),
    ],
)
def test_trainings_have_one_thread_unless_told_otherwise(monkeypatch, cores, flags, jobs, threads):
    monkeypatch.setattr("joblib.cpu_count", lambda: cores)
    place, _ = place_of(StudyOptions(device="cpu", **flags))
    assert (place.jobs, place.threads) == (jobs, threads)


@pytest.mark.parametrize("flags", [{"jobs": 3}, {"threads": 3}, {"jobs": 2, "threads": 2}])
def test_more_threads_than_cores_are_refused(monkeypatch, flags):
    monkeypatch.setattr("joblib.cpu_count", lambda: 2)
    with pytest.raises(ValueError, match=r"at most 2, the cores .* got \d x \d"):
        place_of(StudyOptions(device="cpu", **flags))


def test_prices_are_measured_on_the_cores_that_there_are(monkeypatch):
    monkeypatch.setattr("joblib.cpu_count", lambda: 1)
    torch.set_num_threads(2)
    place_of(StudyOptions(device="cpu"))
    assert torch.get_num_threads() == 1


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="affinity is Linux's")
def test_affinity_is_counted():
    code = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))});"
        "from crosshead.cli.study import place_of; from crosshead.study.options import StudyOptions;"
        "print(place_of(StudyOptions(device='cpu'))[0].jobs)"
    )
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert finished.stdout.strip() == "1"


def test_help_teaches_and_waits_for_no_library():
    code = """
import sys
from crosshead.cli.main import main
for name in ((), ("primary",), ("rivals",), ("ablation",), ("heads",), ("conjunctions",), ("report",)):
    sys.argv = ["crosshead", "study", *name, "--help"]
    try:
        main()
    except SystemExit as stop:
        assert stop.code == 0, name
loaded = {"torch", "timm", "lightning", "matplotlib", "scipy"} & sys.modules.keys()
assert not loaded, loaded
"""
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    for word in (
        "--mechanisms",
        "--groups",
        "--head-counts",
        "--learning-rates",
        "--plan",
        "twelve-look-ups",
        "FOLDER",
    ):
        assert word in finished.stdout.replace("PATH", "FOLDER")


@pytest.mark.parametrize(
    ("study", "trainings"),
    [
        # Three rates to choose from and two seeds, for each of two.
        (("rivals", *TWO, "--seeds", "2"), "10 trainings of 2 mechanisms"),
        (("rivals", *TWO, "--seeds", "2", "--learning-rates", "1e-3"), "4 trainings of 2 mechanisms"),
        (("primary",), "22 trainings of 2 mechanisms"),
        (("ablation", "--groups", "mixing", "--seeds", "1"), "16 trainings of 4 mechanisms"),
        # Two rates and two seeds to choose from, for one form without interaction and for two with it.
        (("heads", "--head-counts", "2", "4", "--seeds", "3"), "36 trainings of 4 mechanisms"),
    ],
)
def test_a_plan_counts_and_forecasts_and_trains_nothing(crosshead, tmp_path, study, trainings):
    answer = crosshead("study", *study, *TINY, "--plan")
    assert answer.code == 0, answer.err
    first, second = answer.out.splitlines()[:2]
    assert first == f"{trainings}, 1 at a time on cpu"
    assert re.match(r"about \d+:\d\d:\d\d; ", second)
    assert "results.csv" in second
    assert not list(tmp_path.rglob("*.csv"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("rivals", "--data", "digits", "--mechanisms", "softmax", "softmx"),
            "attention softmx is unknown: it is one",
        ),
        (("rivals", "--data", "digits", "--mechanisms", "interactive:mixing"), "give name:option=value"),
        (("rivals", "--data", "digits", "--mechanisms", "interactive:mixing=odd"), "mixing must be one of"),
        (("rivals", "--data", "digits", "--seeds", "0"), "seeds is 0: give 1 or more"),
        (("rivals", "--data", "digits", "--heads", "7"), "give a multiple of 4 and of heads=7"),
        (("rivals", "--image-size", "27"), "image_size 27 is no multiple of patch_size 2"),
        (("primary",), "fashion-mnist needs the folder of its images: name it with --data-dir"),
        (
            ("heads", "--data", "digits", "--head-counts", "4", "7"),
            "head_counts hold 7: give divisors of dim=48",
        ),
        (("report", "nowhere"), "nowhere/results.csv cannot be read"),
        (("report", "."), "results.csv cannot be read"),
    ],
)
def test_what_goes_wrong_is_told_in_one_line(crosshead, arguments, message):
    answer = crosshead("study", *arguments)
    assert answer.code == 1, answer.out
    assert answer.err.startswith("error: ")
    assert answer.err.count("\n") == 1
    assert message in answer.err


def test_a_foreign_table_is_told_and_left_alone(crosshead, tmp_path):
    (tmp_path / "results.csv").write_text("name,price\nbread,2\n")
    for arguments in (("report", "."), ("rivals", *TINY, *TWO, "--out", ".")):
        answer = crosshead("study", *arguments)
        assert answer.code == 1
        assert "is no table of a study" in answer.err
        assert answer.err.count("\n") == 1
    assert (tmp_path / "results.csv").read_text() == "name,price\nbread,2\n"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_device_that_is_missing_is_told(crosshead):
    answer = crosshead("study", "rivals", "--device", "cuda")
    assert (answer.code, answer.err) == (1, "error: device is cuda, and torch finds none: use --device cpu\n")


@pytest.mark.parametrize(
    "arguments", [(), ("riivals",), ("rivals", "--data", "imagenet"), ("rivals", "--seeds", "x")]
)
def test_wrong_usage_exits_with_two(crosshead, arguments):
    answer = crosshead("study", *arguments)
    assert answer.code == 2
    assert "Traceback" not in answer.err + answer.out


def start(*arguments: str | Path) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "crosshead.cli.main", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "COLUMNS": "120"},
        # On one core a training has one thread, and waits for no other.
        preexec_fn=lambda: os.sched_setaffinity(0, {max(os.sched_getaffinity(0))}),
    )


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def children(parent: int) -> list[int]:
    return [int(pid) for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]


def lives(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="reads the processes of Linux")
def test_a_study_that_is_killed_dies_with_its_workers_and_finishes_only_the_rest(crosshead, tmp_path):
    results = tmp_path / "out" / "results.csv"
    command = (
        "study",
        "rivals",
        *TINY,
        *TWO,
        "--seeds",
        "2",
        "--learning-rates",
        "2e-3",
        "--samples",
        "1600",
    )
    command = (*command, "--out", results.parent)
    victim = start(*command)
    while not results.exists():
        assert victim.poll() is None, victim.communicate()[0]
        time.sleep(0.02)
    workers = children(victim.pid)
    victim.kill()
    victim.wait(timeout=60)
    assert victim.stdout is not None
    victim.stdout.close()
    assert victim.returncode == -signal.SIGKILL
    assert len(workers) >= 2
    before = rows(results)
    assert 1 <= len(before) < 4
    give_up = time.monotonic() + 60
    while any(map(lives, workers)):
        assert time.monotonic() < give_up, [pid for pid in workers if lives(pid)]
        time.sleep(0.1)
    assert rows(results) == before

    output, _ = (again := start(*command)).communicate(timeout=200)
    assert again.returncode == 0, output
    assert "4 trainings of 2 mechanisms" in output
    after = rows(results)
    # Time and seconds of the rows that were there before have not changed.
    assert after[: len(before)] == before
    assert [(row["attention"], row["seed"]) for row in after] == [
        (attention, seed) for seed in "01" for attention in TWO[1:]
    ]
    told = [line for line in output.splitlines() if "test accuracy, 0:" in line]
    assert len(told) == 4 - len(before)
    assert told[-1].lstrip().startswith("4/4 interactive, rate 0.002, seed 1: ")
    assert not list(tmp_path.rglob("*.partial"))

    shown = crosshead("study", "report", results.parent)
    assert shown.code == 0, shown.err
    assert "differences are against interactive, paired by seed" in shown.out
    names = {"results.csv", "prices.csv", "table.csv", "table.md", "accuracy.png", "price.png", "pairs.png"}
    assert {path.name for path in results.parent.iterdir()} == names
    assert {row["mechanism"] for row in rows(results.parent / "table.csv")} == {"softmax", "interactive"}
    assert shown.out.count("written: ") == 5
