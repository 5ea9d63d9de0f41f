import dataclasses
import json
import shutil

import pytest

from crosshead.cli.train import with_model_of
from crosshead.recipes import RECIPES
from crosshead.runs.folder import RunFolder
from crosshead.runs.lock import locked
from crosshead.runs.record import as_tuples, read_record


def test_a_training_tells_its_course_and_what_to_do_next(crosshead, tiny_flags, tmp_path):
    answer = crosshead("train", "digits", *tiny_flags, "--seed", "3")
    assert answer.code == 0
    assert answer.err == ""
    lines = answer.out.splitlines()
    assert "1,295 training and 143 validation images" in lines[0]
    assert lines[1].startswith("epoch 1/2  training loss")
    assert lines[1].endswith(" left")
    assert all(word in lines[2] for word in ("epoch 2/2", "accuracy", "images/s"))
    assert "left" not in lines[2]
    assert "curves: runs/digits-1/curves.png" in lines
    assert "next: crosshead evaluate runs/digits-1" in lines
    assert (tmp_path / "runs" / "digits-1" / "curves.png").stat().st_size > 10_000
    recipe = json.loads((tmp_path / "runs" / "digits-1" / "recipe.json").read_text())["recipe"]
    assert recipe["seed"] == 3
    assert as_tuples(recipe["model_args"]) == RECIPES["digits"]().model_args | {
        "depths": (1, 1, 1, 1),
        "dims": (8, 16, 16, 16),
        "head_dim": 8,
    }


def test_a_run_folder_in_use_is_refused(crosshead, tiny_flags, trained):
    before = {path: path.stat().st_mtime_ns for path in trained.rglob("*")}
    answer = crosshead("train", "digits", *tiny_flags, "--out", trained)
    assert answer.code == 1
    assert f"{trained} exists already: continue it by `crosshead resume {trained}`" in answer.err
    assert {path: path.stat().st_mtime_ns for path in trained.rglob("*")} == before


def test_where_a_training_was_killed_as_it_began_another_may_be_put(crosshead, tiny_flags, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".recipe.json.partial").write_text('{"task": "cla')
    answer = crosshead("resume", "run")
    assert answer.code == 1
    assert answer.err == (
        "error: run holds no run, or one that was stopped before its recipe.json was written: "
        "train again with --out run\n"
    )
    assert crosshead("train", "digits", *tiny_flags, "--epochs", "1", "--out", "run").code == 0
    assert list((tmp_path / "run").rglob("*.partial")) == []


def test_a_training_from_another_run_says_what_it_took(crosshead, tiny_flags, trained):
    answer = crosshead("train", "digits", *tiny_flags, "--epochs", "1", "--lr", "0", "--from", trained)
    assert answer.code == 0
    assert f"started from {trained}: " in answer.out
    assert "tensors matched" in answer.out


def test_a_training_from_another_run_takes_its_model(crosshead, tiny_flags, trained, tmp_path):
    flags = tiny_flags[tiny_flags.index("--epochs") :]
    assert crosshead("train", "digits", *flags, "--epochs", "1", "--from", trained, "--out", "more").code == 0
    there, here = (read_record(RunFolder(path)).recipe for path in (trained, tmp_path / "more"))
    assert (here.model, here.model_args) == (there.model, there.model_args)
    changed = crosshead(
        "train", "digits", *flags, "--from", trained, "--model-args", "head_dim=4", "--out", "changed"
    )
    assert changed.code == 0
    here = read_record(RunFolder(tmp_path / "changed")).recipe
    assert here.model_args == {**there.model_args, "head_dim": 4}
    named = crosshead("train", "digits", *flags, "--from", trained, "--model", "resnet18", "--out", "named")
    assert named.code == 1
    assert "shares no tensor with the model" in named.err


def test_a_linearization_keeps_its_teacher_whatever_it_continues(trained):
    linearize, digits = RECIPES["linearize"](), RECIPES["digits"]()
    assert with_model_of(trained, linearize, linearize).model == linearize.model
    smaller = dataclasses.replace(digits, model="resnet18")
    assert with_model_of(trained, smaller, smaller).model == read_record(RunFolder(trained)).recipe.model


def test_a_vit_is_trained_swapped_and_trained_on(crosshead, tmp_path, digit):
    vit = [
        *("--model", "vit_tiny_patch16_224"),
        *("--model-args", "patch_size=2", "embed_dim=16", "depth=1", "num_heads=2"),
        *("--epochs", "1", "--batch-size", "256", "--threads", "1", "--accelerator", "cpu"),
    ]
    assert crosshead("train", "digits", *vit, "--out", "vit").code == 0
    answer = crosshead(
        "train", "digits", *vit, "--swap-landmarks", "2", "2", "--from", "vit", "--out", "swapped"
    )
    assert answer.code == 0
    assert "missing there, initialised afresh: blocks.0.attn" in answer.out
    for command in (("evaluate", "swapped"), ("resume", "swapped"), ("predict", "swapped", digit)):
        answer = crosshead(*command)
        assert answer.code == 0
        assert answer.err == ""


def test_a_loss_that_is_no_number_ends_the_training_with_one_line(crosshead, tiny_flags):
    answer = crosshead("train", "digits", *tiny_flags, "--lr", "1e30", "--warmup-epochs", "0")
    assert answer.code == 1
    assert answer.err.startswith("error: the loss became nan at step")
    assert answer.err.count("\n") == 1


def test_an_interrupted_training_says_how_to_go_on(crosshead, tiny_flags, monkeypatch):
    from crosshead.runs.callbacks import WatchLoss

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(WatchLoss, "look", interrupt)
    answer = crosshead("train", "digits", *tiny_flags)
    assert answer.code == 130
    assert answer.out.splitlines()[-1].endswith("crosshead resume runs/digits-1")


def test_a_finished_run_is_told_as_such_with_the_way_to_train_longer(crosshead, trained, tmp_path):
    shutil.copytree(trained, tmp_path / "copy")
    before = {path: path.read_bytes() for path in (tmp_path / "copy").rglob("*") if path.is_file()}
    answer = crosshead("resume", "copy")
    assert (answer.code, answer.err) == (0, "")
    assert answer.out == (
        "copy is finished, nothing is left to resume; to train longer: "
        "crosshead train digits --from copy --epochs N\n"
    )
    assert {path: path.read_bytes() for path in (tmp_path / "copy").rglob("*") if path.is_file()} == before


def test_a_training_that_stops_early_says_so_and_is_finished(crosshead, tiny_flags):
    flags = [*tiny_flags, "--lr", "0", "--epochs", "9", "--patience", "2", "--out", "run"]
    answer = crosshead("train", "digits", *flags)
    assert answer.code == 0
    assert answer.out.count("\nepoch ") == 3
    assert "\nstopped early, patience is 2; validation accuracy " in answer.out
    assert crosshead("resume", "run").out.startswith("run is finished")


def test_patience_without_a_validation_set_is_refused_in_a_line(crosshead, tiny_flags, tmp_path):
    answer = crosshead("train", "digits", *tiny_flags, "--patience", "2", "--val", "0")
    assert answer.code == 1
    assert answer.err.startswith("error: patience is 2 and there is no validation set to watch: give --val")
    assert answer.err.count("\n") == 1
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("form", ["{run}/recipe.json", "{run}"])
def test_the_choices_of_an_earlier_run_are_taken_and_flags_change_them(crosshead, trained, tmp_path, form):
    config = form.format(run=trained)
    answer = crosshead("train", "digits", f"--config={config}", "--epochs", "1", "--model-args", "head_dim=4")
    assert answer.code == 0, answer.err
    there, here = (read_record(RunFolder(path)) for path in (trained, tmp_path / "runs" / "digits-1"))
    changed = {"epochs": 1, "model_args": {**there.recipe.model_args, "head_dim": 4}}
    assert here.recipe == dataclasses.replace(there.recipe, **changed)
    assert here.start is None


def test_choices_of_another_task_or_version_are_refused_in_a_line(crosshead, trained, tmp_path):
    answer = crosshead("train", "bccd", "--config", trained / "recipe.json")
    assert answer.code == 1
    assert answer.err.count("\n") == 1
    assert answer.err.startswith(
        f"error: {trained}/recipe.json is a recipe of the task classify, and bccd is one of detect: train it"
    )
    assert "digits or fashion-mnist or cifar10" in answer.err
    content = json.loads((trained / "recipe.json").read_text())
    (tmp_path / "old.json").write_text(json.dumps({**content, "version": 1}))
    answer = crosshead("train", "digits", "--config", "old.json")
    assert answer.code == 1
    assert answer.err.startswith("error: old.json is of version 1, and this Crosshead reads version 2: ")
    answer = crosshead("train", "digits", "--config", "nowhere.json")
    assert (answer.code, answer.err.count("\n")) == (1, 1)
    assert answer.err.startswith("error: nowhere.json does not exist")


def test_two_trainings_into_one_folder_are_refused_in_a_line(crosshead, tiny_flags, tmp_path):
    with locked(RunFolder(tmp_path / "run")):
        answer = crosshead("train", "digits", *tiny_flags, "--out", "run")
    assert answer.code == 1
    assert answer.err.startswith("error: run is being trained into by process ")
    assert answer.err.count("\n") == 1


@pytest.mark.parametrize("content", [b"", b"nonsense"])
def test_a_damaged_checkpoint_is_refused(crosshead, trained, tmp_path, content):
    shutil.copytree(trained, tmp_path / "copy")
    (tmp_path / "copy" / "checkpoints" / "last.ckpt").write_bytes(content)
    answer = crosshead("resume", "copy")
    assert answer.code == 1
    assert answer.err.startswith("error: copy/checkpoints/last.ckpt is ")
    assert answer.err.count("\n") == 1


@pytest.mark.slow
def test_two_processes_train_together(tmp_path):
    import subprocess
    import sys

    flags = ["--epochs", "1", "--devices", "2", "--accelerator", "cpu", "--threads", "1"]
    finished = subprocess.run(
        [sys.executable, "-m", "crosshead.cli.main", "train", "digits", *flags],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    assert "cpu x 2" in finished.stdout
    assert finished.stdout.count("validation accuracy") == 1
    rows = (tmp_path / "runs" / "digits-1" / "metrics.csv").read_text().splitlines()
    # 1,295 images shared by two processes fill 10 steps of 64 images each.
    assert rows[1].startswith("1,10,")
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["digits-1"]
