import dataclasses
import errno
import json

import pytest
import torch
from lightning.pytorch.callbacks import Callback
from safetensors.torch import load_file
from torch.utils.data import Dataset

from crosshead.runs import engine
from crosshead.runs.callbacks import NonFiniteLoss
from crosshead.runs.evaluate import evaluate
from crosshead.runs.folder import RunError, RunFolder
from crosshead.runs.load import load_run
from crosshead.runs.record import read_record
from crosshead.runs.rows import read_metrics
from crosshead.tasks.task import task_of


class StopAt(Callback):
    """Fails after one step, as a crash would."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer, *_):
        if trainer.global_step == self.step:
            raise ConnectionError("crashed")


def measured(run: RunFolder) -> list[dict[str, str]]:
    """The rows of metrics.csv without the clock."""
    return [
        {name: value for name, value in row.items() if name not in ("seconds", "images_per_second")}
        for row in read_metrics(run)
    ]


def same_bits(one, other) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same_bits(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same_bits, one, other))
    return one == other


def everything_random(tiny, **changes):
    return dataclasses.replace(
        tiny,
        epochs=3,
        drop_path=0.2,
        dropout=0.2,
        mixup=0.2,
        cutmix=1.0,
        smoothing=0.1,
        erasing=0.3,
        rand_augment="rand-m5-mstd0.5",
        warmup_epochs=1,
        **changes,
    )


def test_a_run_folder_holds_all_that_is_promised(trained, tiny):
    names = {str(path.relative_to(trained.path)) for path in trained.path.rglob("*") if path.is_file()}
    events = {name for name in names if name.startswith("tensorboard/")}
    assert any("events" in name for name in events)
    assert names - events == {
        "recipe.json",
        "metrics.csv",
        "curves.png",
        "checkpoints/last.ckpt",
        "checkpoints/best.ckpt",
        "model/config.json",
        "model/model.safetensors",
    }
    record = read_record(trained)
    assert record.recipe == tiny
    assert record.meta.classes == tuple("0123456789")
    assert {"torch", "timm", "lightning", "crosshead"} <= record.stamp["versions"].keys()
    assert record.stamp["hardware"]["processor"]


@pytest.mark.parametrize(
    ("changes", "resumed_workers", "stop"),
    [
        ({"ema": 0.9, "workers": 2}, 0, 8),
        ({"accumulate": 2, "clip_grad": 1.0, "class_weights": "balanced"}, 0, 5),
    ],
    ids=["averaged, two workers", "accumulated, weighted"],
)
def test_a_crashed_run_resumes_to_the_same_bits(tiny, tmp_path, changes, resumed_workers, stop):
    recipe = everything_random(tiny, **changes)
    straight, crashed = RunFolder(tmp_path / "straight"), RunFolder(tmp_path / "crashed")
    engine.train("digits", recipe, straight)
    with pytest.raises(ConnectionError):
        engine.train("digits", recipe, crashed, callbacks=[StopAt(stop)])
    assert measured(crashed) == measured(straight)[:1]
    record = read_record(crashed)
    fewer = dataclasses.replace(record.recipe, workers=resumed_workers)
    engine.resume(crashed, dataclasses.replace(record, recipe=fewer))
    assert measured(crashed) == measured(straight)
    assert same_bits(load_file(crashed.weights), load_file(straight.weights))
    for name in ("last.ckpt", "best.ckpt"):
        one, other = (
            torch.load(run.path / "checkpoints" / name, weights_only=True) for run in (straight, crashed)
        )
        assert same_bits(one, other)


class ScoresFall(Callback):
    """The score rises once and falls from then on."""

    def on_validation_end(self, trainer, pl_module):
        trainer.callback_metrics["val_accuracy"] = torch.tensor((0.5, 0.6, 0.4, 0.3)[trainer.current_epoch])


def test_patience_ends_a_training_and_a_resumed_one_at_the_same_epoch_with_the_same_bits(tiny, tmp_path):
    recipe = dataclasses.replace(tiny, epochs=5, patience=2, batch_size=512)
    straight, crashed = RunFolder(tmp_path / "straight"), RunFolder(tmp_path / "crashed")
    engine.train("digits", recipe, straight, callbacks=[ScoresFall()])
    assert [row["val_accuracy"] for row in read_metrics(straight)] == ["0.5", "0.6", "0.4", "0.3"]
    with pytest.raises(ConnectionError):
        engine.train("digits", recipe, crashed, callbacks=[ScoresFall(), StopAt(7)])
    assert len(read_metrics(crashed)) == 3
    engine.resume(crashed, read_record(crashed), callbacks=[ScoresFall()])
    assert measured(crashed) == measured(straight)
    assert same_bits(load_file(crashed.weights), load_file(straight.weights))
    for run in (straight, crashed):
        assert engine.is_finished(run, read_record(run))

    # Killed as it was about to end, it ends now, and trains no fifth epoch.
    engine.resume(crashed, read_record(crashed))
    assert measured(crashed) == measured(straight)


def test_patience_needs_a_score(tiny, tmp_path):
    recipe = dataclasses.replace(tiny, patience=2, val=0.0)
    with pytest.raises(RunError, match=r"^patience is 2 and there is no validation set to watch: give"):
        engine.train("digits", recipe, RunFolder(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_a_run_is_finished_when_the_checkpoint_of_its_last_epoch_is_written(tiny, copied, tmp_path):
    record = read_record(copied)
    assert record.epochs_before == 0
    assert engine.is_finished(copied, record)
    longer = dataclasses.replace(record, recipe=dataclasses.replace(record.recipe, epochs=3))
    assert not engine.is_finished(copied, longer)
    assert not engine.is_finished(copied, dataclasses.replace(record, epochs_before=None))
    checkpoint = torch.load(copied.last, weights_only=True)
    torch.save({**checkpoint, "epoch": 0}, copied.last)
    assert not engine.is_finished(copied, record)


def test_a_run_that_crashed_before_its_first_epoch_ended_starts_over(tiny, trained, tmp_path):
    run = RunFolder(tmp_path / "run")
    with pytest.raises(ConnectionError):
        engine.train("digits", tiny, run, callbacks=[StopAt(3)])
    engine.resume(run, read_record(run))
    assert measured(run) == measured(trained)
    assert same_bits(load_file(run.weights), load_file(trained.weights))


def test_resuming_a_finished_run_changes_nothing(copied):
    before = {path: path.read_bytes() for path in (copied.metrics, copied.last, copied.weights)}
    engine.resume(copied, read_record(copied))
    assert all(path.read_bytes() == content for path, content in before.items())


def test_every_epoch_has_an_order_of_its_own(tiny, tmp_path):
    seen = []

    class Watch(Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            if batch_idx == 0:
                seen.append(batch[1])

    engine.train("digits", tiny, RunFolder(tmp_path / "run"), callbacks=[Watch()])
    assert not torch.equal(*seen)


def test_the_seed_decides_the_result(tiny, trained, tmp_path):
    other = RunFolder(tmp_path / "other")
    engine.train("digits", dataclasses.replace(tiny, seed=1, epochs=1), other)
    assert measured(other)[0] != measured(trained)[0]


@pytest.mark.parametrize("val", [0.1, 0.0])
def test_with_an_average_it_is_the_average_that_is_validated_and_kept(tiny, tmp_path, val):
    run = RunFolder(tmp_path / "run")
    model = engine.train("digits", dataclasses.replace(tiny, ema=0.9, val=val), run)
    checkpoint = torch.load(run.last, weights_only=True)
    average, current = checkpoint["state_dict"], checkpoint["current_model_state"]
    kept = load_file(run.weights)
    assert all(torch.equal(kept[name], average[f"model.{name}"]) for name in kept)
    assert any(not torch.equal(kept[name], current[f"model.{name}"]) for name in kept)
    assert all(torch.equal(kept[name], tensor) for name, tensor in model.state_dict().items())
    assert json.loads(run.config.read_text())["crosshead"]["averaged"] is True


def test_a_loss_that_is_no_number_stops_the_run_and_keeps_what_was(tiny, tmp_path):
    run = RunFolder(tmp_path / "run")

    class Spoil(Callback):
        def on_train_batch_start(self, trainer, pl_module, *_):
            if trainer.global_step == 7:
                torch.nn.init.constant_(pl_module.model.head.fc.bias, float("nan"))

    message = (
        r"^the loss became nan at step 8 \(epoch 2\), learning rate \S+: train again with a lower --lr[^\n]*$"
    )
    with pytest.raises(NonFiniteLoss, match=message):
        engine.train("digits", tiny, run, callbacks=[Spoil()])
    assert len(measured(run)) == 1
    assert all(tensor.isfinite().all() for tensor in load_file(run.weights).values())
    assert torch.load(run.last, weights_only=True)["epoch"] == 0


def test_a_full_disk_leaves_the_last_checkpoint_whole(tiny, tmp_path, monkeypatch):
    run = RunFolder(tmp_path / "run")
    from crosshead.runs import checkpoints

    write, written = checkpoints.write_atomically, []

    def full(path, content):
        if path == run.last and written:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        written.append(path)
        write(path, content)

    monkeypatch.setattr(checkpoints, "write_atomically", full)
    with pytest.raises(OSError, match="No space left"):
        engine.train("digits", tiny, run)
    monkeypatch.undo()
    engine.resume(run, read_record(run))
    assert [row["epoch"] for row in measured(run)] == ["1", "2"]


def test_a_folder_in_use_is_refused_before_anything_is_loaded(tiny, copied, monkeypatch):
    monkeypatch.setattr(engine, "task_of", None)
    with pytest.raises(RunError, match="exists already"):
        engine.train("digits", tiny, copied)


def test_a_run_that_cannot_start_leaves_no_folder(tiny, tmp_path):
    for changes in ({"model": "nonsense"}, {"devices": 2000}, {"data": "folder"}, {"accelerator": "tpu"}):
        with pytest.raises(ValueError, match=r"\w"):
            engine.train("digits", dataclasses.replace(tiny, **changes), RunFolder(tmp_path / "run"))
        assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("step", [0, 1])
def test_a_training_whose_first_step_fails_leaves_no_folder(tiny, tmp_path, step):
    class Fail(Callback):
        def on_train_batch_start(self, trainer, *_):
            if trainer.global_step == step:
                raise ConnectionError("crashed")

    run = RunFolder(tmp_path / "runs" / "run")
    with pytest.raises(ConnectionError):
        engine.train("digits", tiny, run, callbacks=[Fail()])
    assert run.recipe.exists() == bool(step)
    assert run.path.parent.exists() == bool(step)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"devices": 2000}, "1295 training images do not fill 2000 devices: take fewer --devices"),
        ({"data": "fashion-mnist"}, "fashion-mnist needs the folder of its images: name it with --data-dir"),
        ({"data": "folder", "data_dir": "here", "download": True}, "classify cannot be downloaded"),
        ({"accelerator": "tpu"}, "accelerator=tpu devices=1 .* cannot be used"),
        ({"logger": "wandb"}, "pip install wandb"),
        ({"optimizer": "adamm"}, "optimizer adamm is unknown: did you mean adam"),
    ],
)
def test_what_cannot_start_is_refused_in_one_line(tiny, tmp_path, changes, message):
    from pathlib import Path

    if "data_dir" in changes:
        changes = {**changes, "data_dir": Path(changes["data_dir"])}
    with pytest.raises(ValueError, match=rf"^[^\n]*{message}[^\n]*$"):
        engine.train("digits", dataclasses.replace(tiny, **changes), RunFolder(tmp_path / "run"))


def test_batches_that_would_never_be_full_are_made_smaller(tiny, tmp_path, caplog):
    run = RunFolder(tmp_path / "run")
    engine.train("digits", dataclasses.replace(tiny, batch_size=5000, epochs=1), run)
    assert "1295 training images: batches of 323 in place of 5000" in caplog.text
    assert read_record(run).recipe.batch_size == 323
    assert read_metrics(run)[0]["step"] == "4"


def test_other_data_than_those_of_the_run_are_refused(copied):
    content = json.loads(copied.recipe.read_text())
    content["meta"]["classes"][0] = "zero"
    copied.recipe.write_text(json.dumps(content))
    with pytest.raises(RunError, match=r"the data are not those that .*--data-dir"):
        engine.resume(copied, read_record(copied))


def test_a_checkpoint_of_another_architecture_is_not_resumed(copied):
    content = json.loads(copied.recipe.read_text())
    content["recipe"]["model_args"]["dims"] = [8, 16, 16, 24]
    copied.recipe.write_text(json.dumps(content))
    with pytest.raises(RunError, match=r"last.ckpt belongs to another architecture than ivit_nano"):
        engine.resume(copied, read_record(copied))


def test_a_start_is_remembered_and_used(tiny, trained, tmp_path):
    run, reports = RunFolder(tmp_path / "run"), []
    recipe = dataclasses.replace(tiny, epochs=1, lr=0.0)
    engine.train("digits", recipe, run, start=trained.path, report=reports.append)
    assert same_bits(load_file(run.weights), load_file(trained.weights))
    assert read_record(run).start == str(trained.path.resolve())
    assert reports[0].missing == ()


def test_a_start_is_taken_again_where_the_first_epoch_did_not_end(tiny, trained, tmp_path):
    run, recipe = RunFolder(tmp_path / "run"), dataclasses.replace(tiny, epochs=1, lr=0.0)
    with pytest.raises(ConnectionError):
        engine.train("digits", recipe, run, start=trained.path, callbacks=[StopAt(2)])
    engine.resume(run, read_record(run))
    assert same_bits(load_file(run.weights), load_file(trained.weights))


def test_without_a_validation_set_all_is_trained_on_and_no_epoch_is_the_best(tiny, tmp_path):
    run = RunFolder(tmp_path / "run")
    recipe = dataclasses.replace(tiny, val=0.0, batch_size=128)
    engine.train("digits", recipe, run)
    rows = read_metrics(run)
    assert not any(name.startswith("val_") for name in rows[0])
    assert [int(row["step"]) for row in rows] == [11, 22]
    assert run.weights.exists()
    assert run.last.exists()
    assert not run.best.exists()
    assert run.curves.stat().st_size > 10_000
    with pytest.raises(RunError, match="has no best epoch: it was trained without a validation set"):
        load_run(run, best=True)


def test_the_test_set_is_not_read_before_an_evaluation(tiny, tmp_path, monkeypatch):
    class Untouchable(Dataset):
        def __len__(self) -> int:
            raise AssertionError("the test set was looked at")

        __getitem__ = __len__  # pyright: ignore[reportAssignmentType]

    task = task_of("classify")
    loaded = task.data
    monkeypatch.setattr(task, "data", lambda recipe: dataclasses.replace(loaded(recipe), test=Untouchable()))
    run = RunFolder(tmp_path / "run")
    engine.train("digits", tiny, run)
    with pytest.raises(AssertionError, match="looked at"):
        evaluate(run)


@pytest.mark.parametrize(
    "edit",
    [
        lambda state: state.update(optimizer_states=[]),
        lambda state: state.update(optimizer_states="none"),
        lambda state: state.update(loops={"fit_loop": 3}),
        lambda state: state.update(loops=[]),
        lambda state: state.update(callbacks=7),
        lambda state: state.update(epoch="two"),
        lambda state: state.update(lr_schedulers=[{}]),
        lambda state: state.update(state_dict={"w": 1}),
    ],
)
def test_an_edited_checkpoint_is_refused_in_one_line(copied, edit):
    state = torch.load(copied.last, weights_only=True)
    edit(state)
    torch.save(state, copied.last)
    record = read_record(copied)
    longer = dataclasses.replace(record, recipe=dataclasses.replace(record.recipe, epochs=3))
    told = ""
    try:  # some edits leave a checkpoint that can be used
        engine.resume(copied, longer)
    except RunError as error:
        told = str(error)
    assert "\n" not in told
    assert told == "" or told.startswith(str(copied.last))
    assert bool(told) != (len(read_metrics(copied)) == 3)


def test_several_machines_without_a_launcher_are_refused(tiny, tmp_path):
    with pytest.raises(RunError, match="nodes must be 1 where nothing has started the others; got 2"):
        engine.train("digits", dataclasses.replace(tiny, nodes=2), RunFolder(tmp_path / "run"))
