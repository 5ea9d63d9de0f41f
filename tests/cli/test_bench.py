"""`crosshead bench` metrics, shows and writes; what is wrong is one line."""

import csv
import subprocess
import sys

import pytest
import torch

TINY = ["--heads", "2", "--head-dim", "16", "--landmarks", "4", "--tokens", "16", "32", "--repeats", "2"]


@pytest.fixture(autouse=True)
def small_machine(monkeypatch):
    """Measures the machine by small products and copies, and leaves its threads as they were."""
    monkeypatch.setattr("crosshead.bench.roofline.GEMM_SIDE", {"cpu": 64})
    monkeypatch.setattr("crosshead.bench.roofline.COPY_BYTES", {"cpu": 2**16})
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def without_memory(monkeypatch):
    """Leaves out the processes that measure memory, which take seconds to start."""
    for module in ("attention", "backbone"):
        monkeypatch.setattr(f"crosshead.bench.{module}.supported", lambda device: False)


def read(path):
    lines = path.read_text().splitlines()
    comments = [line for line in lines if line.startswith("# ")]
    return comments, list(csv.DictReader(lines[len(comments) :]))


def test_help_teaches_and_waits_for_no_library():
    code = """
import sys
from crosshead.cli.main import main
for arguments in (["bench", "--help"], ["bench", "attention", "--help"], ["bench", "backbone", "--help"]):
    sys.argv = ["crosshead", *arguments]
    try:
        main()
    except SystemExit as stop:
        assert stop.code == 0, arguments
loaded = {"torch", "timm", "lightning", "matplotlib"} & sys.modules.keys()
assert not loaded, loaded
"""
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    for word in (
        "landmarks-only",
        "--providers",
        "--budget",
        "--quick",
        "poolformer_s24",
        "bench/attention-NUMBER",
    ):
        assert word in finished.stdout


@pytest.mark.usefixtures("without_memory")
def test_attention_is_measured_shown_and_written(crosshead, tmp_path):
    providers = ("streamed", "exact", "softmax-layer")
    answer = crosshead("bench", "attention", *TINY, "--threads", "1", "--providers", *reversed(providers))
    assert answer.code == 0, answer.err
    folder = tmp_path / "bench" / "attention-1"
    names = {"results.csv", "crossover.csv", "time.png", "memory.png"}
    assert {path.name for path in folder.iterdir()} == names
    comments, rows = read(folder / "results.csv")
    assert comments[0].startswith("# command: crosshead bench attention --heads 2")
    assert any(line.startswith("# machine: matrix product ") for line in comments)
    assert "mixing both, threads 1" in "".join(comments)
    assert [row["provider"] for row in rows[:3]] == list(providers)
    assert len(rows) == 3 * 2 * 2
    assert all(float(row["median_s"]) > 0 and row["status"] == "measured" for row in rows)
    for words in (
        "forward+backward, 32 tokens",
        "softmax-layer",
        "streamed against exact",
        "written: bench/",
    ):
        assert words in answer.out


@pytest.mark.usefixtures("without_memory")
def test_backbones_are_measured_shown_and_written(crosshead, tmp_path):
    arguments = ("--models", "ivit_nano", "deit_tiny_patch16_224", "--sizes", "32", "--passes", "inference")
    answer = crosshead("bench", "backbone", *arguments, "--repeats", "1", "--threads", "1", "--output", "out")
    assert answer.code == 0, answer.err
    names = {"results.csv", "ratios.csv", "images_per_second.png"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == names
    _, rows = read(tmp_path / "out" / "results.csv")
    assert [row["model"] for row in rows] == ["ivit_nano", "deit_tiny_patch16_224"]
    assert all(float(row["images_per_second"]) > 0 for row in rows)
    assert "deit_tiny_patch16_224" in answer.out


@pytest.mark.usefixtures("without_memory")
def test_what_is_skipped_is_said_with_its_remedy_and_its_brackets(crosshead, monkeypatch):
    monkeypatch.setitem(sys.modules, "linformer", None)
    flags = ("--providers", "linformer-layer", "--passes", "forward", "--output", "out")
    answer = crosshead("bench", "attention", *TINY, *flags)
    assert answer.code == 0, answer.err
    assert "linformer-layer: skipped: not installed: pip install 'crosshead[rivals]'\n" in answer.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("attention", "--providers", "fusd"), "provider 'fusd' is unknown: did you mean fused?"),
        (("attention", "--level", "layer", "--providers", "exact"), "is of level operator"),
        (("attention", "--tokens", "0"), "tokens holds 0"),
        (("attention", "--tokens"), "tokens is empty"),
        (("attention", "--heads", "0"), "heads is 0: give a number above 0"),
        (("attention", "--output", "."), "exists already: name another folder with --output"),
        (("backbone", "--models", "ivit_smal"), "did you mean ivit_small?"),
        (("backbone", "--budget", "-1"), "budget is -1.0"),
    ],
)
def test_what_goes_wrong_is_told_in_one_line(crosshead, arguments, message, tmp_path):
    (tmp_path / "something").touch()
    answer = crosshead("bench", *arguments)
    assert answer.code == 1
    assert answer.err.startswith("error: ")
    assert answer.err.count("\n") == 1
    assert message in answer.err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_device_that_is_missing_is_told(crosshead):
    answer = crosshead("bench", "attention", "--device", "cuda")
    assert (answer.code, answer.err) == (1, "error: device is cuda, and torch finds none: use --device cpu\n")


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("heads",),
        ("attention", "--dtype", "int8"),
        ("attention", "--mixing", "all"),
        ("attention", "--passes", "backward"),
        ("attention", "--tokens", "many"),
        ("backbone", "--colour", "blue"),
    ],
)
def test_wrong_usage_exits_with_two(crosshead, arguments):
    answer = crosshead("bench", *arguments)
    assert answer.code == 2
    assert answer.err + answer.out
    assert "Traceback" not in answer.err + answer.out
