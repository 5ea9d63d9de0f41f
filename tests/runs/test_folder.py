import json
import signal
import subprocess
import sys

import pytest

from crosshead.runs.folder import RunError, RunFolder, next_run, read_json, write_atomically, write_json
from crosshead.runs.record import read_record


def test_a_write_that_fails_leaves_the_old_content_and_nothing_else(tmp_path):
    path = tmp_path / "last.ckpt"
    write_atomically(path, b"old")
    with pytest.raises(TypeError):
        write_atomically(path, "not bytes")  # pyright: ignore[reportArgumentType]
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_write_killed_half_way_leaves_the_old_content(tmp_path, monkeypatch):
    path = tmp_path / "last.ckpt"
    write_atomically(path, b"old")

    def killed(*_):
        raise SystemExit

    monkeypatch.setattr("os.fsync", killed)
    with pytest.raises(SystemExit):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"


def test_a_write_replaces_and_makes_folders(tmp_path):
    path = tmp_path / "a" / "b" / "file.json"
    write_json(path, {"x": 1})
    write_json(path, {"x": 2})
    assert read_json(path, remedy="") == {"x": 2}


def test_numbers_that_json_has_no_words_for_are_written_as_null(tmp_path):
    figures = {"ap": float("nan"), "recall": {100: float("inf"), 10: 0.5}, "all": [1, (float("-inf"), None)]}
    write_json(tmp_path / "figures.json", figures)
    assert json.loads((tmp_path / "figures.json").read_text()) == {
        "ap": None,
        "recall": {"100": None, "10": 0.5},
        "all": [1, [None, None]],
    }


def test_a_folder_with_something_in_it_is_refused_with_the_way_out(tmp_path):
    run = RunFolder(tmp_path / "run")
    run.require_free()
    run.path.mkdir()
    run.require_free()
    (run.path / "anything").touch()
    with pytest.raises(RunError, match=r"exists already: continue it by `crosshead resume .*--out"):
        run.require_free()


KILLED_BEFORE = """
import os, signal, sys
from pathlib import Path
from crosshead.runs.folder import RunFolder, write_json
_, folder, place, step = sys.argv
setattr(os if place == "os" else Path, step, lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL))
write_json(RunFolder(Path(folder)).recipe, {"recipe": "long " * 10_000})
"""


@pytest.mark.parametrize(
    ("place", "step", "left"),
    [
        ("Path", "mkdir", None),
        ("Path", "open", []),
        ("os", "fsync", [".recipe.json.partial"]),
        ("Path", "replace", [".recipe.json.partial"]),
        ("Path", "unlink", ["recipe.json"]),
    ],
)
def test_killed_while_the_recipe_is_written_there_is_a_whole_run_or_room_for_one(tmp_path, place, step, left):
    run = RunFolder(tmp_path / "run")
    killed = subprocess.run([sys.executable, "-c", KILLED_BEFORE, run.path, place, step], capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert (sorted(path.name for path in run.path.iterdir()) if run.path.exists() else None) == left
    if left == ["recipe.json"]:
        assert read_json(run.recipe, remedy="")["recipe"] == "long " * 10_000
        return
    run.require_free()
    with pytest.raises(
        RunError, match=r"is not a folder" if left is None else rf"train again with --out {run.path}"
    ):
        read_record(run)
    write_json(run.recipe, {"recipe": "of the next training"})
    assert [path.name for path in run.path.iterdir()] == ["recipe.json"]


def test_what_a_killed_start_left_beside_anything_else_is_refused(tmp_path):
    for name in (".recipe.json.partial", "notes.txt"):
        (tmp_path / name).touch()
    with pytest.raises(RunError, match="exists already"):
        RunFolder(tmp_path).require_free()


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "run").touch()
    with pytest.raises(RunError, match="exists already"):
        RunFolder(tmp_path / "run").require_free()


def test_runs_are_numbered(tmp_path):
    assert next_run(tmp_path, "digits").path.name == "digits-1"
    (tmp_path / "digits-1").mkdir()
    (tmp_path / "digits-3").mkdir()
    assert next_run(tmp_path, "digits").path.name == "digits-2"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "does not exist"),
        (b"{", "cannot be read"),
        (b"\xff\xfe", "cannot be read"),
        (b"[]", "does not hold a JSON object"),
    ],
)
def test_json_that_is_no_object_is_refused_with_path_and_remedy(tmp_path, content, message):
    path = tmp_path / "recipe.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RunError, match=rf"{path}.*{message}.*do this"):
        read_json(path, remedy="do this")
