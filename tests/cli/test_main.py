import os
import resource
import subprocess
import sys

import pytest

from crosshead import __version__


def test_help_answers_at_once_and_without_torch():
    code = """
import sys
from crosshead.cli.main import main
for arguments in (["--help"], ["train", "--help"], ["train", "digits", "--help"], ["predict", "--help"]):
    sys.argv = ["crosshead", *arguments]
    try:
        main()
    except SystemExit as stop:
        assert stop.code == 0, arguments
loaded = {"torch", "lightning", "timm", "torchvision", "matplotlib"} & sys.modules.keys()
assert not loaded, loaded
"""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert finished.returncode == 0, finished.stderr
    for word in ("imagenet1k", "--batch-size", "--from", "RUN"):
        assert word in finished.stdout
    # Processor time of four helps together, since other processes may keep this one waiting.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 2


def test_the_version_is_told(crosshead):
    assert crosshead("--version").out == f"crosshead {__version__}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("fly",),
        ("train",),
        ("train", "mnist"),
        ("train", "digits", "--epochs", "many"),
        ("train", "digits", "--colour", "blue"),
        ("train", "digits", "--model-args", "depths"),
        ("train", "digits", "--precision", "8"),
        ("evaluate",),
        ("predict", "runs/digits-1"),
    ],
)
def test_wrong_usage_exits_with_two(crosshead, arguments):
    answer = crosshead(*arguments)
    assert answer.code == 2
    assert answer.err + answer.out
    assert "Traceback" not in answer.err + answer.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("train", "digits", "--epochs", "0"), "epochs is 0: give 1 or more"),
        (("train", "digits", "--ema", "0.9", "--strategy", "fsdp"), "ema=0.9 with strategy=fsdp"),
        (("train", "digits", "--model", "ivit_nan"), "ivit_nan is unknown: did you mean ivit_nano"),
        (("train", "digits", "--model-args", "wings=2"), "cannot be built"),
        (("train", "fashion-mnist"), "--data-dir"),
        (("train", "fashion-mnist", "--data-dir", "nowhere"), "nowhere: no such folder"),
        (("train", "classify", "--data-dir", "."), "no "),
        (("train", "digits", "--from", "nowhere"), "nowhere holds no weights"),
        (("evaluate", "nowhere"), "nowhere is not a folder: name a run folder"),
        (("resume", "nowhere"), "nowhere is not a folder"),
        (("predict", "nowhere", "image.png"), "nowhere is not a folder"),
    ],
)
def test_what_goes_wrong_is_told_in_one_line(crosshead, arguments, message):
    answer = crosshead(*arguments)
    assert answer.code == 1
    assert answer.err.startswith("error: ")
    assert answer.err.count("\n") == 1
    assert message in answer.err
    assert answer.out == ""


def test_debug_shows_where_it_went_wrong(crosshead):
    answer = crosshead("evaluate", "nowhere", "--debug")
    assert answer.code == 1
    assert "Traceback" in answer.err
    assert answer.err.splitlines()[-1].startswith("error: nowhere is not a folder")


def test_a_full_disk_is_told_with_the_way_out(crosshead, tiny_flags, monkeypatch):
    import errno

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device", "runs/digits-1/recipe.json")

    monkeypatch.setattr("crosshead.runs.folder.write_atomically", full)
    answer = crosshead("train", "digits", *tiny_flags)
    assert answer.code == 1
    assert answer.err.startswith("error: the disk is full for runs/digits-1/recipe.json: free some space")


def test_a_reader_who_has_gone_is_no_error_worth_words():
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "crosshead.cli.main", "train", "digits", "--check-data"]
    finished = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert (finished.returncode, finished.stderr) == (141, "")
