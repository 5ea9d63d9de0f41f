"""The command line, called in this process, and one small run made by it."""

import contextlib
import dataclasses
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from crosshead.tasks.task import Data, task_of

TINY = [
    *("--model-args", "depths=[1,1,1,1]", "dims=[8,16,16,16]", "head_dim=8"),
    *("--epochs", "2", "--batch-size", "256", "--threads", "1", "--accelerator", "cpu"),
]


@dataclass(frozen=True)
class Answer:
    """What a command left behind: exit code and what it printed."""

    code: int
    out: str
    err: str


Command = Callable[..., Answer]


@pytest.fixture
def crosshead(command_line, capfd, monkeypatch, tmp_path) -> Command:
    """Runs a command in an empty folder: `crosshead("train", "digits")`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(logging, "basicConfig", lambda **_: None)

    def run(*arguments: str | Path) -> Answer:
        capfd.readouterr()
        code = command_line(*arguments)
        captured = capfd.readouterr()
        return Answer(code, captured.out, captured.err)

    return run


@pytest.fixture(scope="session")
def tiny_flags() -> list[str]:
    return TINY


@pytest.fixture(scope="session")
def trained(command_line, tmp_path_factory) -> Path:
    """The folder of a finished run, not to be changed."""
    threads, folder = torch.get_num_threads(), tmp_path_factory.mktemp("cli")
    with contextlib.chdir(folder):
        assert command_line("train", "digits", *TINY) == 0
    torch.set_num_threads(threads)
    return folder / "runs" / "digits-1"


@pytest.fixture
def digit(tmp_path) -> Path:
    """A picture of a digit."""
    from crosshead.tasks.classify.data import load_digits

    image, _ = load_digits().test[0]
    image.save(tmp_path / "digit.png")
    return tmp_path / "digit.png"


@pytest.fixture
def val_for_test(monkeypatch) -> None:
    """Evaluations are given the validation set in place of the test set."""
    for name in ("classify", "segment", "detect", "change"):
        task = task_of(name)

        def data(recipe: Any, loaded: Callable = task.data) -> Data:
            found = loaded(recipe)
            return dataclasses.replace(found, test=found.val)

        monkeypatch.setattr(task, "data", data)
