import os
import pickle
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from crosshead.runs.checkpoints import (
    AtomicCheckpointIO,
    Checkpoints,
    read_checkpoint,
    require_same_tensors,
)
from crosshead.runs.folder import RunError, RunFolder
from crosshead.tasks.classify.module import Classifier

GOOD = {"state_dict": {"w": torch.ones(2)}, "epoch": 1, "loops": {}}


class Hostile:
    """Runs a command when it is unpickled."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


def test_a_checkpoint_comes_back_as_it_was(tmp_path):
    path = tmp_path / "checkpoints" / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint(GOOD, path)
    read = AtomicCheckpointIO().load_checkpoint(path)
    assert torch.equal(read["state_dict"]["w"], torch.ones(2))
    assert [file.name for file in path.parent.iterdir()] == ["last.ckpt"]


class Recorder:
    """A trainer that only notes which checkpoints it is asked for."""

    def __init__(self) -> None:
        self.callback_metrics = {}
        self.current_epoch, self.check_val_every_n_epoch = 0, 1
        self.datamodule = SimpleNamespace(val="images")
        self.saved = []

    def save_checkpoint(self, path, **_):
        self.saved.append(path.stem)

    def finish_epoch(self, callback, accuracy: float) -> list[str]:
        self.callback_metrics["val_accuracy"] = torch.tensor(accuracy)
        self.saved.clear()
        callback.on_train_epoch_end(self, Classifier(torch.nn.Identity(), num_classes=2))
        return list(self.saved)


def test_the_best_epoch_is_remembered_across_an_interruption(tmp_path):
    trainer, before, after = Recorder(), Checkpoints(RunFolder(tmp_path)), Checkpoints(RunFolder(tmp_path))
    assert trainer.finish_epoch(before, 0.5) == ["best", "last"]
    assert trainer.finish_epoch(before, 0.4) == ["last"]
    after.load_state_dict(before.state_dict())
    assert trainer.finish_epoch(after, 0.45) == ["last"]
    assert trainer.finish_epoch(after, 0.6) == ["best", "last"]


def test_an_epoch_with_nothing_to_measure_is_better_than_none_and_worse_than_any(tmp_path):
    trainer, checkpoints = Recorder(), Checkpoints(RunFolder(tmp_path))
    assert trainer.finish_epoch(checkpoints, float("nan")) == ["best", "last"]
    assert trainer.finish_epoch(checkpoints, float("nan")) == ["last"]
    assert trainer.finish_epoch(checkpoints, 0.0) == ["best", "last"]


@pytest.mark.parametrize("as_torch_file", [True, False])
def test_a_hostile_checkpoint_is_refused_and_does_not_run(tmp_path, as_torch_file):
    path, evidence = tmp_path / "last.ckpt", tmp_path / "evidence"
    content = {**GOOD, "callbacks": Hostile(f"touch {evidence}")}
    if as_torch_file:
        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps(content))
    for read in (read_checkpoint, AtomicCheckpointIO().load_checkpoint):
        with pytest.raises(RunError, match=rf"^{path} is (refused|damaged)[^\n]*$"):
            read(path)
    assert not evidence.exists()
    # The file is really hostile: an ordinary unpickler falls for it.
    torch.load(path, weights_only=False) if as_torch_file else pickle.loads(path.read_bytes())
    assert evidence.exists()


def test_a_module_in_a_checkpoint_is_refused_too(tmp_path):
    torch.save({**GOOD, "model": nn.Linear(2, 2)}, tmp_path / "last.ckpt")
    with pytest.raises(RunError, match="objects that loading would run"):
        read_checkpoint(tmp_path / "last.ckpt")


@pytest.mark.parametrize("damage", [b"", b"nonsense", "half", "middle"])
def test_a_damaged_checkpoint_is_refused_in_one_line(tmp_path, damage):
    path = tmp_path / "last.ckpt"
    torch.save({**GOOD, "state_dict": {"w": torch.randn(10_000)}}, path)
    whole = path.read_bytes()
    if damage == "half":
        damage = whole[: len(whole) // 2]
    elif damage == "middle":
        damage = whole[:64] + bytes(256) + whole[320:]
    path.write_bytes(damage)
    with pytest.raises(RunError, match=rf"^{path} is (damaged|refused: it is not a checkpoint)[^\n]*$"):
        read_checkpoint(path)


def test_a_missing_checkpoint_and_a_file_of_something_else_are_refused(tmp_path):
    with pytest.raises(RunError, match="has not finished an epoch"):
        read_checkpoint(tmp_path / "last.ckpt")
    torch.save({"w": torch.ones(1)}, tmp_path / "other.ckpt")
    with pytest.raises(RunError, match="is not a checkpoint of a training"):
        read_checkpoint(tmp_path / "other.ckpt")


@pytest.mark.parametrize(
    ("found", "difference"),
    [
        ({"a": torch.ones(2)}, "it lacks b"),
        ({"a": torch.ones(2), "b": torch.ones(3), "c": torch.ones(1)}, "it has c, which the model lacks"),
        ({"a": torch.ones(2), "b": torch.ones(4)}, r"b is \(4,\) there and \(3,\) in the model"),
    ],
)
def test_weights_of_another_architecture_are_told_apart(tmp_path, found, difference):
    expected = {"a": torch.zeros(2), "b": torch.zeros(3)}
    require_same_tensors(dict(expected), expected, path=tmp_path, model="net")
    with pytest.raises(RunError, match=f"another architecture than net: {difference}"):
        require_same_tensors(found, expected, path=tmp_path, model="net")
