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


@pytest.mark.parametrize("columns", [60, 80, 120])
@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--help",),
        ("train", "--help"),
        ("train", "linearize", "--help"),
        ("train", "imagenet1k", "--help"),
        ("predict", "--help"),
        ("runs", "--help"),
        ("study", "--help"),
        ("study", "heads", "--help"),
        ("bench", "attention", "--help"),
        ("build", "--help"),
    ],
)
def test_help_fits_the_terminal_and_no_sentence_is_torn(crosshead, monkeypatch, columns, arguments):
    monkeypatch.setenv("COLUMNS", str(columns))
    answer = crosshead(*arguments)
    assert (answer.code, answer.err) == (0, "")
    lines = answer.out.splitlines()
    # The usage line is tyro's, and lists positional arguments in one.
    assert not [line for line in lines if len(line) > columns and not line.startswith("usage: ")]
    texts = [line.strip("│ ") for line in lines]
    # A line that ends far from the margin although the next word had room was cut in the source.
    for line, text, following in zip(lines, texts, texts[1:], strict=False):
        if line.startswith("│") and text and following[:1].islower() and not text.startswith("-"):
            assert len(line.rstrip("│ ")) + len(following.split()[0]) > columns - 40, (line, following)


def test_alone_it_says_what_it_is_and_how_to_begin(crosshead):
    answer = crosshead()
    assert (answer.code, answer.err) == (0, "")
    assert answer.out.startswith(f"Crosshead {__version__}. Interactive multi-head self-attention")
    assert answer.out.count("\n  crosshead ") in (4, 5)
    for word in ("crosshead train digits", "`crosshead --help`", "`crosshead COMMAND --help`"):
        assert word in " ".join(answer.out.split())
    assert len(answer.out.splitlines()) < 25


def test_recipes_are_listed_by_task_in_a_line_each(crosshead, monkeypatch):
    from crosshead.recipes import RECIPES

    monkeypatch.setenv("COLUMNS", "120")
    lines = crosshead("train", "--help").out.splitlines()
    first_words = [line.split()[0] for line in lines if line.startswith("  ")]
    assert sorted(first_words) == sorted(RECIPES)
    headings = [line for line in lines if line.endswith(":")]
    assert headings[:2] == ["A class for each image:", "Boxes and masks of objects:"]
    assert len(headings) == len({recipe().task for recipe in RECIPES.values()})


def test_every_command_is_listed_once(crosshead):
    out = crosshead("--help").out
    for name in (
        "train",
        "evaluate",
        "predict",
        "resume",
        "runs",
        "bench",
        "study",
        "models",
        "info",
        "build",
    ):
        assert sum(line.startswith(f"  {name} ") for line in out.splitlines()) == 1, name


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("trian",), "crosshead: 'trian' is no command: did you mean train?"),
        (("train", "digit"), "crosshead train: 'digit' is no recipe: did you mean digits?"),
        (("train", "xyzzy"), "crosshead train: 'xyzzy' is no recipe: `crosshead train --help` lists them"),
        (("train",), "crosshead train: a recipe is missing: `crosshead train --help` lists them"),
        (("train", "--epochs", "3"), "crosshead train: a recipe must come before --epochs: `crosshead train"),
        (("study", "rivls"), "crosshead study: 'rivls' is no study: did you mean rivals?"),
        (("bench",), "crosshead bench: a benchmark is missing: choose from attention, backbone"),
    ],
)
def test_a_slip_of_the_pen_is_told_in_a_line(crosshead, arguments, told):
    answer = crosshead(*arguments)
    assert answer.code == 2
    assert answer.err.startswith(f"error: {told}")
    assert answer.err.count("\n") == 1
    assert answer.out == ""


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (("train", "digits", "--epoch", "3"), "--epochs INT"),
        (("train", "digits", "--mixpu", "1"), "--mixup FLOAT"),
        (("study", "primary", "--sed", "3"), "--seeds INT"),
        (("evaluate", "runs/digits-1", "--batch-sise", "3"), "--batch-size INT"),
        # Words are missing too, and the flag is told first.
        (("evaluate", "--bset"), "--best, --no-best"),
        (("predict", "--tpo", "3"), "--top INT"),
    ],
)
def test_a_flag_is_suggested_once_and_from_the_same_command(crosshead, arguments, meant):
    answer = crosshead(*arguments)
    assert answer.code == 2
    assert answer.err.count(f"    {meant}") == 1
    assert " in crosshead" not in answer.err
    assert len(answer.err.splitlines()) < 15


def test_the_version_is_told(crosshead):
    assert crosshead("--version").out == f"crosshead {__version__}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ("fly",),
        ("--fly",),
        ("study",),
        ("bench", "attenton"),
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


def test_a_package_that_is_missing_is_named_with_its_extra(crosshead, monkeypatch):
    monkeypatch.setitem(sys.modules, "rich.table", None)
    answer = crosshead("info")
    assert (answer.code, answer.out) == (1, "")
    assert answer.err == (
        "error: this command needs rich, which is not installed: pip install 'crosshead[train]'\n"
    )


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
